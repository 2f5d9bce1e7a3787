"""Private recycling end to end on tiny models: one ledger, and what comes of it without an answer of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.dp import Ledger
from tckr.errors import UserError
from tckr.options import PrivateSchedule
from tckr.synthesizers.filtering import FilterOptions
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.mixture import MixedOptions
from tckr.synthesizers.private import Private, PrivateBudget, PrivateDrawingOptions
from tckr.synthesizers.private_set import PrivateSet
from tckr.text.options import CaptionOptions, WordsOptions
from tckr.text.vocabulary import SHIPPED

SEED, COUNT, N = 3, 9, 60
CLASSES = ("bag", "boot", "coat")


def arm_with(models: Path, **budget: Any) -> Private:
    return Private(
        privacy=PrivateBudget(**{"epsilon": 100.0, "noise_seed": 0, **budget}),
        captioning=CaptionOptions(captioner=str(models / "captioner"), max_new_tokens=4),
        words=WordsOptions(),
        generator_adaptation=DPAdaptationOptions(
            generator=str(models / "generator"),
            rank=1,
            layers="attention",
            schedule=PrivateSchedule(
                steps=4, sampling_rate=1.0, learning_rate=1e-2, max_grad_norm=1e-3, micro_batch=8
            ),
        ),
        private_teacher=PrivateTeacherOptions(steps=5),
        classifier=ClassifierOptions(architecture="scattering"),
        knowledge_recycling=PrivateDrawingOptions(
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
        ),
    )


@pytest.fixture(scope="module")
def private() -> PrivateSet:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 1, 16, 16), generator=draw).to(torch.uint8)
    return PrivateSet(pixels, torch.arange(N) % 3, CLASSES)


@pytest.fixture(scope="module")
def known(private: PrivateSet) -> dict[str, pd.DataFrame]:
    """Captions as the shipped captioner says them; a tiny one with random weights says nothing that can be counted."""
    captions = SHIPPED.write(np.ones(SHIPPED.size), N, np.random.default_rng(0))
    names = [CLASSES[label] for label in private.labels.tolist()]
    prompts = [f"{name}: {text}" for name, text in zip(names, captions, strict=True)]
    return {"captions": pd.DataFrame({"class_name": names, "caption": captions, "prompt": prompts})}


@pytest.fixture(scope="module")
def fitted(models: Path, private: PrivateSet, known: dict[str, pd.DataFrame]) -> Fitted:
    return arm_with(models).fit(private, SEED, known=known)


def test_no_further_generator_is_fitted_that_the_ledger_does_not_pay_for(
    models: Path, private: PrivateSet
) -> None:
    arm = arm_with(models)
    recycling = arm.knowledge_recycling.model_copy(update={"mixture": (MixedOptions(seed=1),)})
    mixing = arm.model_copy(update={"knowledge_recycling": recycling})
    with pytest.raises(UserError, match="no mechanism of this arm's ledger pays"):
        mixing.fit(private, SEED)


def test_its_own_teacher_chooses_its_images(fitted: Fitted) -> None:
    """Filtering by the teacher of the ledger is post-processing: it costs nothing more."""
    options = FilterOptions(threshold=0.0, max_draws=1000)
    recycling = fitted.synthesizer.knowledge_recycling.model_copy(update={"filter": options})
    arm = fitted.synthesizer.model_copy(update={"knowledge_recycling": recycling})
    drawn = replace(fitted, synthesizer=arm).sample(COUNT, SEED, strict=False)
    plain = fitted.sample(COUNT, SEED)
    judged = soft_labels(fitted.artefacts["teacher"], plain.images).argmax(1) == plain.labels
    assert torch.equal(drawn.images[judged], plain.images[judged])
    assert drawn.labels.tolist() == plain.labels.tolist()


def test_the_ledger_charges_words_and_teacher_and_no_more(fitted: Fitted) -> None:
    ledger: Ledger = fitted.artefacts["ledger"]
    assert Private.ledger() == ("words", "generator adaptation", "teacher")
    assert [entry.name for entry in ledger] == ["words", "teacher"]  # the adaptation has no share
    assert all(entry.spent and entry.seeded for entry in ledger)
    assert 99 < ledger.epsilon(spent=True) <= 100
    assert {each.how for each in ledger.declarations} == {"public", "absent"}
    assert fitted.artefacts["adaptation_charge"] == {}


def test_without_a_share_the_generator_stays_as_it_was(fitted: Fitted) -> None:
    assert fitted.synthesizer.provenance() == {"generator": "base"}
    prompts = fitted.plan_prompts(COUNT, SEED)["prompt"].tolist()
    drawn = torch.cat(list(fitted.draw(prompts, SEED)))
    base = torch.cat(list(fitted.draw(prompts, SEED, closed=("adapter",))))
    assert torch.equal(drawn, base)


def test_with_a_share_the_generator_is_adapted_and_charged(
    models: Path, private: PrivateSet, known: dict[str, pd.DataFrame]
) -> None:
    adapted = arm_with(models, adaptation=1.0, teacher=1.0).fit(private, SEED, known=known)
    ledger = adapted.artefacts["ledger"]
    assert [entry.name for entry in ledger] == ["words", "generator adaptation", "teacher"]
    assert adapted.synthesizer.provenance() == {"generator": "adapted"}
    drawn = adapted.sample(COUNT, SEED).images
    assert not torch.equal(drawn, adapted.sample(COUNT, SEED, closed=("adapter",)).images)


def test_prompts_come_from_noisy_words_and_are_balanced(fitted: Fitted) -> None:
    plan = fitted.plan_prompts(COUNT, SEED)
    assert torch.bincount(torch.tensor(plan["label"].tolist())).tolist() == [3, 3, 3]
    assert plan["prompt"].str.contains(" background").all()
    captions = set(fitted.artefacts["captions"]["prompt"])
    assert not captions & set(plan["prompt"])  # words of a class, none of a member's sentences
    closed = fitted.plan_prompts(COUNT, SEED, closed=("words",))
    assert set(closed["prompt"]) == set(CLASSES)


def test_without_words_nothing_of_the_captions_is_read(models: Path, private: PrivateSet) -> None:
    arm = arm_with(models, words=0.0)
    none = pd.DataFrame({"class_name": [], "caption": [], "prompt": []})
    fitted = arm.fit(private, SEED, known={"captions": none})
    assert [entry.name for entry in fitted.artefacts["ledger"]] == ["teacher"]
    assert set(fitted.plan_prompts(COUNT, SEED)["prompt"]) == set(CLASSES)


def test_a_teacher_of_other_images_has_a_ledger_of_its_own(
    models: Path, private: PrivateSet, fitted: Fitted
) -> None:
    """As for a shadow whose synthetic set is held fixed."""
    teacher = arm_with(models).fit_teacher(private.at(range(50)), SEED)
    images = private.images[:4] / 255
    assert teacher(images).shape == (4, 3)
    assert not torch.equal(teacher(images), fitted.artefacts["teacher"](images))


def test_a_budget_is_of_one_private_set_and_is_spent_once(
    models: Path, private: PrivateSet, known: dict[str, pd.DataFrame]
) -> None:
    arm = arm_with(models)
    (budget,) = arm.plan_budget(private, {}, SEED, "cpu")
    others = private.at(range(1, N))
    with pytest.raises(UserError, match="planned for other private images"):
        arm.train_teacher(others, {"budget": budget}, SEED, "cpu")
    arm.train_teacher(private, {"budget": budget}, SEED, "cpu")
    with pytest.raises(UserError, match="its budget is spent"):
        arm.train_teacher(private, {"budget": budget}, SEED, "cpu")
    with pytest.raises(UserError, match="Planned and not run: words"):
        arm.close_ledger(private.facts, {"budget": budget}, SEED, "cpu")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"epsilon": 0.01}, "More noise than signal: .* give at least|raise epsilon"),
        ({"delta": 0.5}, "delta 0.5 is not in"),
    ],
)
def test_a_budget_that_cannot_work_is_refused_before_anything_is_read(
    models: Path, private: PrivateSet, budget: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        arm_with(models, **budget).plan_budget(private, {}, SEED, "cpu")


def test_captions_that_cannot_be_counted_are_refused(models: Path, private: PrivateSet) -> None:
    with pytest.raises(UserError, match=r"Class 'bag' has too few members .* words.kind: topics"):
        arm_with(models).fit(private, SEED)


def test_noise_without_a_seed_is_private_and_never_the_same(
    models: Path, private: PrivateSet, known: dict[str, pd.DataFrame]
) -> None:
    arm = arm_with(models, noise_seed=None)
    first, second = (arm.fit(private, SEED, known=known) for _ in range(2))
    assert first.artefacts["ledger"].private
    counts = [fitted.artefacts["word_counts"]["counts"] for fitted in (first, second)]
    assert not torch.equal(*counts)
