"""What the shipped configurations ask of the audit."""

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader

from conftest import ROOT
from tckr.attacks import lira
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions
from tckr.metrics import tpr_at_fpr
from tckr.settings import CONFIG_LOADER_ARGS


@pytest.mark.parametrize("env", ["base", "gpu", "sd2", "test"])
def test_lira_of_many_shadows_takes_a_variance_of_each_example(env: str) -> None:
    loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)
    options = AuditOptions(**loader["parameters"]["privacy_audit"])
    many = options.attack.startswith("lira") and options.n_shadows >= 64
    assert options.variance == ("per_example" if many else "global")


def test_a_variance_of_each_example_finds_more_members_with_64_shadows() -> None:
    """Scores whose spread differs by a factor of four: 8 against 11 % at 1 % false alarms."""
    found = []
    for seed in range(4):
        random, n = np.random.default_rng(seed), 4000
        mean, shift = random.normal(3, 3, n), random.gamma(0.5, 1.2, n)
        spread = np.exp(random.uniform(np.log(0.5), np.log(2), n))
        membership = membership_matrix(n, 64, 0.5, seed)
        inside = random.permutation(n) < n // 2
        target = mean + shift * inside + spread * random.normal(size=n)
        shadow = mean + shift * membership + spread * random.normal(size=(64, n))
        found.append(
            [
                tpr_at_fpr(lira(target, shadow, membership, variance=variance), inside, 0.01).value
                for variance in ("per_example", "global")
            ]
        )
    each, pooled = np.mean(found, axis=0)
    assert each > 1.15 * pooled
