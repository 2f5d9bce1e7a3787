"""TPR at an FPR and PPV against closed forms, counts by hand, and their own stated coverage."""

import numpy as np
import pytest
from scipy.stats import norm

from tckr.metrics import clopper_pearson, ppv, roc, tpr_at_fpr
from tckr.metrics.rates import worth_of


@pytest.mark.parametrize(
    ("mu", "fpr"), [(0.0, 0.02), (0.5, 0.02), (1.0, 0.02), (2.0, 0.02), (2.0, 0.05)]
)
def test_interval_covers_the_closed_form(shifted, mu: float, fpr: float):
    random, repeats = np.random.default_rng(7), 1000
    truth = norm.cdf(mu - norm.ppf(1 - fpr))
    covered, values = 0, []
    for _ in range(repeats):
        estimate = tpr_at_fpr(*shifted(random, mu, 600, 600), fpr)
        covered += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.realised_fpr <= fpr
    assert covered / repeats >= 0.94  # conservative: four bounds share the error
    assert np.mean(values) == pytest.approx(truth, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("mu", "fpr"), [(0.5, 0.05), (1.0, 0.05), (2.0, 0.05)])
def test_clustered_interval_covers_the_closed_form(clustered, mu: float, fpr: float):
    random, repeats, covered = np.random.default_rng(1), 1000, 0
    truth = norm.cdf(mu - norm.ppf(1 - fpr))
    for _ in range(repeats):
        scores, flags, clusters = clustered(random, mu, 150, 4)
        estimate = tpr_at_fpr(scores, flags, fpr, 0.95, clusters)
        covered += estimate.low <= truth <= estimate.high
    assert covered / repeats >= 0.93


@pytest.mark.parametrize(
    ("own", "truth", "measurable"),
    [(0.0, 0.092, True), (0.3, 0.092, True), (0.3, 0.75, True), (0.6, 0.092, False)],
)
def test_canaries_over_shadows(own: float, truth: float, measurable: bool):
    """100 examples in 64 runs, which agree in a share `own` of the variance: whether 1 % is measurable is no matter of luck."""
    random, repeats, covered = np.random.default_rng(7), 100, 0
    clusters, flags = np.repeat(np.arange(100), 64), np.tile(np.arange(64) < 32, 100)
    leak = norm.isf(0.01) - norm.isf(truth)
    found = 0
    for _ in range(repeats):
        common = random.normal(size=100)[clusters]
        noise = random.normal(size=len(flags))
        scores = leak * flags + np.sqrt(own) * common + np.sqrt(1 - own) * noise
        estimate = tpr_at_fpr(scores, flags, 0.01, 0.95, clusters)
        found += estimate.measurable
        covered += estimate.low <= truth <= estimate.high
    assert found >= 0.98 * repeats if measurable else found <= 0.02 * repeats
    assert covered / repeats >= 0.95


def test_clustered_interval_holds_its_own_figure():
    random = np.random.default_rng(0)
    for _ in range(200):
        scores, flags = random.integers(0, 3, 40), random.permutation(np.arange(40) < 20)
        clusters = random.integers(0, 6, 40)
        estimate = tpr_at_fpr(scores, flags, 0.3, 0.95, clusters)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_circular_roc():
    """TPR = sqrt(1 - (1 - FPR)^2)."""
    rates = (np.arange(4000) + 0.5) / 4000
    scores, flags = np.concatenate([np.sqrt(1 - rates**2), 1 - rates]), np.arange(8000) < 4000
    assert tpr_at_fpr(scores, flags, 0.1).value == pytest.approx(np.sqrt(1 - 0.9**2), abs=1e-3)
    false, true = roc(scores, flags)
    assert np.abs(true - np.sqrt(1 - (1 - false) ** 2)).max() < 0.02


def test_perfect_and_worst_roc():
    scores, flags = np.arange(2000), np.arange(2000) >= 1000
    examples = np.arange(2000) % 500
    for clusters, units in ((None, 1000), (examples, 500)):
        best = tpr_at_fpr(scores, flags, 0.01, clusters=clusters)
        worst = tpr_at_fpr(scores, ~flags, 0.01, clusters=clusters)
        assert (best.value, best.high, worst.value, worst.low) == (1, 1, 0, 0)
        assert 1 - 6 / units < best.low < 1
        assert 0 < worst.high < 6 / units
    false, true = roc(scores, flags)
    assert true[false == 0].max() == 1


def test_counts_by_hand():
    scores = np.concatenate([np.arange(100), np.full(10, 97.5)])
    flags = np.arange(110) >= 100
    estimate = tpr_at_fpr(scores, flags, 0.02)
    assert (estimate.false_positives, estimate.realised_fpr) == (2, 0.02)
    assert (estimate.true_positives, estimate.value) == (10, 1.0)


