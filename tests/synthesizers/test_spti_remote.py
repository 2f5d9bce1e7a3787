"""SPTI with a language model and an image model behind an endpoint: what leaves the process, and what a broken run pays twice."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from endpoints import Endpoint, traffic
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import SamplingOptions
from tckr.dp import EvolutionOptions
from tckr.engine import released
from tckr.errors import UserError
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.spti import Spti, SptiBudget, SptiDrawingOptions, VotingOptions
from tckr.synthesizers.tckr import TCKR
from tckr.text.options import CaptionOptions
from tckr.text.sources.options import TextSourceOptions

SEED = 3
EVOLUTION = EvolutionOptions(population=2, variations=2, iterations=3)


def arm(server: Endpoint, folder: Path, models: Path, by: str = "images", **changed: Any) -> Spti:
    paid = traffic(folder)
    endpoint = {"base_url": server.base_url, "model": "any"}
    remote = {"kind": "openai", "endpoint": endpoint, "traffic": paid}
    return Spti(
        privacy=SptiBudget(epsilon=500.0, votes=0.9, teacher=0.1, noise_seed=0),
        text=TextSourceOptions.model_validate(remote),
        evolution=EVOLUTION,
        voting=VotingOptions(
            by=by, encoder="data/06_models/foundation/clip", checkpoints=str(folder / "votes")
        ),
        captioning=CaptionOptions(captioner=str(models / "captioner"), max_new_tokens=4),
        private_teacher=PrivateTeacherOptions(steps=3),
        classifier=ClassifierOptions(
            widths=(4,), epochs=2, batch_size=8, augmentation=AugmentationOptions(flip=False)
        ),
        knowledge_recycling=SptiDrawingOptions.model_validate(
            {
                "generator": str(models / "generator"),
                "sampling": SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8),
                "renderer": {**remote, "size": "64x48"},
            }
        ),
        **changed,
    )


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    released._released.clear()


def sent(server: Endpoint) -> tuple[list[str], list[str]]:
    """What the language model was asked last in each request, and what the image model was."""
    asked = [one["messages"][-1]["content"] for one in server.requests if "messages" in one]
    return asked, [one["prompt"] for one in server.requests if "prompt" in one]


def check_all_derived(server: Endpoint, names: Sequence[str]) -> None:
    """Every text was public from the start, or made of what the server itself had written."""
    written = set(server.written)
    words = {word for text in written for word in re.findall(r"\w+", text)}
    asked, drawn = sent(server)
    assert asked
    for text in asked:
        instruction, _, caption = text.rpartition("Caption: ")
        if not instruction:
            assert text.startswith("Write a very short description of a photograph of the class")
            continue
        assert set(re.findall(r"[^\W_]+", caption)) <= words
        assert re.findall(r'class "(\w+)"', instruction)[0] in names
    for prompt in drawn:
        name, _, description = prompt.partition(": ")
        assert name in names
        assert description in written


def test_nothing_leaves_but_what_was_public_or_follows_from_noisy_votes(
    server: Endpoint, tmp_path: Path, models: Path, private: PrivateSet
) -> None:
    spti = arm(server, tmp_path, models)
    fitted = spti.fit(private, SEED)
    images = torch.cat(list(spti.draw(fitted, fitted.artefacts["population"]["prompt"], 1)))
    assert images.shape == (6, 1, 16, 16)
    check_all_derived(server, private.class_names)
    # The first candidates are random, and of the later ones none is varied that noisy votes did not keep.
    generations = fitted.artefacts["generations"]
    kept = generations[generations["rank"] >= 0]
    asked, _ = sent(server)
    varied = [text for text in asked if "Caption: " in text]
    assert (
        len(varied) == (EVOLUTION.iterations - 1) * 3 * EVOLUTION.population * EVOLUTION.variations
    )
    patterns = [
        re.sub(r"\w+", r"(\g<0>|_)", prompt.partition(": ")[2])
        for prompt in kept.loc[kept["iteration"] < EVOLUTION.iterations, "prompt"]
    ]
    for text in varied:
        assert any(re.fullmatch(each, text.rpartition("Caption: ")[2]) for each in patterns)


def test_words_of_private_captions_that_vote_are_never_sent(
    server: Endpoint,
    tmp_path: Path,
    models: Path,
    private: PrivateSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted = [f"quixotry{row} zyzzyva{row}" for row in range(len(private.labels))]

    def captions(self: TCKR, private: PrivateSet, *_: object) -> tuple[pd.DataFrame]:
        return (pd.DataFrame({"caption": planted[: len(private.labels)]}),)

    monkeypatch.setattr(TCKR, "caption_members", captions)
    spti = arm(server, tmp_path, models, by="captions")
    spti.fit(private, SEED)
    assert server.requests
    assert "quixotry" not in server.texts
    assert "zyzzyva" not in server.texts
    check_all_derived(server, private.class_names)
    # The test can fail: the same server would have received them.
    from tckr.text.sources.registry import text_source

    with pytest.raises(released.UnreleasedTextError):
        text_source(spti.text).vary([f"bag: {planted[0]}"], ["bag"], seed=0)
    released.release([f"bag: {planted[0]}"], "public")
    text_source(spti.text.model_copy(update={"share": 1e-9})).vary(
        [f"bag: {planted[0]}"], ["bag"], seed=0
    )
    assert "quixotry0" in server.texts or "zyzzyva0" in server.texts


@pytest.mark.parametrize("life", [10, 50])
def test_a_run_that_breaks_anywhere_goes_on_and_repeats_no_request(
    server: Endpoint, tmp_path: Path, models: Path, private: PrivateSet, life: int
) -> None:
    whole = arm(server, tmp_path / "whole", models).fit(private, SEED).artefacts["population"]
    once, total = Counter(server.answered), len(server.requests)
    server.requests.clear()
    server.answered.clear()
    assert life < total
    server.life = life
    with pytest.raises(UserError, match="does not answer"):
        arm(server, tmp_path, models).fit(private, SEED)
    server.life = None
    released._released.clear()
    resumed = arm(server, tmp_path, models).fit(private, SEED).artefacts["population"]
    pd.testing.assert_frame_equal(resumed, whole)
    # Samples of one prompt for an image share their body; none was asked for more often than in the run that was whole.
    assert server.answered == once
