"""The audit of an arm with a ledger: its nodes run, and a ledger that claims too little stops them."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.pipeline import Pipeline

from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import Audit
from tckr.dp import Ledger, Noise, delta_default
from tckr.errors import UserError
from tckr.pipelines.privacy_audit import create_pipeline
from tckr.reporting.figures import FORBIDDEN
from tckr.synthesizers.base import Step, Synthesizer
from tckr.synthesizers.recycling import RecyclingOptions
from tckr.synthesizers.registry import synthesizer_class

N, S = 1200, 8
NODES = ("audit_release", "check_guarantee", "gather_metrics", "draw_scores")


class Proven(Synthesizer):
    """An arm of which a ledger proves something."""

    steps: ClassVar = (Step("close_ledger", ("ledger",)),)

    knowledge_recycling: RecyclingOptions

    def plan_prompts(self, fitted, count, seed, *, nested=False, closed=()):
        raise NotImplementedError

    def draw(self, fitted, prompts, seed, *, closed=()):
        raise NotImplementedError


def audit_nodes(arm: type[Synthesizer]) -> Pipeline:
    return create_pipeline(arm).filter(node_names=[f"privacy_audit.{name}" for name in NODES])


def run(mu: float, leak: float) -> dict[str, Any]:
    """Audit scores of members that lie `leak` higher, under a ledger that proves `mu`."""
    ledger = Ledger(100.0, delta_default(N // 2), n=N // 2, data_hash="4f2a")
    ledger.add(
        name="teacher", mechanism="gaussian", noise_multiplier=1 / mu, why="clipped", code="test"
    )
    ledger.spend("teacher", Noise())
    random, inside = np.random.default_rng(0), np.arange(N) < N // 2
    images = pd.DataFrame(
        {
            "image_id": [f"{i:04x}" for i in range(N)],
            "split": np.where(inside, "members", "holdout"),
            "label": np.arange(N) % 2,
        }
    )
    matrix = membership_matrix(N, S, 0.5, 0)

    def scores(*who: np.ndarray) -> dict[str, torch.Tensor]:
        drawn = {
            m: [random.normal(size=N) + leak * one for one in who] for m in ("teacher", "student")
        }
        # One ledger bounds them together, as it would not three independent leaks.
        drawn |= dict.fromkeys(("weights", "released"), drawn["student"])
        found = {m: np.stack(rows)[..., None].astype(np.float32) for m, rows in drawn.items()}
        return {m: torch.from_numpy(rows if len(who) > 1 else rows[0]) for m, rows in found.items()}

    release = {
        "features": random.normal(size=(N, 4)).astype(np.float32),
        "rows": np.arange(N),
        **{f"images.{name}": random.normal(size=N) for name in ("nearest", "density_ratio")},
    }
    data: dict[str, Any] = {
        "images": images,
        "target_scores": scores(inside),
        "shadow_scores": scores(*matrix),
        "release_scores": {name: torch.from_numpy(array) for name, array in release.items()},
        "membership_matrix": images[["image_id"]].assign(
            is_member=inside, **{f"shadow_{i}": row for i, row in enumerate(matrix)}
        ),
        "audit_plan": {
            **{"n_shadows": S, "requested": S, "workers": 1},
            **{"seconds_per_group": 1.0, "minutes": 0.1},
        },
        "accuracy": {model: {"accuracy": 80.0} for model in ("teacher", "student")},
        "student_recipe": {"students": {"student": {"pool": "released", "labels": "on_the_fly"}}},
        "recycled_set": pd.DataFrame({"soft_label": [[0.4, 0.6]]}),
        "ledger": ledger,
        "params:knowledge_recycling": RecyclingOptions(),
        "params:privacy_audit": AuditOptions(n_shadows=S, release=ReleaseThreat(encoder="none")),
    }
    for node in audit_nodes(Proven).nodes:
        data |= node.run({name: data[name] for name in node.inputs})
    return data


def test_only_an_arm_with_a_ledger_reads_one() -> None:
    proven, others = (
        {node.short_name.lower(): node for node in create_pipeline(arm).nodes}
        for arm in (Proven, synthesizer_class("tckr"))
    )
    reading = {
        node.name.split(".")[1] for node in create_pipeline(Proven).nodes if "ledger" in node.inputs
    }

    assert reading == {"audit_release", "draw_scores"}
    assert len(proven) == len(others) + 1 - sum(
        "generator" in name or "queried" in name for name in others
    )
    assert "ledger" not in create_pipeline(synthesizer_class("tckr")).inputs()
    # Neither report nor metrics of a run that contradicts itself.
    nodes = {node.name.split(".")[1]: node for node in create_pipeline(Proven).nodes}
    assert "guarantee_warnings" in nodes["write_report"].inputs
    assert "guarantee_warnings" in nodes["gather_metrics"].inputs


def test_a_ledger_that_holds_stands_in_audit_metrics_and_picture() -> None:
    made = run(mu=1.0, leak=0.3)
    audit = Audit.model_validate(made["audit"])

    assert audit.proven is not None
    assert made["guarantee_warnings"] == []
    assert made["metrics"]["epsilon"] == audit.proven.epsilon
    # Lower bounds are at the ledger's delta.
    assert {
        attack.epsilon.delta
        for thing in audit.things.values()
        for attack in thing.attacks.values()
        if attack.epsilon is not None
    } == {audit.proven.delta}
    assert {row.thing for row in audit.proven.compared} == {
        *("student", "weights", "released", "teacher", "joint", "images"),
    }
    # The teacher is handed out, so that whoever holds everything holds it.
    assert "private teacher (" in audit.things["joint"].primary.label
    colour = tuple(bytes.fromhex(FORBIDDEN.removeprefix("#")))
    assert (np.asarray(made["roc"]) == colour).all(-1).any()


def test_a_ledger_that_claims_too_little_stops_the_run() -> None:
    with pytest.raises(
        UserError,
        match=r"contradicts the ledger: .* against the (student|weights|released|teacher|joint)",
    ):
        run(mu=0.1, leak=2.0)


def test_between_the_two_bounds_is_a_warning() -> None:
    made = run(mu=0.9, leak=2.0)
    assert made["guarantee_warnings"]
    assert all(
        "above what is proven for one image" in row["text"] for row in made["guarantee_warnings"]
    )
