"""Generators of several arms in one set: each as its own arm makes and prompts it, and none that would not be paid for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import FinetuningOptions, SamplingOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.errors import UserError
from tckr.options import PrivateSchedule, Schedule, recipe
from tckr.pipelines.knowledge_recycling import nodes
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.filtering import FilterOptions
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.kr import FINE_TUNING, KR, KRDrawingOptions
from tckr.synthesizers.mixture import SOURCE, MixedOptions, with_arms
from tckr.synthesizers.private import Private, PrivateBudget, PrivateDrawingOptions
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.recycling import RecyclingOptions
from tckr.synthesizers.tckr import TCKR
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions
from tckr.text.options import CaptionOptions, WordsOptions

SEED, FIRST, SECOND = 3, range(12), range(12, 24)
SAMPLING = SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)


def control(models: Path) -> Unadapted:
    options = UnadaptedRecyclingOptions(generator=str(models / "generator"), sampling=SAMPLING)
    return Unadapted(knowledge_recycling=options)


def kr(models: Path) -> KR:
    return KR(
        generator_adaptation=FinetuningOptions(
            generator=str(models / "generator"),
            schedule=Schedule(steps=4, batch_size=4, learning_rate=1e-2),
            snapshots=2,
        ),
        generator_choice={"snapshots": "last"},
        knowledge_recycling=KRDrawingOptions(sampling=SAMPLING),
    )


def private_arm(models: Path) -> Private:
    return Private(
        privacy=PrivateBudget(epsilon=100.0, noise_seed=0, words=0),
        captioning=CaptionOptions(captioner=str(models / "captioner"), max_new_tokens=4),
        words=WordsOptions(),
        generator_adaptation=DPAdaptationOptions(
            generator=str(models / "generator"),
            rank=1,
            layers="attention",
            schedule=PrivateSchedule(steps=1, sampling_rate=1.0, learning_rate=1e-2),
        ),
        private_teacher=PrivateTeacherOptions(steps=2),
        classifier=ClassifierOptions(architecture="scattering"),
        knowledge_recycling=PrivateDrawingOptions(sampling=SAMPLING),
    )


def of(arm: Synthesizer, name: str, **given: Any) -> MixedOptions:
    return MixedOptions(arm=name, parameters=arm, **given)


def mixing(arm: Any, *mixture: MixedOptions, **given: Any) -> Any:
    changed = {"mixture": mixture, **given}
    recycling = arm.knowledge_recycling.model_copy(update=changed)
    return arm.model_copy(update={"knowledge_recycling": recycling})


@pytest.fixture(scope="module")
def mixed(arm: TCKR, models: Path) -> TCKR:
    further = (of(kr(models), "kr", weight=0.5), of(control(models), "unadapted", weight=1.5))
    return mixing(arm, MixedOptions(seed=1), *further)


@pytest.fixture(scope="module")
def fitted(mixed: TCKR, private: PrivateSet) -> Fitted:
    return mixed.fit(private.at(FIRST), SEED)


def test_each_arm_is_made_prompted_and_drawn_as_alone(
    models: Path, mixed: TCKR, private: PrivateSet, fitted: Fitted
) -> None:
    assert [set(made) for made in fitted.mixture] == [{"adapter"}, {"snapshots"}, set()]
    plan = fitted.plan_prompts(24, SEED)
    assert np.bincount(plan[SOURCE]).tolist() == [6, 6, 3, 9]
    captions = set(fitted.artefacts["captions"]["prompt"])
    for which in (0, 1):
        assert set(plan.loc[plan[SOURCE] == which, "prompt"]) <= captions
    drawn = torch.cat(list(fitted.draw_planned(0, plan, SEED)))
    for which, alone in ((2, kr(models)), (3, control(models))):
        own = plan[plan[SOURCE] == which]
        assert own["prompt"].tolist() == [private.class_names[label] for label in own["label"]]
        seed = mixed.knowledge_recycling.mixture[which - 1].seed_of(SEED)
        expected = alone.fit(private.at(FIRST), seed).draw(own["prompt"].tolist(), seed)
        assert torch.equal(drawn[own.index.tolist()], torch.cat(list(expected)))
    for start in (1, 11, 23):
        rest = torch.cat(list(fitted.draw_planned(start, plan, SEED)))
        assert torch.equal(rest, drawn[start:])


def test_classes_are_balanced_and_the_same_seed_gives_the_same_set(fitted: Fitted) -> None:
    once, again = fitted.sample(20, SEED, nested=True), fitted.sample(20, SEED, nested=True)
    assert torch.equal(once.images, again.images)
    for size in range(1, 21):
        prefix = once.labels[:size].tolist()
        assert abs(prefix.count(0) - prefix.count(2)) <= 1


def test_all_channels_closed_let_nothing_of_any_arm_through(
    mixed: TCKR, private: PrivateSet, fitted: Fitted
) -> None:
    assert mixed.open_channels == (*TCKR.channels, FINE_TUNING)
    elsewhere = mixed.fit(private.at(SECOND), SEED)
    closed = [f.sample(12, SEED, closed=mixed.open_channels).images for f in (fitted, elsewhere)]
    assert torch.equal(*closed)
    half = [f.sample(12, SEED, closed=TCKR.channels).images for f in (fitted, elsewhere)]
    assert not torch.equal(*half)  # what kr learned still shows


class Dark(torch.nn.Module):
    """A teacher that takes dark images for class 0 and bright ones for class 2: about half of each."""

    def __init__(self, middle: float) -> None:
        super().__init__()
        self.middle = torch.nn.Parameter(torch.tensor(middle))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = 40 * (images.mean((1, 2, 3)) - self.middle)
        return torch.stack([-bright, torch.full_like(bright, -50), bright], 1)


def test_what_is_drawn_again_is_drawn_by_the_generator_whose_prompt_it_has(
    mixed: TCKR, private: PrivateSet, fitted: Fitted, tmp_path: Path
) -> None:
    plain = fitted.sample(24, SEED, nested=True).images.float() / 255
    teacher = Dark(float(plain.mean((1, 2, 3)).median()))
    filtering = mixing(
        mixed,
        *mixed.knowledge_recycling.mixture,
        filter=FilterOptions(threshold=0.5, max_draws=100),
    )
    judged = Fitted(filtering, fitted.facts, fitted.artefacts, "cpu", teacher, fitted.mixture)
    plan = judged.plan_prompts(24, SEED, nested=True)
    drawn, filled = nodes.draw(judged, plan, SEED)
    assert len(drawn) > 24  # some were rejected
    captions = set(fitted.artefacts["captions"]["prompt"])
    for source, prompt in zip(filled[SOURCE], filled["prompt"], strict=True):
        assert (prompt in captions) == (source in (0, 1))
    sampled = judged.sample(24, SEED, nested=True)
    assert nodes.content(sampled.images)["image_ids"] == filled["image_id"].tolist()


@settings(deadline=None, max_examples=25)
@given(
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.5]), min_size=1, max_size=4),
    count=st.integers(1, 60),
)
def test_counts_follow_the_weights(
    weights: list[float], count: int, arm: TCKR, models: Path, fitted: Fitted
) -> None:
    further = [MixedOptions(seed=n, weight=weight) for n, weight in enumerate(weights[1:])]
    further.append(of(control(models), "unadapted", weight=weights[0]))
    mixed = mixing(arm, *further)
    facts, known = fitted.facts, fitted.artefacts
    made = mixed.with_unfitted([{"adapter": known["adapter"]}] * (len(further) - 1))
    plan = Fitted(mixed, facts, known, mixture=made).plan_prompts(count, SEED)
    shares = np.array(mixed.knowledge_recycling.weights)
    counts = np.bincount(plan[SOURCE], minlength=len(shares))
    assert (np.abs(counts - count * shares / shares.sum()) < len(shares)).all()
    theirs = plan[plan[SOURCE] == len(further)]
    assert theirs["prompt"].tolist() == [facts.class_names[label] for label in theirs["label"]]
    ours = plan[plan[SOURCE] < len(further)]
    assert set(ours["prompt"]) <= set(known["captions"]["prompt"])


def test_the_set_and_its_report_name_the_generators(fitted: Fitted, mixed: TCKR) -> None:
    facts = {"n_members": 24, "class_names": fitted.class_names, "shape": fitted.shape}
    fits = [made for made in fitted.mixture if made]
    table = nodes.generate_images(mixed, fitted.artefacts, facts, SEED, mixture=fits)
    counts = table[SOURCE].value_counts().to_dict()
    assert counts == {"own": 6, "seed 1": 6, "kr": 3, "unadapted": 9}
    assert set(table.loc[table[SOURCE] == "unadapted", "generator"]) == {"base"}
    assert set(table.loc[table[SOURCE] != "unadapted", "generator"]) == {"adapted"}
    told = nodes.describe_drawing(mixed, {}, table)
    assert told["described"] == [
        "4 generators take turns: own 25 %; seed 1 25 %; kr 12 %; unadapted 38 %.",
        "Images by generator: own 6; seed 1 6; kr 3; unadapted 9.",
    ]
    assert told["figures"] == {f"source.{name}": count for name, count in counts.items()}
    with pytest.raises(UserError, match="names 2 further generators to fit, and 1 were"):
        nodes.generate_images(mixed, fitted.artefacts, facts, SEED, mixture=fits[:1])


def test_what_decides_an_arms_images_names_the_drawing(
    arm: TCKR, models: Path, fitted: Fitted
) -> None:
    def name(other: Unadapted, **given: Any) -> str:
        mixed = mixing(arm, of(other, "unadapted", **given))
        return Fitted(mixed, fitted.facts, fitted.artefacts, mixture=({},)).drawing(["a"], SEED)

    plain = control(models)
    slower = mixing(plain, sampling=SAMPLING.model_copy(update={"steps": 3}))
    assert len({name(plain), name(slower), name(plain, weight=2.0), name(plain, seed=4)}) == 4
    busy = mixing(plain, sampling=SAMPLING.model_copy(update={"workers": 2}))
    assert name(busy) == name(plain)
    settings = [
        recipe({"knowledge_recycling": mixing(arm, of(other, "unadapted")).knowledge_recycling})
        for other in (plain, busy, slower)
    ]
    assert settings[0] == settings[1] != settings[2]


def test_an_arm_under_a_ledger_mixes_in_what_touches_no_private_image_alone(
    models: Path, private: PrivateSet
) -> None:
    arm = private_arm(models)
    mixed = mixing(arm, of(control(models), "unadapted"))
    fitted = mixed.fit(private, SEED)
    assert fitted.mixture == ({},)
    assert [entry.name for entry in fitted.artefacts["ledger"]] == ["teacher"]
    declared = {each.what: each.how for each in fitted.artefacts["ledger"].declarations}
    assert declared["generator of unadapted"] == "public"
    plan = fitted.plan_prompts(9, SEED)
    assert plan[SOURCE].tolist() == [0, 1] * 4 + [0]
    table = nodes.generate_images(
        mixed,
        fitted.artefacts,
        {"n_members": 9, "class_names": private.class_names, "shape": (1, 16, 16)},
        SEED,
    )
    assert set(table[SOURCE]) == {"own", "unadapted"}
    for other in (MixedOptions(seed=1), of(kr(models), "kr")):
        with pytest.raises(
            UserError, match=r"mixture\[0\] .*no mechanism of this arm's ledger pays"
        ):
            mixing(arm, other).fit(private, SEED)


def test_what_may_not_be_mixed_is_refused_in_a_line(arm: TCKR, models: Path) -> None:
    def refused(mixing_arm: Any) -> str:
        with pytest.raises(UserError, match=r"^knowledge_recycling\.mixture") as caught:
            mixing_arm.check()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "ledger of its own" in refused(mixing(arm, of(private_arm(models), "private")))
    assert "names its own arm" in refused(mixing(arm, of(arm, "tckr", seed=1)))
    assert "nothing private may reach it" in refused(mixing(control(models), of(arm, "tckr")))
    # Captions of members would be drawn from, which no attack on kr reads.
    assert "draws from prompts of members" in refused(mixing(kr(models), of(arm, "tckr")))
    mixing(kr(models), of(control(models), "unadapted")).check()
    base = mixing(arm, of(control(models), "unadapted"), generator="base")
    base.check()
    with pytest.raises(ValueError, match="unadapted, seed 2 twice"):
        RecyclingOptions(
            mixture=(
                of(control(models), "unadapted", seed=1), of(control(models), "unadapted", seed=2)
            )
        )  # fmt: skip
    with pytest.raises(ValidationError, match="There is no arm 'nobody'"):
        MixedOptions(arm="nobody")
    with pytest.raises(ValidationError, match=r"of arm unadapted, knowledge_recycling.generator"):
        MixedOptions(arm="unadapted", parameters={"knowledge_recycling": {}})
    with pytest.raises(ValidationError, match="none is named"):
        MixedOptions(seed=1, parameters={})


def test_the_parameters_of_an_arm_travel_with_the_mixture(models: Path) -> None:
    own = {"cardinality": 3, "generator": str(models / "generator"), "sampling": {"steps": 2}}
    parameters = {
        "knowledge_recycling": {"mixture": [{"arm": "unadapted", "weight": 2}]},
        "spti": {"knowledge_recycling": {"mixture": [{"arm": "unadapted"}]}},
        "unadapted": {"knowledge_recycling": own, "student_training": {"labels": "hard"}},
        "seed": 0,
    }
    filled = with_arms(parameters, parameters)
    assert parameters["knowledge_recycling"]["mixture"] == [{"arm": "unadapted", "weight": 2}]
    for group in (filled["knowledge_recycling"], filled["spti"]["knowledge_recycling"]):
        (each,) = group["mixture"]
        options = MixedOptions.model_validate(each)
        assert isinstance(options.synthesizer, Unadapted)
        assert options.synthesizer.knowledge_recycling.sampling.steps == 2
        assert options.synthesizer.knowledge_recycling.cardinality == 1  # the set's own counts
        assert MixedOptions.model_validate(options.model_dump(mode="json")) == options
    # An earlier run's stay what they were.
    own["sampling"] = {"steps": 9}
    assert with_arms(filled, parameters) == filled
    assert with_arms({"seed": 1}, parameters) == {"seed": 1}


def test_a_table_of_captions_is_stored_with_a_mixture(tmp_path: Path) -> None:
    from tckr.datasets.artefact import ArtefactDataset

    dataset = ArtefactDataset(filepath=str(tmp_path / "mixture"))
    made = [{"captions": pd.DataFrame({"prompt": ["a"]})}]
    dataset.save(made)
    (loaded,) = dataset.load()
    pd.testing.assert_frame_equal(loaded["captions"], made[0]["captions"])
