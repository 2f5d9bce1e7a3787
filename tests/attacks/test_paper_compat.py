"""The published protocol, defects included."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.attacks import paper_compat, paper_compat_score
from tckr.errors import UserError

LABELS = np.array([0, 1, 2, 1])


@pytest.fixture
def logits():
    random = np.random.default_rng(0)
    return (
        random.normal(0, 2, (4, 3)),
        random.normal(0, 2, (5, 4, 3)),
        random.normal(0, 2, (6, 4, 3)),
    )


def score(kind: str, z: np.ndarray, y: int) -> float:
    """One logit vector, as the notebook scores it: logits clipped as if they were probabilities."""
    p = [min(max(value, 1e-10), 1 - 1e-10) for value in z]
    if kind == "logit_stable":
        return np.log(p[y]) - np.log(sum(value for i, value in enumerate(p) if i != y))
    if kind == "logit_unstable":
        return np.log(p[y]) - np.log(1 - p[y])
    return z[y] - max(value for i, value in enumerate(z) if i != y)


@pytest.mark.parametrize("kind", ["logit_stable", "logit_unstable", "logits"])
def test_the_scores_are_the_notebooks(logits, kind: str):
    target, ins, outs = logits
    ours = paper_compat(target, LABELS, ins, outs)
    a, b = (
        np.array([[score(kind, z, y) for z, y in zip(one, LABELS, strict=True)] for one in shadows])
        for shadows in (ins, outs)
    )
    for i, (z, y) in enumerate(zip(target, LABELS, strict=True)):
        x = score(kind, z, y)
        pooled = norm(a.mean(), a.std(ddof=1)).logpdf(x) - norm(b.mean(), b.std(ddof=1)).logpdf(x)
        assert ours[f"online {kind} global"][i] == pytest.approx(pooled)
        alone = -((x - b[:, i].mean()) ** 2) / (2 * b[:, i].var())
        assert ours[f"offline {kind} per_example"][i] == pytest.approx(alone)
        own = norm(a[:, i].mean(), a[:, i].std()).logpdf(x)
        own -= norm(b[:, i].mean(), b[:, i].std()).logpdf(x)
        assert ours[f"online {kind} per_example"][i] == pytest.approx(own)


def test_twelve_scores_that_stay_finite_where_clipping_saturates(logits):
    target, ins, outs = (50 * values for values in logits)
    ours = paper_compat(target, LABELS, ins, outs)
    assert len(ours) == 12
    assert all(np.isfinite(values).all() and values.shape == (4,) for values in ours.values())
    # Two of three scores see nothing of a sure model but the signs of its logits.
    assert len(set(ours["online logit_unstable global"])) <= 2


def test_offline_is_two_sided(logits):
    """Far above is as suspicious as far below: the defect that is kept."""
    _, ins, outs = logits
    far = 1000 * np.eye(3)[LABELS]
    for wrong in (far, -far):
        assert (paper_compat(wrong, LABELS, ins, outs)["offline logits global"] < -1000).all()


def test_the_pipelines_score_is_one_function_of_the_confidence(small):
    ours = paper_compat_score(small.target_scores, small.shadow_scores, small.membership)
    a, b = small.shadow_scores[small.membership], small.shadow_scores[~small.membership]
    inside, outside = (norm(side.mean(), side.std(ddof=1)) for side in (a, b))
    np.testing.assert_allclose(
        ours, inside.logpdf(small.target_scores) - outside.logpdf(small.target_scores)
    )
    same = paper_compat_score(np.full(3, 0.7), small.shadow_scores, small.membership)
    assert same[0] == same[1] == same[2]


def test_bad_input(logits):
    target, ins, outs = logits
    for wrong in (
        (target, LABELS[:3], ins, outs),
        (target, LABELS, ins[:, :3], outs),
        (target, LABELS, ins, outs[:0]),
    ):
        with pytest.raises(UserError, match="do not fit"):
            paper_compat(*wrong)
    with pytest.raises(UserError, match="NaN"):
        paper_compat(target * np.nan, LABELS, ins, outs)
