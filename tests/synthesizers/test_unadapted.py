"""The control makes the same set whoever the members are."""

from pathlib import Path

import pytest
import torch

from tckr.diffusion.options import SamplingOptions
from tckr.errors import UserError
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, class_prompts
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions

COUNT, SEED = 10, 3


def arm(models: Path, workers: int = 1) -> Unadapted:
    options = UnadaptedRecyclingOptions(
        generator=str(models / "generator"),
        sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8, workers=workers),
    )
    return Unadapted(knowledge_recycling=options)


@pytest.fixture(scope="module")
def fitted(models: Path, private: PrivateSet) -> Fitted:
    return arm(models).fit(private.at(range(12)), SEED)


def test_neither_members_nor_a_second_fit_change_the_set(
    models: Path, private: PrivateSet, fitted: Fitted
) -> None:
    once = fitted.sample(COUNT, SEED)
    assert fitted.artefacts == {}
    assert once.images.shape == (COUNT, 1, 16, 16)
    for rows, fit_seed in ((range(12), SEED), (range(12, 24), SEED), (range(24), SEED + 1)):
        again = arm(models).fit(private.at(rows), fit_seed).sample(COUNT, SEED)
        assert torch.equal(once.images, again.images)
        assert torch.equal(once.labels, again.labels)
    assert not torch.equal(once.images, fitted.sample(COUNT, SEED + 1).images)


def test_labels_are_those_of_the_prompts(fitted: Fitted) -> None:
    plan = fitted.plan_prompts(COUNT, SEED)
    assert set(zip(plan["prompt"], plan["label"], strict=True)) == {
        ("bag", 0), ("boot", 1), ("coat", 2)
    }  # fmt: skip
    assert fitted.sample(COUNT, SEED).labels.tolist() == plan["label"].tolist()
    assert Unadapted.label_source == "prompts"
    assert fitted.synthesizer.provenance() == {"generator": "base"}
    assert class_prompts(fitted.class_names)[1] == [0, 1, 2]


def test_every_nested_prefix_is_balanced(fitted: Fitted) -> None:
    labels = fitted.plan_prompts(20, SEED, nested=True)["label"].tolist()
    for size in range(1, 21):
        counts = [labels[:size].count(label) for label in range(3)]
        assert max(counts) - min(counts) <= 1


def test_in_one_process_changes_no_image(models: Path, private: PrivateSet, fitted: Fitted) -> None:
    alone = arm(models, workers=2).in_one_process()
    assert alone == arm(models)
    again = alone.fit(private.at(range(12)), SEED).sample(COUNT, SEED)
    assert torch.equal(again.images, fitted.sample(COUNT, SEED).images)


def test_the_generator_is_loaded_once(
    models: Path, private: PrivateSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tckr.diffusion import pipeline

    loaded, original = [], pipeline.load

    def counted(source: str, *more: object) -> object:
        loaded.append(source)
        return original(source, *more)

    monkeypatch.setattr(pipeline, "load", counted)
    fitted = arm(models).fit(private, SEED)
    fitted.sample(2, SEED)
    fitted.sample(3, SEED)
    assert len(loaded) == 1


def test_arms_are_found_by_name() -> None:
    assert synthesizer_class("unadapted") is Unadapted
    for name in SYNTHESIZERS:
        assert synthesizer_class(name).artefacts() is not None
    with pytest.raises(UserError, match="There is no arm 'gan'"):
        synthesizer_class("gan")
