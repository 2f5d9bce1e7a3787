"""The estimate grows with the work, shrinks with the machine, and says nothing where it knows nothing."""

from typing import Any

import pytest

from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.classifiers.options import ClassifierOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.hooks.estimate import REFERENCE, estimate, speed
from tckr.options import Schedule
from tckr.pipeline_registry import STAGES
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions


def parameters(cardinality: float = 1.0) -> dict[str, Any]:
    return {
        "classifier": ClassifierOptions(),
        "generator_adaptation": AdaptationOptions(
            generator="x", schedule=Schedule(steps=300, batch_size=32, learning_rate=1e-3)
        ),
        "knowledge_recycling": RecyclingOptions(cardinality=cardinality),
        "privacy_audit": AuditOptions(release=ReleaseThreat(encoder="clip")),
    }


def whole(members: int = 3000, cardinality: float = 1.0, probe: float = REFERENCE) -> float:
    seconds = estimate(STAGES, {"members": members}, parameters(cardinality), probe)
    assert seconds is not None
    return seconds


def test_more_work_takes_longer() -> None:
    assert whole(members=6000) > whole() < whole(cardinality=5)


def test_a_machine_twice_as_fast_takes_half() -> None:
    assert whole(probe=2 * REFERENCE) == pytest.approx(whole() / 2)


def test_a_sweep_grows_with_its_pool_and_its_shadows() -> None:
    def sweep(**changes: Any) -> float:
        given = parameters() | {"cardinality_sweep": SweepOptions(**changes)}
        seconds = estimate(["teacher", "cardinality_sweep"], {"members": 3000}, given, REFERENCE)
        assert seconds is not None
        return seconds

    assert sweep(cardinalities=(1,), audit=False) < sweep(cardinalities=(1,))
    assert sweep(cardinalities=(1, 2)) < sweep(cardinalities=(1, 20)) < sweep()


def test_nothing_is_promised_without_a_basis() -> None:
    assert estimate(STAGES, {"members": 3000}, parameters(), 0.0) is None
    assert estimate(["student_training"], {"members": 3000}, {}, REFERENCE) is None


def test_probe_runs() -> None:
    assert speed(0.05) > 0