def test_tied_non_members_are_rejected_together():
    scores, flags = np.array([5, 5, 5, 1, 5, 6]), np.array([0, 0, 0, 0, 1, 1], dtype=bool)
    estimate = tpr_at_fpr(scores, flags, 0.5)
    assert (estimate.false_positives, estimate.true_positives) == (0, 1)
    assert estimate.realised_fpr == 0


def test_too_few_non_members_are_not_measurable(shifted):
    scores, flags = shifted(np.random.default_rng(0), 1.0, 3000, 3000)
    one, tenth = tpr_at_fpr(scores, flags, 0.01), tpr_at_fpr(scores, flags, 0.001)
    assert one.measurable
    assert one.note == ""
    assert tenth.note == "not measurable with 3,000 non-members"
    assert tenth.to_dict()["value"] is None
    assert ppv(tenth, 0.1).to_dict()["value"] is None
    assert ppv(tenth, 0.1).note == tenth.note
    assert tpr_at_fpr(scores, flags, 10 / 3000).measurable


def test_many_scores_of_few_examples_are_not_measurable():
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 60)
    flags = np.tile(np.arange(60) < 30, 50)
    loud = random.normal(size=50)[clusters] * 100 + random.normal(size=3000)
    estimate = tpr_at_fpr(loud, flags, 0.01, clusters=clusters)
    assert estimate.false_positives == 15
    assert estimate.note == "not measurable with 1,500 non-members of 50 examples"
    assert tpr_at_fpr(random.normal(size=3000), flags, 0.01, clusters=clusters).measurable


@pytest.mark.parametrize(("prior", "value"), [(0.01, 0.0917), (0.1, 0.5263), (0.5, 0.9091)])
def test_ppv_by_hand(prior: float, value: float):
    """100 members and 1,000 non-members, of which 10 % and 1 % pass."""
    scores = np.concatenate([np.repeat([2, 0], [10, 90]), np.repeat([3, 1], [10, 990])])
    rate = tpr_at_fpr(scores, np.arange(1100) < 100, 0.01)
    assert (rate.true_positives, rate.false_positives) == (10, 10)
    estimate = ppv(rate, prior)
    assert estimate.value == pytest.approx(value, abs=1e-4)
    tpr, fpr = clopper_pearson(10, 100, 0.975), clopper_pearson(10, 1000, 0.975)
    odds = prior / (1 - prior)
    assert estimate.low / (1 - estimate.low) == pytest.approx(odds * tpr[0] / fpr[1])
    assert estimate.high / (1 - estimate.high) == pytest.approx(odds * tpr[1] / fpr[0])


def test_ppv_interval_covers_that_of_the_threshold(shifted):
    random, repeats, covered, prior = np.random.default_rng(3), 1000, 0, 0.1
    for _ in range(repeats):
        scores, flags = shifted(random, 1.0, 400, 400)
        estimate = ppv(tpr_at_fpr(scores, flags, 0.05), prior)
        cut = np.sort(scores[~flags])[-21]
        tpr, fpr = norm.sf(cut - 1), norm.sf(cut)
        truth = prior * tpr / (prior * tpr + (1 - prior) * fpr)
        covered += estimate.low <= truth <= estimate.high
    assert covered / repeats >= 0.95


def test_ppv_of_clusters_is_at_the_nominal_rate(clustered):
    scores, flags, clusters = clustered(np.random.default_rng(0), 1.0, 200, 4)
    rate = tpr_at_fpr(scores, flags, 0.05, clusters=clusters)
    estimate = ppv(rate, 0.5)
    assert estimate.low == pytest.approx(rate.low / (rate.low + 0.05))
    assert estimate.high == pytest.approx(rate.high / (rate.high + 0.05))
    assert estimate.low < estimate.value < estimate.high


def test_ppv_of_an_attack_that_calls_nobody_is_no_figure():
    rate = tpr_at_fpr(np.ones(3000), np.arange(3000) < 1000, 0.01)
    estimate = ppv(rate, 0.1)
    assert np.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0, 1)
    assert estimate.to_dict()["value"] is None


@pytest.mark.parametrize("share", [0.0, 1.0, 5.0])
def test_refuses_shares_out_of_range(shifted, share: float):
    scores, flags = shifted(np.random.default_rng(0), 1.0, 50, 50)
    with pytest.raises(ValueError, match="must lie in"):
        tpr_at_fpr(scores, flags, share)
    with pytest.raises(ValueError, match="must lie in"):
        ppv(tpr_at_fpr(scores, flags, 0.1), share)


def test_scores_of_clusters_that_are_all_equal_find_nobody():
    """Such as those of a teacher that was not trained, where a person has several images."""
    found = tpr_at_fpr(np.zeros(40), np.arange(40) < 20, 0.1, clusters=np.arange(40) // 2)
    assert (found.value, found.false_positives) == (0.0, 0)
    assert found.low == 0
    assert worth_of(np.zeros(20), np.arange(20) // 2, 0.1) == pytest.approx(1.0, rel=1e-2)
