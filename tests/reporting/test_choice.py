"""The choice in words and as a picture."""

import pandas as pd

from tckr.reporting.choice import draw_choice, say_choice
from tckr.synthesizers.choice import COLUMNS


def students(*rows: dict[str, object]) -> pd.DataFrame:
    plain = {"share": 0.25, "accuracy": 80.0, "loss": 0.5, "seconds": 30.0, "state": "complete"}
    return pd.DataFrame([{**dict.fromkeys(COLUMNS), **plain, **row} for row in rows])


SNAPSHOTS = [
    {"part": "snapshot", "round": 0, "snapshot": n, "steps": 50 * (n + 1), "images": 100}
    for n in range(2)
]
TRIALS = [
    {"part": "tuning", "round": r, "trial": t, "images": 50 * (r + 1), "state": state}
    for t, state, rounds in ((0, "complete", 3), (1, "pruned", 1))
    for r in range(rounds)
]


def test_choice_and_cost_are_said() -> None:
    choice = {
        "snapshot": 1,
        "sampling": {"guidance_scale": 1.25},
        "filter": {"threshold": None},
    }
    first, second, cost = say_choice(choice, students(*SNAPSHOTS, *TRIALS))
    assert first == "Snapshot 1 of the generator was sampled, chosen of 2 by successive halving."
    assert second == (
        "The best of 2 ways to sample (1 given up early): guidance_scale 1.25, no filter."
    )
    assert cost.startswith("6 short students, 550 images, 3.0 minutes;")


def test_own_sampling_that_stays_although_another_was_a_little_better_is_said() -> None:
    rows = [
        {**TRIALS[2], "state": "chosen", "accuracy": 80.0},
        {**TRIALS[2], "trial": 1, "state": "complete", "accuracy": 80.4},
    ]
    said, _ = say_choice({"snapshot": None, "sampling": {"guidance_scale": 1.0}}, students(*rows))
    assert said == (
        "None of 2 ways to sample (0 given up early) was better beyond noise than the arm's own: guidance_scale 1."
    )
    rows[0]["accuracy"] = 80.4
    said, _ = say_choice({"snapshot": None, "sampling": {"guidance_scale": 1.0}}, students(*rows))
    assert said.startswith("The best of 2 ways")


def test_each_part_has_a_panel_and_no_choice_a_notice() -> None:
    one = draw_choice(students(*SNAPSHOTS))
    both = draw_choice(students(*SNAPSHOTS, *TRIALS))
    nothing = draw_choice(pd.DataFrame(columns=COLUMNS))
    assert nothing.height < one.height
    assert both.width > 1.5 * one.width
