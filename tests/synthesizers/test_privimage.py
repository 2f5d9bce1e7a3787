"""PrivImage end to end on tiny models: what each step makes, what it is charged for, and what never reaches it."""

import copy
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tckr.audit.denoising import query_generator
from tckr.audit.guarantee import guarantee
from tckr.audit.options import AuditOptions, GeneratorThreat, ReleaseThreat
from tckr.audit.resynthesis import Resynthesis
from tckr.audit.seen import part
from tckr.audit.tables import as_arrays
from tckr.audit.things import ThreatAudit
from tckr.audit.threats import audit_generator
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import AdaptationOptions, SamplingOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.dp import check_sensitivity, recording
from tckr.engine.checkpoint import Checkpoint
from tckr.errors import UserError
from tckr.images.tables import with_class_names
from tckr.images.tensors import to_pil, to_png
from tckr.options import PrivateSchedule, Schedule
from tckr.pipelines.privacy_audit.nodes import score_generator
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.privimage import (
    PrivImage,
    PrivImageBudget,
    PrivImageDrawingOptions,
    SemanticQueryOptions,
)
from tckr.synthesizers.under_dp import data_hash

SEED, COUNT, CLASSES = 3, 9, ("bag", "boot", "coat")


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per category: noise of seven brightnesses."""
    folder, draw = tmp_path_factory.mktemp("pool"), np.random.default_rng(0)
    for level in range(7):
        (folder / f"level {level}").mkdir()
        for turn in range(6):
            pixels = draw.integers(30 * level, 30 * level + 70, (16, 16, 1), np.uint8)
            to_pil(pixels).save(folder / f"level {level}" / f"{turn}.png")
    return folder


@pytest.fixture(scope="session")
def arm(models: Path, pool: Path) -> PrivImage:
    generator = str(models / "generator")
    tiny = ClassifierOptions(
        widths=(4,), epochs=2, batch_size=8, augmentation=AugmentationOptions(flip=False)
    )
    return PrivImage(
        privacy=PrivImageBudget(epsilon=100.0, noise_seed=0),
        semantic_query=SemanticQueryOptions(pool=str(pool), k=2, classifier=tiny),
        pretraining=AdaptationOptions(
            generator=generator,
            rank=2,
            schedule=Schedule(steps=4, batch_size=4, learning_rate=1e-2),
        ),
        generator_adaptation=DPAdaptationOptions(
            generator=generator,
            rank=1,
            layers="attention",
            schedule=PrivateSchedule(
                steps=4, sampling_rate=1.0, learning_rate=1e-2, max_grad_norm=1e-3, micro_batch=8
            ),
        ),
        private_teacher=PrivateTeacherOptions(steps=3),
        classifier=tiny,
        knowledge_recycling=PrivImageDrawingOptions(
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
        ),
    )


@pytest.fixture(scope="session")
def private() -> PrivateSet:
    """60 images of noise in two of three classes: as many as the noise of a tiny adapter needs."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 16, 16), generator=draw).to(torch.uint8)
    return PrivateSet(pixels, 2 * (torch.arange(60) % 2), CLASSES)


@pytest.fixture(scope="session")
def fitted(arm: PrivImage, private: PrivateSet) -> Fitted:
    return arm.fit(private, SEED)


def test_the_ledger_charges_three_mechanisms_and_nothing_is_left(fitted: Fitted) -> None:
    ledger = fitted.artefacts["ledger"]
    assert PrivImage.ledger() == ("query", "generator adaptation", "teacher")
    assert tuple(entry.name for entry in ledger) == PrivImage.ledger()
    assert all(entry.spent and entry.seeded for entry in ledger)
    assert not ledger.private
    assert 99 < ledger.epsilon(spent=True) <= 100
    query = ledger["query"]
    assert (query.mechanism, query.cells) == ("discrete_gaussian", 2)
    assert {each.how for each in ledger.declarations} == {"public", "absent"}


def test_every_class_has_its_own_categories_also_one_without_members(fitted: Fitted) -> None:
    chosen = fitted.artefacts["chosen"]
    assert chosen["class_name"].tolist() == ["bag", "bag", "boot", "boot", "coat", "coat"]
    assert chosen["category"].is_unique
    assert fitted.artefacts["semantics"]["counts"].shape == (3, 7)
    assert isinstance(fitted.artefacts["chosen_sheet"], Image.Image)


