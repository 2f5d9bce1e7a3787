"""Tiny models and images of the real classes and formats: random, but read by the same code as the shipped ones."""

import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PYPROJECT = """\
[tool.kedro]
package_name = "tckr"
project_name = "tckr"
kedro_init_version = "1.7.0"
source_dir = "."
"""
GLOBALS = """
images: {images}
captioner: models/captioner
generator: models/generator
encoder: {root}/data/06_models/foundation/clip
masked: {root}/data/06_models/foundation/masked
public_pool: {root}/data/01_raw/public/pool.parquet
"""
CLASSES = ("disc", "frame", "stripes")
SIZE = 16


def make_images(folder: Path, count: int, seed: int = 0) -> Path:
    """Write a folder per class of `count` grey PNGs; a class can be told from its shape."""
    from PIL import Image

    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        name = CLASSES[index % len(CLASSES)]
        cx, cy, r = random.uniform(6, 10), random.uniform(6, 10), random.uniform(3, 6)
        distance = np.hypot(x - cx, y - cy)
        shape = {
            "disc": distance < r,
            "frame": (np.maximum(abs(x - cx), abs(y - cy)) < r)
            & (np.maximum(abs(x - cx), abs(y - cy)) > r - 2),
            "stripes": ((x + int(cx)) // 2) % 2 == 0,
        }[name]
        pixels = shape * random.uniform(120, 230) + random.uniform(0, 25, (SIZE, SIZE))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def make_models(folder: Path) -> Path:
    """Write a generator (StableDiffusionPipeline) and a captioner (BLIP-2) of random weights."""
    import torch

    from miniatures import save_captioner, save_generator

    torch.manual_seed(0)
    save_generator(folder / "generator")
    save_captioner(folder / "captioner")
    return folder


def make_project(folder: Path, images: Path) -> Path:
    """Make a project in an empty folder: the real configuration, tiny models, and `images` for its private set."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf/local").mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / ".telemetry").write_text("consent: false\n")
    with (folder / "conf/test/globals.yml").open("a") as file:
        file.write(GLOBALS.format(images=images, root=ROOT))
    make_models(folder / "models")
    return folder
