"""The table of arms: what was measured, what is proven, and what has to be said of both."""

import math

import pytest
from scipy.special import ndtr

from compared import result, spent
from tckr.audit.comparison import compare, remarks
from tckr.dp import epsilon_of_mu


def test_an_arm_with_a_ledger_has_its_bound_and_the_others_that_of_no_proof() -> None:
    table = compare(
        [result("tckr", 85.0, 0.5), result("private", 82.0, 0.1, spent(2.0))], teacher_seconds=30
    )

    assert table["arm"].tolist() == ["teacher", "tckr", "private"]
    assert table["accuracy"].tolist() == [90.0, 85.0, 82.0]
    assert table["epsilon"].tolist()[:2] == [math.inf] * 2
    assert table["epsilon"][2] == pytest.approx(epsilon_of_mu(2.0, 1e-5))
    assert (table["delta"][2], table["mu"][2]) == (1e-5, pytest.approx(2.0))
    # A Gaussian mechanism's largest AUC is Phi(mu / sqrt 2).
    bound = ndtr(2.0 / math.sqrt(2))
    assert table["AUC_MIA_bound"].tolist() == [100, 100, pytest.approx(100 * bound)]
    certified = [90 / 4, 85 / 4, pytest.approx(82 / (2 * bound) ** 2)]
    assert table["aop_certified"].tolist() == certified
    assert table["minutes"].tolist() == [0.5, 2.0, 2.0]
    for row in table.to_dict("records"):
        assert row["AUC_MIA_low"] < row["AUC_MIA"] < row["AUC_MIA_high"]
        aop = row["accuracy"] / max(row["AUC_MIA"] / 50, 1) ** 2
        assert row["AOP"] == pytest.approx(aop)
        assert row["aop_certified"] < row["AOP"]


def test_a_private_teacher_is_no_reference_for_the_others() -> None:
    assert compare([result("private", ledger=spent(1.0))])["arm"].tolist() == ["private"]


def test_noise_from_a_seed_proves_nothing() -> None:
    seeded = result("private", ledger=spent(1.0, seed=0))

    assert compare([seeded])["epsilon"].tolist() == [math.inf]
    assert compare([seeded])["AUC_MIA_bound"].tolist() == [100.0]
    assert any("its noise came from a seed" in line for line in remarks([seeded]))


def test_what_two_arms_spend_on_one_private_set_adds_up_as_squares() -> None:
    arms = [
        result("tckr"),
        result("private", ledger=spent(0.6)),
        result("privimage", ledger=spent(0.8)),
    ]
    (line,) = [line for line in remarks(arms) if "adds up" in line]

    assert "private and privimage" in line
    assert "mu in squares (private 0.60, privimage 0.80), together mu 1.00" in line
    assert f"epsilon {epsilon_of_mu(1.0, 1e-5):.3g}" in line
    assert any(line.startswith("tckr: epsilon is infinity") for line in remarks(arms))
    assert any("has no guarantee" in line for line in remarks(arms))
    assert not any("adds up" in line for line in remarks(arms[:2]))
    assert not any("has no guarantee" in line for line in remarks(arms[1:]))


def test_arms_with_different_numbers_of_shadows_do_not_compare() -> None:
    arms = [result("tckr"), result("unadapted", shadows=4)]

    assert any("(tckr 8, unadapted 4)" in line for line in remarks(arms))
    assert not any("shadows" in line for line in remarks(arms[:1]))
