"""Tiny models and images of the real classes and formats: random, but read by the same code as the shipped ones."""

from pathlib import Path

import numpy as np

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
