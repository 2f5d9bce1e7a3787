"""A shadow pipeline is the target's own way to synthetic images, walked by the same functions and options."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tckr.audit.recycling import Cell, Recycling
from tckr.pipelines.audited import forget_checkpoints, plan_shadows
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions

import miniatures
from tckr.audit.attribution import cells, plans
from tckr.audit.budget import plan
from tckr.audit.options import AuditOptions, GeneratorThreat, ReleaseThreat
from tckr.audit.shadow_models import Experiment, StudentPlan, run_shadows
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.engine.device import best
from tckr.errors import UserError
from tckr.images.tensors import to_png
from tckr.options import Schedule
from tckr.pipelines.generator_adaptation.nodes import adapt_generator
from tckr.pipelines.knowledge_recycling.nodes import draw_images, plan_prompts

N, CLASSES, SEED = 24, ("bag", "boot"), 5
MEMBERSHIP = np.arange(4 * N).reshape(4, N) % 8 < 4


@pytest.fixture(scope="module")
def recycling(tmp_path_factory: pytest.TempPathFactory) -> Recycling:
    torch.manual_seed(0)
    folder: Path = miniatures.save_generator(tmp_path_factory.mktemp("generator"))
    adaptation = AdaptationOptions(
        generator=str(folder),
        rank=2,
        schedule=Schedule(steps=4, batch_size=8, learning_rate=1e-2),
    )
    return Recycling(
        prompts=[f"{CLASSES[i % 2]}: a {'small' if i % 3 else 'tall'} shape" for i in range(N)],
        class_names=CLASSES,
        adaptation=adaptation,
        sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8),
        count=10,
        cells={"own": Cell("adapted", "captions")},
    )


def audited() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 1, 16, 16), generator=draw).to(torch.uint8)
    return pixels, torch.arange(N) % 2


def test_a_shadow_walks_the_way_of_the_target(recycling: Recycling) -> None:
    """With the target's members and seed, the images of the nodes come out, to the bit."""
    images, labels = audited()
    inside = np.arange(N) < 12
    table = pd.DataFrame(
        {
            "image_id": [str(i) for i in range(N)],
            "split": np.where(inside, "members", "holdout"),
            "label": labels.numpy(),
            "class_name": [CLASSES[i] for i in labels],
            "image": to_png(images),
        }
    )
    members = table[inside]
    captions = members[["image_id", "class_name"]].assign(prompt=list(recycling.prompts[:12]))
    options = RecyclingOptions(sampling=recycling.sampling)
    adapter, *_ = adapt_generator(table, captions, recycling.adaptation, options, SEED)
    prompts = plan_prompts(members, captions, options, recycling.count, SEED)
    drawn = draw_images(
        members, prompts["prompt"].tolist(), adapter, recycling.adaptation, options, SEED
    )

    pools, signals = recycling.run(images, labels, inside, SEED, best())
    assert torch.equal(pools["own"].images, drawn)
    assert pools["own"].labels.tolist() == prompts["label"].tolist()
    assert signals == {}
    other, _ = recycling.run(images, labels, ~inside, SEED, best())
    assert not torch.equal(other["own"].images, drawn)


def test_pools_and_questions(recycling: Recycling) -> None:
    images, labels = audited()
    everything = replace(
        recycling, cells=cells(), threat=GeneratorThreat(timesteps=(0.3,)), asked=(0, 5)
    )
    pools, signals = everything.run(images, labels, np.arange(N) % 2 < 2, 0, "cpu")
    assert set(pools) == set(cells())
    assert all(pool.images.shape == (10, 1, 16, 16) for pool in pools.values())
    assert {name: values.shape for name, values in signals.items()} == {
        "loss": (2,),
        "one_query": (2,),
    }
    unadapted = replace(recycling, cells={"base": Cell("base", "class_names")})
    there, here = (
        unadapted.run(images, labels, inside, 0, "cpu")[0]["base"].images
        for inside in (np.arange(N) < 12, np.arange(N) >= 12)
    )
    assert torch.equal(there, here)  # nothing of the members reaches it


def experiment(recycling: Recycling, **changes) -> Experiment:
    e = Experiment(
        *audited(),
        n_classes=2,
        steps=3,
        classifier=ClassifierOptions(widths=(8,), batch_size=8),
        distillation=DistillationOptions(),
        seed=4,
        students=plans("on_the_fly"),
        recycling=replace(
            recycling, cells=cells(), threat=GeneratorThreat(timesteps=(0.3,)), asked=(0, 5)
        ),
    )
    return replace(e, **changes)


def test_shadows_of_the_whole_pipeline(recycling: Recycling, tmp_path: Path) -> None:
    e = experiment(recycling)
    scores = run_shadows(e, MEMBERSHIP[:2], folder=tmp_path)
    assert set(scores) == {"teacher", "generator.loss", "generator.one_query", *e.students}
    assert scores["nothing"].shape == (2, N, 1)
    assert scores["generator.loss"].shape == (2, 2, 1)
    again = run_shadows(e, MEMBERSHIP[:2])
    for name, values in scores.items():
        np.testing.assert_array_equal(values, again[name])
    with pytest.raises(UserError, match="11 of 10"):
        run_shadows(
            experiment(recycling, students={"s": StudentPlan("base captions", "hard", 11)}),
            MEMBERSHIP,
        )


def options(**changes) -> AuditOptions:
    return AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="none"), **changes)


@pytest.mark.parametrize("whole", [False, True])
def test_the_plan_is_made_before_the_hours_are_spent(recycling: Recycling, whole: bool) -> None:
    e = experiment(recycling)
    if not whole:
        e = replace(e, students={}, recycling=None)
    decided = plan(e, options(), at_once=1)
    assert decided.n_shadows == decided.asked_for == 8
    assert decided.minutes == pytest.approx(8 * decided.seconds_per_group / 60)
    generous = plan(e, options(time_budget_minutes=1000), at_once=2)
    assert (generous.n_shadows, generous.at_once) == (8, 2)


def test_a_budget_decides_the_number_of_shadows(
    monkeypatch: pytest.MonkeyPatch, recycling: Recycling
) -> None:
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: 30.0)
    e = experiment(recycling)
    assert plan(e, options(time_budget_minutes=2.6), 1).n_shadows == 4
    assert plan(e, options(time_budget_minutes=3.1), 1).n_shadows == 6
    assert plan(e, options(time_budget_minutes=1.5), 2).n_shadows == 6
    with pytest.raises(UserError, match=r"4 shadows take about 2\.0 minutes"):
        plan(e, options(time_budget_minutes=1.9), 1)


def test_a_killed_audit_keeps_its_number_of_shadows(
    monkeypatch: pytest.MonkeyPatch, recycling: Recycling, tmp_path: Path
) -> None:
    seconds = iter([30.0, 10.0, 10.0])
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: next(seconds))
    e = replace(experiment(recycling), students={}, recycling=None)
    budget = options(time_budget_minutes=2.1, checkpoints=str(tmp_path / "audit"), workers=1)
    first, again = (plan_shadows(e, budget) for _ in range(2))
    assert first["n_shadows"] == 4
    assert again == first
    assert plan_shadows(replace(e, seed=9), budget)["n_shadows"] == 8
    forget_checkpoints(budget)
    assert plan_shadows(e, budget)["n_shadows"] == 8
