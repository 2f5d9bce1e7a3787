"""The foundation pipeline from public files to folders that load, in one go and in pieces."""

import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from PIL import Image, ImageDraw
from scripts.caption_retrieval import clip_similarity

from tckr.cli import run
from tckr.diffusion import pipeline as generator
from tckr.diffusion.embeddings import encode_prompts
from tckr.text import captioner, masked
from tckr.text.clip import load_clip

pytestmark = pytest.mark.slow
MODELS = "data/test/06_models/foundation"
UNFINISHED = "data/test/02_intermediate/foundation"
STEPS = {"autoencoder": 2, "denoiser": 3, "captioner": 2, "clip": 2, "masked": 2}
COLOURS = ("red", "green", "navy", "orange")


def photo(random: np.random.Generator) -> bytes:
    file = BytesIO()
    Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def drawing(file: Path, colour: str, side: int, inset: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGBA", (side, side))
    ImageDraw.Draw(picture).ellipse((inset, 2 * inset, side - inset, side - inset), fill=colour)
    picture.save(file)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made-up public files, laid out as the downloaded ones are."""
    folder, random = tmp_path_factory.mktemp("public"), np.random.default_rng(0)
    pd.DataFrame(
        [
            {"split": split, "label": label, "image": photo(random)}
            for split in ("train", "test")
            for label in ("cat", "frog")
            for _ in range(6)
        ]
    ).to_parquet(folder / "photos.parquet")
    entries = []
    for index, colour in enumerate(COLOURS):
        drawing(folder / f"clip_art/food/{colour}_fruit_01.png", colour, 60, index)
        entry = {"name": f"{colour} circle", "image": f"{index}.png"}
        entries.append(entry | {"category": "Symbols", "subcategory": "geometric"})
        for inset, style in enumerate(("google", "twitter"), 5):
            drawing(folder / f"emoji/img/{style}/64/{index}.png", colour, 64, index + inset)
    (folder / "emoji/emoji.json").write_text(json.dumps(entries))
    captions = [
        f"{number} {colour} {thing} {place}"
        for number in ("one", "two", "three", "many", "no")
        for colour in COLOURS
        for thing in ("shirts", "boots", "bags", "coats")
        for place in ("on a table", "in a shop", "on a white wall")
    ]
    pd.DataFrame({"caption": captions[:200]}).to_parquet(folder / "captions.parquet")
    return {
        "photos": folder / "photos.parquet",
        "clip_art": folder / "clip_art",
        "emoji": folder / "emoji",
        "sentences": folder / "captions.parquet",
    }


def foundation(project: Path, sources: dict[str, Path], *more: str) -> Any:
    told = ",".join([*(f"foundation.{key}={path}" for key, path in sources.items()), *more])
    arguments = ["--env=test", "--pipeline=foundation", f"--params={told}"]
    return CliRunner().invoke(run, arguments, obj=bootstrap_project(project))


@pytest.fixture
def clean(inside: Path) -> Path:
    """The temporary project without what an earlier run of this pipeline left."""
    for left in (MODELS, UNFINISHED):
        shutil.rmtree(inside / left, ignore_errors=True)
    return inside


def steps_of(project: Path) -> dict[str, int]:
    losses = json.loads((project / MODELS / "losses.json").read_text())
    assert all(np.isfinite(curve["loss"]).all() for curve in losses.values())
    return {name: curve["step"][-1] for name, curve in losses.items()}


def test_public_files_become_four_models_that_load(clean: Path, sources: dict[str, Path]) -> None:
    done = foundation(clean, sources)

    assert done.exit_code == 0, done.output
    assert steps_of(clean) == STEPS
    assert not list((clean / UNFINISHED).iterdir())
    folder = clean / MODELS
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "generator", "captioner", "clip", "masked",
    }  # fmt: skip
    pictures = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    painter = generator.load(str(folder / "generator"))
    speaker = captioner.load(str(folder / "captioner"))
    options = captioner.CaptionOptions(captioner=str(folder / "captioner"), max_new_tokens=3)
    matcher = load_clip(folder / "clip")
    assert generator.side(painter) == 16
    assert encode_prompts(painter, ["a bag"]).encoder_hidden_states.shape == (1, 32, 32)
    assert len(captioner.caption(speaker, pictures, options)) == 2
    assert clip_similarity(matcher, pictures, ["a bag"]).shape == (2, 1)
    assert len(masked.vary(*masked.load(folder / "masked"), ["a bag"], 0.5, 1.0, 0)) == 1


def stopped_at(project: Path, sources: dict[str, Path]) -> tuple[str, int, int]:
    """What a run with no time at all was doing: the part, steps done, steps in all."""
    paused = foundation(project, sources, "foundation.minutes=1e-9")
    assert paused.exit_code == 1
    assert "Traceback" not in paused.output
    (line,) = [line for line in paused.output.splitlines() if line.startswith("Error: ")]
    assert line.endswith("Remedy: run the same command again: it resumes from there.")
    part, done, steps = re.findall(r"Paused '(.+)' after step (\d+) of (\d+);", line)[0]
    return part, int(done), int(steps)


def test_a_run_that_ran_out_of_time_goes_on(clean: Path, sources: dict[str, Path]) -> None:
    first, done, steps = stopped_at(clean, sources)
    (state,) = (clean / UNFINISHED).rglob("*.checkpoint")
    assert (done, steps) == (1, STEPS[state.stem])
    others = [stopped_at(clean, sources) for _ in range(steps)]

    # One step a run: the first part was ended, and the next begun; no run began anything anew.
    assert [stop[:2] for stop in others[: steps - 2]] == [(first, n) for n in range(2, steps)]
    assert first not in {part for part, _, _ in others[steps - 2 :]}
    assert not (clean / MODELS / "losses.json").exists()

    # A loss that no training gives marks the finished part: it stays only if nothing is trained again.
    saved = torch.load(state, weights_only=True)
    saved["state"]["rows"][0]["loss"] = 4242.0
    torch.save(saved, state)
    finished = foundation(clean, sources)

    assert finished.exit_code == 0, finished.output
    assert steps_of(clean) == STEPS
    losses = json.loads((clean / MODELS / "losses.json").read_text())
    assert [name for name, curve in losses.items() if 4242.0 in curve["loss"]] == [state.stem]
    assert not list((clean / UNFINISHED).iterdir())