def test_public_steps_see_facts_alone(arm: PrivImage) -> None:
    """Of the steps that are not charged, none but the hash of the budget is given a private image."""
    private = {step.name for step in PrivImage.steps if step.private}
    charged = {step.name for step in PrivImage.steps if step.charges}
    assert private - charged == {"plan_budget"}
    for step in PrivImage.steps:
        first = next(iter(inspect.signature(getattr(arm, step.name)).parameters))
        assert first == ("private" if step.private else "facts"), step.name


def test_images_come_from_both_adapters(fitted: Fitted) -> None:
    drawn = fitted.sample(COUNT, SEED)
    assert drawn.images.shape == (COUNT, 1, 16, 16)
    assert torch.bincount(drawn.labels).tolist() == [3, 3, 3]
    base = fitted.sample(COUNT, SEED, closed=PrivImage.channels)
    assert not torch.equal(drawn.images, base.images)
    for name in ("pretrained", "adapter"):
        still = {k: torch.zeros_like(v) for k, v in fitted.artefacts[name].weights.items()}
        without = {**fitted.artefacts, name: type(fitted.artefacts[name])(still)}
        other = Fitted(fitted.synthesizer, fitted.facts, without, fitted.device)
        assert not torch.equal(other.sample(COUNT, SEED).images, drawn.images), name


