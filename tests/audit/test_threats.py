"""Each released thing has its own figures, with the primary attack that was named."""

import json

import numpy as np
import pytest

from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.threats import audit_generator, audit_release
from tckr.reporting.findings import verdict

N = 300
OPTIONS = AuditOptions(attack="bavaria_t", release=ReleaseThreat(encoder="none"), confidence=0.999)
IS_MEMBER = np.arange(N) < N // 2


def signals(leak: float, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    difficulty = 5 * random.normal(size=N)
    base = {"loss": difficulty, "one_query": difficulty}
    adapted = {
        name: difficulty + random.normal(size=N) + leak * IS_MEMBER
        for name in ("loss", "one_query")
    }
    return adapted, base


def test_under_differential_privacy_the_attacker_is_told_what_the_ledger_covers() -> None:
    for thing, words in (("prompts", "made under differential privacy"), ("images", "Only the")):
        scores = {"density_ratio": np.zeros(N), "exact": np.zeros(N)}
        found = audit_release(thing, scores, IS_MEMBER, OPTIONS, proven=True)
        assert words in found.assumes
    adapted = audit_generator(*signals(0.0, 0), IS_MEMBER, OPTIONS, proven=True)
    assert "trained under differential privacy" in adapted.assumes
    assert (
        "differential privacy" not in audit_generator(*signals(0.0, 0), IS_MEMBER, OPTIONS).assumes
    )


def test_the_base_generator_calibrates():
    found = audit_generator(*signals(2.0, 0), IS_MEMBER, OPTIONS)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert found.primary_attack == "loss_calibrated"
    assert found.primary.auc.low > 0.75 > found.attacks["loss"].auc.value
    assert found.n_shadows == 0
    assert verdict(found) == ("leaks: the interval lies above no leak", True)


def test_shadow_adapters_calibrate():
    random = np.random.default_rng(1)
    adapted, base = signals(2.0, 1)
    membership = membership_matrix(N, 8, 0.5, 0)
    shadow = {name: base[name] + random.normal(size=(8, N)) + 2.0 * membership for name in base}
    found = audit_generator(adapted, base, IS_MEMBER, OPTIONS, shadow, membership)
    assert found.primary_attack == "loss_bavaria_t"
    assert found.primary.auc.low > 0.75
    assert found.n_shadows == 8
    assert "one_query_rmia" in found.attacks


@pytest.mark.parametrize(
    ("n", "calibrated"), [(300, False), (3000, False), (300, True), (3000, True)]
)
def test_a_generator_that_an_attack_cannot_judge_is_not_measured(n: int, calibrated: bool):
    """A leak of 55 by RMIA with shadow adapters, 50 without: the interval that covers 50 is no measurement."""
    random, inside = np.random.default_rng(3), np.arange(n) < n // 2
    base, adapted = ({"loss": random.normal(size=n)} for _ in range(2))
    membership = membership_matrix(n, 8, 0.5, 0)
    shadow = {"loss": random.normal(size=(8, n))}
    found = audit_generator(
        *(adapted, base, inside, OPTIONS),
        *((shadow, membership) if calibrated else (None, None)),
    )
    assert found.primary.covers_half
    words, leaks = verdict(found)
    assert not leaks
    assert words.startswith("covers no leak" if n == 3000 and calibrated else "not measured. ")
    assert ("asked: null" in words) == (n == 300)
    assert ("scope: pipeline" in words) == (not calibrated)


def test_an_adapter_made_elsewhere_has_no_shadows():
    """Every shadow holds the very same one: its signals calibrate nothing, whatever the scope."""
    adapted, base = signals(0.0, 1)
    shadow = {name: np.tile(values, (8, 1)) for name, values in adapted.items()}
    membership = membership_matrix(N, 8, 0.5, 0)
    found = audit_generator(
        adapted, base, IS_MEMBER, OPTIONS, shadow, membership, made_elsewhere=True
    )
    assert (found.primary_attack, found.n_shadows) == ("loss_calibrated", 0)
    assert verdict(found)[0].startswith("not measured. The adapter was made elsewhere")


@pytest.mark.parametrize("leak", [0.0, 3.0])
def test_the_release(leak: float):
    random = np.random.default_rng(2)
    scores = {
        name: random.normal(size=N) + leak * IS_MEMBER
        for name in ("nearest", "density_ratio", "exact")
    }
    images = audit_release("images", {**scores, "nearest_index": np.zeros(N)}, IS_MEMBER, OPTIONS)
    prompts = audit_release("prompts", scores, IS_MEMBER, OPTIONS)
    assert images.primary_attack == "density_ratio"
    assert prompts.primary_attack == "exact"
    assert images.primary.covers_half is prompts.primary.covers_half is (leak == 0)
