"""What holds for every attack: leaks ranked right, bad input refused, examples treated alike."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tckr.attacks.registry import ATTACKS, scores
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.errors import UserError
from tckr.metrics import auc

SHADOWED = [name for name, attack in ATTACKS.items() if attack.needs_shadows]
OFFLINE = [name for name in ATTACKS if name.endswith("_offline")]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_planted_leak_is_ranked_right(name: str):
    """The more of the members are memorised, the larger the AUC; none gives 0.5."""
    random = np.random.default_rng(0)
    n = 4000
    hardness = random.normal(0, 1, n)
    membership = membership_matrix(n, 16, 0.5, 0)
    is_member = np.arange(n) < n // 2
    areas = []
    for fraction in (0.0, 0.1, 1.0):
        memorised = random.random(n) < fraction

        def model(inside: np.ndarray, memorised: np.ndarray = memorised) -> np.ndarray:
            return hardness + random.normal(0, 1, n) + 2.0 * (inside & memorised)

        found = scores(
            name,
            model(is_member),
            np.stack([model(row) for row in membership]),
            membership,
            variance="global",
            features=np.stack([hardness, random.normal(0, 1, n)], axis=1),
            reference=~is_member,
        )
        areas.append(auc(found, is_member))
    assert areas[0].low < 0.5 < areas[0].high
    assert areas[0].value < areas[1].value < areas[2].value
    assert areas[2].low > 0.7


@pytest.mark.parametrize("name", SHADOWED)
def test_bad_arrays_are_refused(small, name: str):
    target, shadow, inside = small.target_scores, small.shadow_scores, small.membership
    for arrays, message in (
        ((target * np.nan, shadow, inside), "NaN"),
        ((target, np.where(inside, np.inf, shadow), inside), "NaN"),
        ((target, shadow[:, :2], inside), "do not fit"),
        ((target[:2], shadow, inside), "do not fit"),
        ((target, shadow, inside[:3]), "do not fit"),
        ((target[:, None], shadow, inside), "do not fit"),
        ((target, shadow[:1], inside[:1]), "shadow"),
    ):
        with pytest.raises(UserError, match=message):
            scores(name, *arrays, variance="per_example")


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_reads_no_in_score(small, name: str):
    changed = np.where(small.membership, 99.0, small.shadow_scores)
    one, other = (
        scores(name, small.target_scores, shadow, small.membership, variance="per_example")
        for shadow in (small.shadow_scores, changed)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ATTACKS)
def test_queries_are_averaged(name: str):
    """Equal queries change nothing; different ones each count as much as the other."""
    random = np.random.default_rng(0)
    n, inside = 120, membership_matrix(120, 6, 0.5, 0)
    target, shadow = random.normal(0, 1, (n, 2)), random.normal(0, 1, (6, n, 2))
    more = {"features": random.normal(0, 1, (n, 3)), "reference": np.arange(n) % 2 == 0}

    def attack(target, shadow):
        return scores(name, target, shadow, inside, variance="per_example", **more)

    first, second = (attack(target[:, q], shadow[:, :, q]) for q in (0, 1))
    np.testing.assert_allclose(attack(target, shadow), (first + second) / 2)
    twice = attack(target[:, [0, 0]], shadow[:, :, [0, 0]])
    np.testing.assert_allclose(twice, first)


# QMIA stands apart: which examples share a fold depends on their order.
@given(
    name=st.sampled_from([name for name in ATTACKS if name != "qmia"]),
    n=st.integers(2, 20),
    n_shadows=st.sampled_from([4, 6, 8]),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=150)
def test_the_order_of_examples_and_shadows_does_not_matter(name, n, n_shadows, seed):
    random = np.random.default_rng(seed)
    inside = membership_matrix(n, n_shadows, 0.5, seed)
    target, shadow = random.normal(2, 3, n), random.normal(2, 3, (n_shadows, n))
    examples, rows = random.permutation(n), random.permutation(n_shadows)
    whole = scores(name, target, shadow, inside, variance="per_example")
    moved = scores(
        name,
        target[examples],
        shadow[rows][:, examples],
        inside[rows][:, examples],
        variance="per_example",
    )
    np.testing.assert_allclose(moved, whole[examples], rtol=1e-6, atol=1e-9)


def test_unknown_names_and_missing_features(small):
    arrays = small.target_scores, small.shadow_scores, small.membership
    for unknown in ("lira", "lira_", "bavaria_tt"):
        with pytest.raises(UserError, match="There is no attack"):
            scores(unknown, *arrays, variance="global")
    with pytest.raises(UserError, match="qmia needs features"):
        scores("qmia", *arrays, variance="global", reference=~small.membership[0])


@pytest.mark.parametrize("name", ATTACKS)
def test_the_configuration_knows_every_attack(name: str):
    release = ReleaseThreat(encoder="clip")
    assert AuditOptions(attack=name, release=release).attack == name
    with pytest.raises(ValidationError, match=f"'{name}'"):
        AuditOptions(attack=f"{name}_", release=release)


def test_every_entry_is_named_by_its_key():
    assert {name: attack.name for name, attack in ATTACKS.items()} == {
        name: name for name in ATTACKS
    }


def test_names_are_known_without_waiting_for_scipy():
    """The configuration reads them at start-up: heavy imports belong inside the functions."""
    code = (
        "import sys; import tckr.audit.options;"
        "print([name for name in ('scipy', 'sklearn', 'torch', 'pandas') if name in sys.modules])"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=source
    )
    assert done.stdout.splitlines()[-1] == "[]"