def test_the_same_seeds_give_the_same_set_and_other_members_another(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    again = arm.fit(private, SEED)
    assert torch.equal(again.sample(COUNT, SEED).images, fitted.sample(COUNT, SEED).images)
    elsewhere = arm.fit(private.at(range(50)), SEED, known={"query": fitted.artefacts["query"]})
    assert not torch.equal(elsewhere.sample(COUNT, SEED).images, fitted.sample(COUNT, SEED).images)
    assert elsewhere.artefacts["ledger"].data_hash != fitted.artefacts["ledger"].data_hash


def test_no_statistic_of_the_whole_fit_moves_further_than_declared(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    """Without one image, answers replayed: query, adaptation and teacher change by no more than their sensitivity.

    Noise levels are drawn in the order of the images, one at a time, so that without the last image those of the others
    stay as they are; in earnest the seed of these draws is as secret as the noise.
    """
    schedule = arm.generator_adaptation.schedule.model_copy(update={"steps": 1, "micro_batch": 1})
    adaptation = arm.generator_adaptation.model_copy(update={"schedule": schedule})
    whole = arm.model_copy(update={"generator_adaptation": adaptation})
    (budget,) = whole.plan_budget(private, {}, SEED, "cpu")
    done = ("plan_budget", "train_query", "close_ledger", "draw_choice")
    steps = [step for step in PrivImage.steps if step.name not in done]

    def mechanisms(kept: PrivateSet) -> None:
        ledger = copy.deepcopy(budget)
        ledger.data_hash = data_hash(kept)  # the same noise is charged for both sets
        artefacts = {"query": fitted.artefacts["query"], "budget": ledger}
        for step in steps:
            read = kept if step.private else kept.facts
            made = getattr(whole, step.name)(read, artefacts, SEED, "cpu")
            artefacts |= zip(step.makes, made, strict=True)

    with recording() as first:
        mechanisms(private)
    with recording(replay=first) as second:
        mechanisms(private.at(range(59)))
    changes = check_sensitivity(first, second)
    assert set(changes) == {"query", "generator adaptation", "teacher"}
    assert changes["query"] == pytest.approx(2**0.5)
    assert changes["generator adaptation"] > 0


def test_without_a_share_there_is_no_teacher_to_charge(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    published = arm.model_copy(update={"privacy": arm.privacy.model_copy(update={"teacher": 0.0})})
    known = {name: fitted.artefacts[name] for name in ("query",)}
    made = published.fit(private, SEED, known=known)
    assert [entry.name for entry in made.artefacts["ledger"]] == ["query", "generator adaptation"]
    teacher = made.artefacts["teacher"]
    torch.testing.assert_close(
        teacher(torch.rand(4, 1, 16, 16)).softmax(1), torch.full((4, 3), 1 / 3)
    )
    # What the teacher left goes to the others.
    spent = made.artefacts["ledger"]["query"].noise_multiplier
    assert spent < fitted.artefacts["ledger"]["query"].noise_multiplier


def test_a_pool_of_too_few_categories_is_refused(arm: PrivImage, private: PrivateSet) -> None:
    query = arm.semantic_query.model_copy(update={"k": 3})
    many = arm.model_copy(update={"semantic_query": query})
    with pytest.raises(UserError, match="7 categories, too few for 3 for each of 3 classes"):
        many.train_query(private.facts, {}, SEED, "cpu")  # before any private image is read


def test_a_shadow_repeats_the_whole_under_a_ledger_of_its_own(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    teacher = arm.fit_teacher(private.at(range(40)), 5)
    assert teacher(torch.rand(2, 1, 16, 16)).shape == (2, 3)
    shadow = arm.in_one_process().fit(private.at(range(40)), 5)
    assert shadow.artefacts["ledger"].n == 40
    assert shadow.sample(4, 5).images.shape == (4, 1, 16, 16)


def test_another_budget_beside_this_one_keeps_a_state_of_its_own(
    arm: PrivImage, private: PrivateSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second step, a run leaves its state; the same arm with another epsilon neither meets nor removes it."""
    adaptation = arm.generator_adaptation.model_copy(update={"checkpoints": str(tmp_path)})
    arm = arm.model_copy(update={"generator_adaptation": adaptation})
    whole, saves = Checkpoint.save, []

    def dies(self: Checkpoint, *given: Any) -> None:
        whole(self, *given)
        saves.append(self.path)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        arm.fit(private, SEED)
    other = arm.model_copy(update={"privacy": PrivImageBudget(epsilon=99.9, noise_seed=0)})
    other.fit(private, SEED)
    assert saves[0].exists()
    del saves[2:]
    arm.fit(private, SEED)
    assert set(saves) == {saves[0]}
    assert (
        len(saves) == arm.generator_adaptation.schedule.steps
    )  # the two of before were not repeated


AUDIT = AuditOptions(
    asked=None,
    release=ReleaseThreat(encoder="none"),
    generator=GeneratorThreat(signals=("loss",), timesteps=(0.1, 0.3, 0.5)),
)


def table(images: torch.Tensor, labels: torch.Tensor, inside: np.ndarray) -> pd.DataFrame:
    """Image table of which those `inside` are the members."""
    made = pd.DataFrame(
        {
            "image_id": [f"{i:03}" for i in range(len(images))],
            "split": np.where(inside, "members", "holdout"),
            "label": labels.numpy(),
            "class_name": [CLASSES[i] for i in labels],
            "image": to_png(images),
        }
    )
    return with_class_names(made, CLASSES)


def attacked(
    arm: PrivImage, artefacts: dict[str, Any], images: pd.DataFrame
) -> tuple[dict[str, np.ndarray], ThreatAudit]:
    """The signals of the generator, and what the audit makes of them."""
    found = as_arrays(score_generator(arm, artefacts, images, AUDIT, SEED))
    inside = (images["split"] == "members").to_numpy()[found["rows"]]
    return found, audit_generator(part(found, "adapted"), part(found, "base"), inside, AUDIT)


def test_the_generator_is_attacked_against_the_pre_trained_one_and_stays_under_its_bound(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    others = torch.randint(0, 256, (60, 1, 16, 16), generator=torch.Generator().manual_seed(1))
    pixels, labels = torch.cat([private.images, others.to(torch.uint8)]), private.labels.repeat(2)
    made = {name: fitted.artefacts[name] for name in ("pretrained", "adapter")}
    found, row = attacked(arm, made, table(pixels, labels, np.arange(120) < 60))

    names = [private.class_names[label] for label in labels]  # there are no captions
    for name, merged in (("base", [made["pretrained"]]), ("adapted", list(made.values()))):
        asked = query_generator(
            arm.source(), merged, pixels, names, device="cpu", **AUDIT.generator.queries()
        )
        np.testing.assert_allclose(found[f"{name}.loss"], asked["loss"], rtol=1e-4)
    downloaded = query_generator(
        arm.source(), [], pixels, names, device="cpu", **AUDIT.generator.queries()
    )
    assert np.abs(found["base.loss"] - downloaded["loss"]).max() > 1e-3

    proven = guarantee(fitted.artefacts["ledger"], {"generator": row}, AUDIT.fprs)
    assert {each.attack for each in proven.compared} == {"loss", "loss_calibrated"}
    assert not any(each.contradicts for each in proven.compared)


def test_shadows_of_the_whole_pipeline_are_asked_by_the_names_of_the_classes(
    arm: PrivImage, private: PrivateSet, fitted: Fitted
) -> None:
    again = Resynthesis(
        arm,
        private.class_names,
        known={},
        count=3,
        closed={"own": ()},
        threat=AUDIT.generator,
        queried=(0, 5),
    )
    made = again.run(private.images, private.labels, np.ones(60, bool), SEED, "cpu")
    inside = table(private.images, private.labels, np.ones(60, bool))
    target = as_arrays(score_generator(arm, dict(fitted.artefacts), inside, AUDIT, SEED))
    np.testing.assert_allclose(made.signals["loss"], target["adapted.loss"][[0, 5]], rtol=1e-4)
