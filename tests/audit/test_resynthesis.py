"""A shadow pipeline is the target's own way to synthetic images: the same synthesizer, fitted on other members."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import miniatures
from tckr.audit.attribution import sets, student_configs
from tckr.audit.budget import plan
from tckr.audit.options import AuditOptions, GeneratorThreat, ReleaseThreat
from tckr.audit.resynthesis import Resynthesis
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.engine.device import best
from tckr.errors import UserError
from tckr.images.tensors import to_png, to_tensor
from tckr.options import Schedule
from tckr.pipelines.generator_adaptation.nodes import adapt_generator
from tckr.pipelines.ingestion.nodes import state_public_facts
from tckr.pipelines.knowledge_recycling.nodes import generate_images
from tckr.synthesizers.tckr import TCKR, TckrRecyclingOptions
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions
from tckr.text.options import CaptionOptions

N, CLASSES, SEED = 24, ("bag", "boot"), 5
SETS = sets(TCKR.channels)
SAMPLING = SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
MEMBERSHIP = np.arange(4 * N).reshape(4, N) % 8 < 4


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return miniatures.save_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def resynthesis(generator: Path) -> Resynthesis:
    prompts = [f"{CLASSES[i % 2]}: a {'small' if i % 3 else 'tall'} shape" for i in range(N)]
    synthesizer = TCKR(
        captioning=CaptionOptions(captioner="never loaded"),
        generator_adaptation=AdaptationOptions(
            generator=str(generator),
            rank=2,
            schedule=Schedule(steps=4, batch_size=8, learning_rate=1e-2),
        ),
        knowledge_recycling=TckrRecyclingOptions(cardinality=10 / 12, sampling=SAMPLING),
    )
    known = pd.DataFrame({"image_id": [str(i) for i in range(N)], "prompt": prompts})
    known = known.assign(class_name=[CLASSES[i % 2] for i in range(N)])
    return Resynthesis(
        synthesizer,
        class_names=CLASSES,
        known={"captions": known},
        count=10,
        closed={"own": ()},
    )


def audited() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 1, 16, 16), generator=draw).to(torch.uint8)
    return pixels, torch.arange(N) % 2


def private_table(inside: np.ndarray) -> pd.DataFrame:
    """Image table of the audited images, of which those `inside` are the members."""
    images, labels = audited()
    return pd.DataFrame(
        {
            "image_id": [str(i) for i in range(N)],
            "split": np.where(inside, "members", "holdout"),
            "label": labels.numpy(),
            "class_name": [CLASSES[i] for i in labels],
            "image": to_png(images),
        }
    )


def test_a_shadow_walks_the_way_of_the_target(resynthesis: Resynthesis) -> None:
    """With the target's members and seed, the images of the nodes come out, to the bit."""
    images, labels = audited()
    inside = np.arange(N) < 12
    table = private_table(inside)
    captions = resynthesis.known["captions"][inside]
    synthesizer = resynthesis.synthesizer
    assert isinstance(synthesizer, TCKR)
    adapter, *_ = adapt_generator(table, captions, synthesizer.generator_adaptation, SEED)
    artefacts = {"captions": captions, "adapter": adapter}
    recycled = generate_images(synthesizer, artefacts, state_public_facts(table), SEED)
    drawn = to_tensor(recycled["image"])

    made, signals, _ = resynthesis.run(images, labels, inside, SEED, best())
    assert len(recycled) == resynthesis.count
    assert torch.equal(made["own"].images, drawn)
    assert made["own"].labels.tolist() == recycled["label"].tolist()
    assert signals == {}
    other, _, _ = resynthesis.run(images, labels, ~inside, SEED, best())
    assert not torch.equal(other["own"].images, drawn)


def test_an_arm_without_steps_walks_the_way_of_the_target_too(generator: Path) -> None:
    images, labels = audited()
    inside = np.arange(N) < 12
    options = UnadaptedRecyclingOptions(
        generator=str(generator), cardinality=10 / 12, sampling=SAMPLING
    )
    arm = Unadapted(knowledge_recycling=options)
    recycled = generate_images(arm, {}, state_public_facts(private_table(inside)), SEED)
    again = Resynthesis(arm, CLASSES, known={}, count=10, closed={"own": ()})
    for members in (inside, ~inside):  # nothing of the members reaches it
        made, signals, _ = again.run(images, labels, members, SEED, best())
        assert torch.equal(made["own"].images, to_tensor(recycled["image"]))
        assert made["own"].labels.tolist() == recycled["label"].tolist()
        assert signals == {}
    assert again.seconds(images, labels, "cpu") >= 0


