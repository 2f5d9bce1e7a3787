"""KR: its snapshots, what is chosen of them and how, and that shadows repeat the choice."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.diffusion.options import FinetuningOptions, SamplingOptions
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import UserError
from tckr.options import Schedule
from tckr.synthesizers.choice import (
    Choice,
    ChoiceOptions,
    TuningOptions,
    choose,
    the_last,
)
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.kr import KR, KRDrawingOptions
from tckr.synthesizers.private import Private
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.students import Examiner

SEED = 3


@pytest.fixture(scope="module")
def kr(models: Path) -> KR:
    return KR(
        generator_adaptation=FinetuningOptions(
            generator=str(models / "generator"),
            schedule=Schedule(steps=6, batch_size=4, learning_rate=1e-2),
            snapshots=4,
        ),
        generator_choice=ChoiceOptions(
            share=0.5, tuning=TuningOptions(trials=2, filter_threshold=(0.0, 0.2))
        ),
        knowledge_recycling=KRDrawingOptions(
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8)
        ),
    )


@pytest.fixture(scope="module")
def fitted(kr: KR, private: PrivateSet) -> Fitted:
    return kr.fit(private, SEED)


@pytest.fixture
def examiner(fitted: Fitted, private: PrivateSet, tmp_path: Path) -> Examiner:
    from tckr.classifiers.distillation import train_teacher

    recipe = ClassifierOptions(widths=(8,), batch_size=8)
    teacher = train_teacher(private.images, private.labels, recipe, 0, 3, steps=3)
    return Examiner(
        fitted.artefacts,
        fitted.facts,
        teacher,
        recipe,
        3,
        DistillationOptions(),
        (private.images[:9], private.labels[:9]),
        SEED,
        scores=Checkpoints(tmp_path / "choice"),
        study=tmp_path / "choice",
    )


def test_the_chosen_snapshot_is_the_one_that_is_sampled(kr: KR, fitted: Fitted) -> None:
    def drawn(choice: Choice) -> torch.Tensor:
        arm = kr.with_choice(choice)
        return Fitted(arm, fitted.facts, fitted.artefacts).sample(6, SEED).images

    first, last = drawn(Choice(snapshot=0)), drawn(Choice(snapshot=3))
    assert not torch.equal(first, last)
    assert torch.equal(last, fitted.sample(6, SEED).images)  # without a choice the last
    wider = Choice(snapshot=3, sampling={"initial_noise_scale": 1.5})
    assert not torch.equal(last, drawn(wider))


def test_a_shadow_trains_up_to_the_chosen_snapshot_alone(
    kr: KR, private: PrivateSet, fitted: Fitted
) -> None:
    choice = Choice(snapshot=1, sampling={"guidance_scale": 2.0}, filter={"threshold": 0.1})
    chosen = kr.with_choice(choice)
    shadow = chosen.in_one_process().fit(private, SEED)
    assert shadow.artefacts["snapshots"].numbers == [1]
    assert shadow.artefacts["finetuning_losses"]["step"].max() == 3
    target = Fitted(chosen, fitted.facts, fitted.artefacts)
    without = {"closed": ("filter",)}  # there is no teacher here
    assert torch.equal(
        shadow.sample(6, SEED, **without).images, target.sample(6, SEED, **without).images
    )
    assert chosen.knowledge_recycling.sampling.guidance_scale == 2.0
    assert chosen.knowledge_recycling.filter.threshold == 0.1


def test_with_the_channel_closed_no_member_shaped_the_images(
    kr: KR, private: PrivateSet, fitted: Fitted
) -> None:
    elsewhere = kr.fit(private.at(range(12)), SEED)
    here, there = (f.sample(6, SEED, closed=kr.channels).images for f in (fitted, elsewhere))
    assert torch.equal(here, there)
    assert not torch.equal(fitted.sample(6, SEED).images, elsewhere.sample(6, SEED).images)


def test_the_choice_is_that_of_the_best_students(kr: KR, examiner: Examiner) -> None:
    choice, students = choose(kr, kr.generator_choice, examiner)
    rounds = students[students["part"] == "snapshot"].groupby("round")
    assert sorted(rounds.get_group(0)["snapshot"]) == [0, 1, 2, 3]
    assert rounds.size().tolist() == [4, 2]
    order = ["accuracy", "loss"]
    for turn, rows in rounds:
        best = rows.sort_values(order, ascending=[False, True], kind="stable")["snapshot"]
        going_on = [choice.snapshot] if turn == 1 else rounds.get_group(1)["snapshot"].tolist()
        assert set(best.head(len(going_on))) == set(going_on)
    trials = students[students["part"] == "tuning"]
    assert trials["trial"].nunique() == 2
    assert (students["images"] <= 24).all()
    assert students["seconds"].gt(0).all()


def test_a_killed_choice_goes_on_where_it_stood_and_ends_with_the_same(
    kr: KR, examiner: Examiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    whole, students = choose(kr, kr.generator_choice, examiner)
    examine, examined = Examiner._examine, []
    for stop in (3, 8):
        del examined[:]
        place = {"scores": Checkpoints(tmp_path / f"killed_{stop}"), "study": tmp_path / f"{stop}"}

        def killed(self: Examiner, *given: Any) -> Any:
            if len(examined) == stop:  # noqa: B023
                raise KeyboardInterrupt
            examined.append(given[1:])
            return examine(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Examiner, "_examine", killed)
            with pytest.raises(KeyboardInterrupt):
                choose(kr, kr.generator_choice, replace(examiner, **place, drawn={}, loaded={}))
        with monkeypatch.context() as patch:
            patch.setattr(
                Examiner, "_examine", lambda self, *g: examined.append(g[1:]) or examine(self, *g)
            )
            again = replace(examiner, **place, drawn={}, loaded={})
            choice, rows = choose(kr, kr.generator_choice, again)
        assert choice == whole
        assert len(examined) == len(set(examined))  # no student was trained twice
        told = ["part", "round", "trial", "snapshot", "sampling", "images", "accuracy", "loss"]
        assert rows[told].equals(students[told])


def test_without_a_choice_it_is_the_last_snapshot(kr: KR, examiner: Examiner) -> None:
    last = ChoiceOptions(snapshots="last")
    choice, students = choose(kr, last, examiner)
    assert choice == the_last(kr, examiner.artefacts) == Choice(snapshot=3)
    assert students.empty
    assert last.nothing
    assert not kr.generator_choice.nothing


def test_nothing_can_be_chosen_without_validation_images(kr: KR, examiner: Examiner) -> None:
    from dataclasses import replace

    nothing = (examiner.validation[0][:0], examiner.validation[1][:0])
    with pytest.raises(UserError, match="no validation image"):
        choose(kr, kr.generator_choice, replace(examiner, validation=nothing))


def test_an_arm_with_a_ledger_may_not_choose(examiner: Examiner) -> None:
    private_arm = Private.model_construct()
    with pytest.raises(UserError, match="nothing in its ledger pays"):
        choose(private_arm, ChoiceOptions(), examiner)
