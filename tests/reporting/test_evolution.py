"""Pictures of an evolution: which candidates are shown, and that they are drawn."""

import pandas as pd
import torch

from tckr.reporting.evolution import ITERATIONS, best_candidates, best_prompts, distance_curve


def generations(iterations: int) -> pd.DataFrame:
    rows = [
        (turn, label, name, f"{name}: prompt {turn} {rank}", 10 * turn - rank, rank)
        for turn in range(1, iterations + 1)
        for label, name in enumerate(("bag", "boot"))
        for rank in (-1, 1, 0)
    ]
    return pd.DataFrame(
        rows, columns=["iteration", "label", "class_name", "prompt", "votes", "rank"]
    )


def test_the_best_of_every_class_in_a_few_iterations_are_shown_the_first_and_last_among_them() -> (
    None
):
    few = best_candidates(generations(3))
    assert few["iteration"].tolist() == [1, 2, 3, 1, 2, 3]
    assert (few["rank"] == 0).all()
    many = best_candidates(generations(21))
    assert many["iteration"].nunique() == ITERATIONS
    assert {1, 21} <= set(many["iteration"])


def test_pictures_grow_with_what_they_show() -> None:
    chosen = best_candidates(generations(2))
    images = torch.zeros(len(chosen), 1, 8, 8, dtype=torch.uint8)
    two = best_prompts(chosen, images)
    one = best_prompts(chosen[chosen["iteration"] == 1], images[:2])
    assert two.width > one.width
    table = pd.DataFrame({"iteration": [0, 1, 2], "distance": [0.5, 0.3, -0.1]})
    assert (
        distance_curve(table).tobytes() != distance_curve(table.assign(true_distance=0.6)).tobytes()
    )