def test_sets_and_queries(resynthesis: Resynthesis) -> None:
    images, labels = audited()
    everything = replace(
        resynthesis, closed=SETS, threat=GeneratorThreat(timesteps=(0.3,)), queried=(0, 5)
    )
    made, signals, _ = everything.run(images, labels, np.arange(N) % 2 < 2, 0, "cpu")
    assert set(made) == set(SETS)
    assert all(synthetic.images.shape == (10, 1, 16, 16) for synthetic in made.values())
    assert {name: values.shape for name, values in signals.items()} == {
        "loss": (2,),
        "one_query": (2,),
        "pia": (2,),
    }
    closed = replace(resynthesis, closed={"base": TCKR.channels})
    there, here = (
        closed.run(images, labels, inside, 0, "cpu")[0]["base"].images
        for inside in (np.arange(N) < 12, np.arange(N) >= 12)
    )
    assert torch.equal(there, here)  # nothing of the members reaches it


def test_what_changes_a_set_changes_the_fingerprint(resynthesis: Resynthesis) -> None:
    other = resynthesis.known["captions"].assign(prompt="another")
    changes: Sequence[dict] = (
        {"known": {"captions": other}},
        {"count": 11},
        {"closed": SETS},
        {"threat": GeneratorThreat()},
        {"queried": (1,)},
        {"class_names": ("a", "b")},
        {"owners": np.arange(N)},
    )
    prints = [repr(replace(resynthesis, **change)) for change in ({}, *changes)]
    assert len(set(prints)) == len(prints)
    assert repr(replace(resynthesis)) == repr(resynthesis)


def config(resynthesis: Resynthesis, **changes) -> ShadowConfig:
    e = ShadowConfig(
        *audited(),
        n_classes=2,
        steps=3,
        classifier=ClassifierOptions(widths=(8,), batch_size=8),
        distillation=DistillationOptions(),
        seed=4,
        students=student_configs("on_the_fly", TCKR.channels),
        resynthesis=replace(
            resynthesis, closed=SETS, threat=GeneratorThreat(timesteps=(0.3,)), queried=(0, 5)
        ),
    )
    return replace(e, **changes)


def test_shadows_of_the_whole_pipeline(resynthesis: Resynthesis, tmp_path: Path) -> None:
    e = config(resynthesis)
    scores = run_shadows(e, MEMBERSHIP[:2], folder=tmp_path)
    signals = {f"generator.{name}" for name in GeneratorThreat().signals}
    assert set(scores) == {"teacher", *signals, *e.students}
    assert scores["nothing"].shape == (2, N, 1)
    assert scores["generator.loss"].shape == (2, 2, 1)
    again = run_shadows(e, MEMBERSHIP[:2])
    for name, values in scores.items():
        np.testing.assert_array_equal(values, again[name])
    with pytest.raises(UserError, match="11 of 10"):
        run_shadows(
            config(resynthesis, students={"s": StudentConfig("set of captions", "hard", 11)}),
            MEMBERSHIP,
        )


def options(**changes) -> AuditOptions:
    return AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="none"), **changes)


@pytest.mark.parametrize("whole", [False, True])
def test_the_plan_is_made_before_the_hours_are_spent(resynthesis: Resynthesis, whole: bool) -> None:
    e = config(resynthesis)
    if not whole:
        e = replace(e, students={}, resynthesis=None)
    decided = plan(e, options(), workers=1)
    assert decided.n_shadows == decided.requested == 8
    assert decided.minutes == pytest.approx(8 * decided.seconds_per_group / 60)
    generous = plan(e, options(time_budget_minutes=1000), workers=2)
    assert (generous.n_shadows, generous.workers) == (8, 2)


def test_a_budget_decides_the_number_of_shadows(
    monkeypatch: pytest.MonkeyPatch, resynthesis: Resynthesis
) -> None:
    monkeypatch.setattr("tckr.audit.budget.seconds_per_group", lambda *_: 30.0)
    e = config(resynthesis)
    assert plan(e, options(time_budget_minutes=2.6), 1).n_shadows == 4
    assert plan(e, options(time_budget_minutes=3.1), 1).n_shadows == 6
    assert plan(e, options(time_budget_minutes=1.5), 2).n_shadows == 6
    with pytest.raises(UserError, match=r"4 shadows take about 2\.0 minutes"):
        plan(e, options(time_budget_minutes=1.9), 1)
