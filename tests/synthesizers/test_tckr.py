"""TCKR makes its set from the members it is given and the seed, and from nothing else."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, SyntheticSet
from tckr.synthesizers.tckr import TCKR
from tckr.text import captioner

FIRST, SECOND = range(12), range(12, 24)
COUNT, SEED = 10, 3


@pytest.fixture(scope="session")
def fitted(arm: TCKR, private: PrivateSet) -> Fitted:
    """The arm on the first half of the images."""
    return arm.fit(private.at(FIRST), SEED)


@pytest.fixture(scope="session")
def elsewhere(arm: TCKR, private: PrivateSet) -> Fitted:
    """The arm on the second half."""
    return arm.fit(private.at(SECOND), SEED)


def equal(one: SyntheticSet, other: SyntheticSet) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_fit_makes_what_the_steps_say(fitted: Fitted) -> None:
    assert tuple(fitted.artefacts) == TCKR.artefacts()
    assert TCKR.artefacts(per_image=True) == ("captions",)
    assert TCKR.artefacts(per_image=False) == ("adapter", "adaptation_losses")
    captions, losses = fitted.artefacts["captions"], fitted.artefacts["adaptation_losses"]
    assert captions["class_name"].tolist() == ["bag", "coat"] * 6
    assert (captions["prompt"] == captions["class_name"] + ": " + captions["caption"]).all()
    assert losses["step"].max() <= 4


def test_captioning_by_itself_resumes_too(
    arm: TCKR, private: PrivateSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of the images an audit queries: no node gives it a place for unfinished work."""
    given = {"checkpoints": str(tmp_path / "captions"), "shard": 8}
    captioning = arm.captioning.model_copy(update=given)
    kept = arm.model_copy(update={"captioning": captioning})
    (whole,) = arm.caption_members(private, {}, SEED, "cpu")
    save, saved = captioner._Shard.save, []

    def killed(shard: Any, *arguments: Any) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(shard.name)
        save(shard, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(captioner._Shard, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.caption_members(private, {}, SEED, "cpu")
    monkeypatch.setattr(
        captioner._Shard,
        "save",
        lambda shard, *more: saved.append(shard.name) or save(shard, *more),
    )
    (resumed,) = kept.caption_members(private, {}, SEED, "cpu")
    assert len(saved) == len(set(saved)) > 1  # none was captioned twice
    pd.testing.assert_frame_equal(resumed, whole)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_same_members_and_seed_give_the_same_set(
    arm: TCKR, private: PrivateSet, fitted: Fitted
) -> None:
    once = fitted.sample(COUNT, SEED)
    again = arm.fit(private.at(FIRST), SEED).sample(COUNT, SEED)
    assert once.images.shape == (COUNT, 1, 16, 16)
    assert once.images.dtype == torch.uint8
    assert once.labels.tolist().count(0) == once.labels.tolist().count(2) == COUNT // 2
    assert equal(once, again)
    assert not torch.equal(once.images, fitted.sample(COUNT, SEED + 1).images)


def test_other_members_give_other_images(fitted: Fitted, elsewhere: Fitted) -> None:
    # The captions of a model with random weights may be alike; the adapter differs all the same.
    for closed in ((), ("captions",)):
        here, there = (f.sample(COUNT, SEED, closed=closed) for f in (fitted, elsewhere))
        assert not torch.equal(here.images, there.images)


def test_other_captions_alone_give_other_images(fitted: Fitted) -> None:
    captions = fitted.artefacts["captions"]
    reworded = captions.assign(prompt=[f"a tall grey boot {i}" for i in range(len(captions))])
    other = Fitted(
        fitted.synthesizer,
        fitted.facts,
        {**fitted.artefacts, "captions": reworded},
    )
    here, there = (f.sample(COUNT, SEED, closed=("adapter",)) for f in (fitted, other))
    assert not torch.equal(here.images, there.images)


def test_with_all_channels_closed_no_member_reaches_the_set(
    fitted: Fitted, elsewhere: Fitted
) -> None:
    here, there = (f.sample(COUNT, SEED, closed=TCKR.channels) for f in (fitted, elsewhere))
    assert equal(here, there)
    assert not torch.equal(here.images, fitted.sample(COUNT, SEED).images)


def test_a_closed_channel_is_the_control_of_that_name(arm: TCKR, fitted: Fitted) -> None:
    """Closing a channel gives what the option gives that closes it for the target."""
    for closed, option in (
        ("adapter", {"generator": "base"}),
        ("captions", {"prompts": "class_names"}),
    ):
        recycling = arm.knowledge_recycling.model_copy(update=option)
        control = Fitted(
            arm.model_copy(update={"knowledge_recycling": recycling}),
            fitted.facts,
            fitted.artefacts,
        )
        assert equal(control.sample(COUNT, SEED), fitted.sample(COUNT, SEED, closed=(closed,)))
    assert arm.provenance() == {"generator": "adapted"}


def test_known_captions_are_not_made_again(
    arm: TCKR, private: PrivateSet, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_captioner(*_: object) -> None:
        raise AssertionError("the captioner was loaded")

    monkeypatch.setattr("tckr.text.captioner.load", no_captioner)
    known = {"captions": fitted.artefacts["captions"]}
    again = arm.fit(private.at(FIRST), SEED, known=known)
    assert again.artefacts["captions"] is known["captions"]
    assert equal(again.sample(COUNT, SEED), fitted.sample(COUNT, SEED))
    with pytest.raises(AssertionError, match="loaded"):
        arm.fit(private.at(FIRST), SEED)


def test_a_caption_depends_on_its_image_alone(
    arm: TCKR, private: PrivateSet, fitted: Fitted, elsewhere: Fitted
) -> None:
    """Which is what lets shadows read their own rows of one table."""
    (together,) = arm.caption_members(private, {}, SEED, "cpu")
    parts = pd.concat([f.artefacts["captions"]["prompt"] for f in (fitted, elsewhere)])
    assert together["prompt"].tolist() == parts.tolist()


def test_every_nested_prefix_is_balanced(fitted: Fitted) -> None:
    labels = fitted.plan_prompts(20, SEED, nested=True)["label"].to_numpy()
    for size in range(1, 21):
        prefix = labels[:size].tolist()
        assert abs(prefix.count(0) - prefix.count(2)) <= 1
    drawn = fitted.sample(20, SEED, nested=True)
    assert drawn.labels.tolist() == labels.tolist()


def test_in_one_process_changes_no_image(arm: TCKR, fitted: Fitted) -> None:
    sampling = arm.knowledge_recycling.sampling.model_copy(update={"workers": 2})
    recycling = arm.knowledge_recycling.model_copy(update={"sampling": sampling})
    alone = arm.model_copy(update={"knowledge_recycling": recycling}).in_one_process()
    assert alone.knowledge_recycling.sampling.workers == 1
    assert alone.in_one_process() == alone
    worker = Fitted(alone, fitted.facts, fitted.artefacts, fitted.device)
    assert equal(worker.sample(COUNT, SEED), fitted.sample(COUNT, SEED))


def test_the_duration_of_a_fit_is_estimated(arm: TCKR, private: PrivateSet, fitted: Fitted) -> None:
    known = {"captions": fitted.artefacts["captions"]}
    seconds, brief = arm.estimate_fit(private.at(FIRST), known, "cpu")
    assert seconds > 0
    assert brief.sample(2, SEED).images.shape == (2, 1, 16, 16)


def test_adapters_on_the_way_can_be_chosen_and_shadows_stop_there(
    arm: TCKR, private: PrivateSet, tmp_path: Path
) -> None:
    from tckr.datasets.adapter import AdapterDataset
    from tckr.synthesizers.choice import Choice

    training = arm.generator_adaptation.model_copy(update={"snapshots": 2})
    several = arm.model_copy(update={"generator_adaptation": training})
    fitted = several.fit(private.at(FIRST), SEED)
    assert several.candidates(fitted.artefacts) == {0: 2, 1: 4}
    assert arm.candidates({"adapter": fitted.artefacts["adapter"].at(1)}) == {}

    stored = AdapterDataset(filepath=str(tmp_path / "adapter"))
    stored.save(fitted.artefacts["adapter"])
    artefacts = {**fitted.artefacts, "adapter": stored.load()}

    def drawn(number: int | None) -> SyntheticSet:
        chosen = several.with_choice(Choice(snapshot=number))
        return Fitted(chosen, fitted.facts, artefacts).sample(COUNT, SEED)

    last = arm.fit(private.at(FIRST), SEED).sample(COUNT, SEED)
    assert equal(drawn(1), last)
    assert equal(drawn(None), last)
    assert not equal(drawn(0), last)
    shadow = several.with_choice(Choice(snapshot=0)).fit(private.at(FIRST), SEED)
    assert shadow.artefacts["adapter"].numbers == [0]
    assert equal(shadow.sample(COUNT, SEED), drawn(0))
