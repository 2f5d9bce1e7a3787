"""Several generators take turns by their weights; each draws what it would draw alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.datasets.artefact import ArtefactDataset
from tckr.diffusion.adapter import Adapter
from tckr.errors import UserError
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.mixture import MixedOptions, interleaved, turns
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.recycling import RecyclingOptions
from tckr.synthesizers.tckr import TCKR
from tckr.synthesizers.unadapted import Unadapted, UnadaptedRecyclingOptions

SEED, FIRST, SECOND = 3, range(12), range(12, 24)


@settings(deadline=None)  # the machine may be busy
@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=5), count=st.integers(1, 300))
def test_every_prefix_has_its_proportions(weights: list[float], count: int) -> None:
    drawn = turns(weights, count)
    shares = np.array(weights) / sum(weights)
    for number in (1, count // 2, count):
        counts = np.bincount(drawn[:number], minlength=len(weights))
        assert (np.abs(counts - shares * number) < len(weights)).all()
    assert turns(weights, count + 50)[:count].tolist() == drawn.tolist()


def test_turns_do_not_depend_on_batches() -> None:
    turn = turns([1, 2], 700)
    numbers = [torch.arange(count) for count in np.bincount(turn)]
    sources = [values.split(size) for values, size in zip(numbers, (7, 300), strict=True)]
    mixed = torch.cat(list(interleaved(sources, turn)))
    for which in (0, 1):
        assert torch.equal(mixed[torch.from_numpy(turn == which)], numbers[which])


@pytest.fixture(scope="module")
def mixing(arm: TCKR) -> TCKR:
    mixture = (MixedOptions(seed=1, weight=2.0),)
    recycling = arm.knowledge_recycling.model_copy(update={"mixture": mixture})
    return arm.model_copy(update={"knowledge_recycling": recycling})


@pytest.fixture(scope="module")
def fitted(mixing: TCKR, private: PrivateSet) -> Fitted:
    return mixing.fit(private.at(FIRST), SEED)


def test_each_generator_is_fitted_with_its_own_seed_and_draws_its_own_images(
    arm: TCKR, private: PrivateSet, fitted: Fitted
) -> None:
    (further,) = fitted.mixture
    assert set(further) == {"adapter"}  # captions are shared, losses are of no use
    weights = [a.weights for a in (fitted.artefacts["adapter"], further["adapter"])]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    prompts = fitted.plan_prompts(12, SEED)["prompt"].tolist()
    mixed = torch.cat(list(fitted.draw(prompts, SEED)))
    turn = fitted.turns(12)
    assert Counter(turn.tolist()) == {0: 4, 1: 8}
    seed = MixedOptions(seed=1).seed_of(SEED)
    known = {"captions": fitted.artefacts["captions"]}
    alone = (
        arm.fit(private.at(FIRST), SEED, known=known),
        arm.fit(private.at(FIRST), seed, known=known),
    )
    for which, (generator, own_seed) in enumerate(zip(alone, (SEED, seed), strict=True)):
        own = [prompts[number] for number in np.flatnonzero(turn == which)]
        expected = torch.cat(list(generator.draw(own, own_seed)))
        assert torch.equal(mixed[torch.from_numpy(turn == which)], expected)
    for start in (1, 5, 11):
        rest = torch.cat(list(fitted.draw_from(start, prompts, SEED)))
        assert torch.equal(rest, mixed[start:])


def test_a_mixture_of_other_members_differs_and_closed_channels_close_all(
    mixing: TCKR, private: PrivateSet, fitted: Fitted
) -> None:
    elsewhere = mixing.fit(private.at(SECOND), SEED)
    here, there = (f.sample(9, SEED).images for f in (fitted, elsewhere))
    assert (here != there).flatten(1).any(1).all()
    here, there = (f.sample(9, SEED, closed=TCKR.channels).images for f in (fitted, elsewhere))
    assert torch.equal(here, there)


def test_a_mixture_is_stored_and_names_its_drawing(fitted: Fitted, tmp_path: Path) -> None:
    dataset = ArtefactDataset(filepath=str(tmp_path / "mixture"))
    dataset.save(list(fitted.mixture))
    (loaded,) = dataset.load()
    adapter, stored = fitted.mixture[0]["adapter"], loaded["adapter"]
    assert isinstance(stored, Adapter)
    for name, weight in adapter.weights.items():
        assert torch.equal(stored.weights[name], weight)
    none = ArtefactDataset(filepath=str(tmp_path / "none"))
    none.save([])
    assert none.load() == []
    other = [{"adapter": fitted.artefacts["adapter"]}]
    changed = Fitted(fitted.synthesizer, fitted.facts, fitted.artefacts, mixture=other)
    assert changed.drawing(["a"], SEED) != fitted.drawing(["a"], SEED)


def test_what_cannot_be_mixed_is_refused(mixing: TCKR) -> None:
    seed = MixedOptions(seed=1)
    with pytest.raises(ValueError, match="mixture has seed 1 twice"):
        RecyclingOptions(mixture=(seed, seed))
    with pytest.raises(ValueError, match="a seed of its own, or another arm"):
        MixedOptions(weight=2.0)
    nothing = Unadapted(
        knowledge_recycling=UnadaptedRecyclingOptions(generator="any", mixture=(seed,))
    )
    with pytest.raises(UserError, match="fits no generator"):
        nothing.check()
    recycling = mixing.knowledge_recycling.model_copy(update={"generator": "base"})
    with pytest.raises(UserError, match="adapts none"):
        mixing.model_copy(update={"knowledge_recycling": recycling}).check()
    assert RecyclingOptions(mixture=(MixedOptions(seed=1, weight=3.0),)).described() == [
        "2 generators take turns: own 25 %; seed 1 75 %."
    ]
