"""Successive halving finds the best candidate, and spends what the paper says."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tckr.synthesizers.choice import halved
from tckr.synthesizers.students import Score


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(2, 4))
def test_the_best_wins_where_scores_stay_and_the_earlier_of_equals(
    accuracies: list[int], reduction: int
) -> None:
    asked: list[tuple[int, int]] = []

    def scores(alive: list[int], turn: int) -> list[Score]:
        asked.extend((each, turn) for each in alive)
        return [Score(accuracies[each], 0.0, 1, 1.0) for each in alive]

    winner, rounds = halved(range(len(accuracies)), scores, reduction)
    assert winner == accuracies.index(max(accuracies))
    assert len(asked) == len(set(asked)) == sum(map(len, rounds))
    for more, fewer in pairwise(rounds):
        assert len(fewer) == -(-len(more) // reduction)
        assert set(fewer) <= set(more)


def test_equal_accuracies_are_told_apart_by_their_loss() -> None:
    losses = [0.5, 0.2, 0.9]
    winner, _ = halved([0, 1, 2], lambda some, _: [Score(80.0, losses[c], 1, 1.0) for c in some], 2)
    assert winner == 1


def test_a_single_candidate_needs_no_student() -> None:
    def never(alive: list[int], turn: int) -> list[Score]:
        raise AssertionError

    assert halved([4], never, 2) == (4, [])
