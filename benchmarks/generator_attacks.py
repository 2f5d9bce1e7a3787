"""Which white-box signal of a generator finds most? Real LoRA adapters that memorise, each attacked with the others.

    python -m benchmarks.generator_attacks [--images 100] [--shadows 6] [--steps 120] [--out result.json]

The shipped generator is adapted to random halves of public photos (the pool of the arm privimage; no private image, and none of
the sample that the default run is evaluated on, so that nothing is chosen by its figures). Every image is in half of the
adapters. On two cores beside other work an adapter takes some five minutes.
"""

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from tckr.attacks import lira, rmia
from tckr.audit.denoising import calibrated, query_generator
from tckr.audit.membership import membership_matrix
from tckr.audit.options import GeneratorThreat
from tckr.audit.vulnerability import leave_one_out
from tckr.diffusion.lora import adapt
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.pipeline import load
from tckr.metrics import auc_of_runs
from tckr.synthesizers.text_to_image import Source

POOL = "data/01_raw/public/pool.parquet"
GENERATOR = "data/06_models/foundation/generator"
THREAT = GeneratorThreat(
    signals=("loss", "one_query", "pia", "secmi"), timesteps=(0.1, 0.2, 0.3, 0.5), noises=2
)
Signals = Mapping[str, NDArray[np.float64]]


class Photos(NamedTuple):
    """Public photos, uint8 (N, 1, 28, 28), with prompts and categories."""

    pixels: torch.Tensor
    prompts: list[str]
    categories: list[str]


def photos(count: int, seed: int = 0) -> Photos:
    """Draw photos of the pool, in grey, as small as the default's images."""
    table = pd.read_parquet(POOL).sample(count, random_state=seed)

    def grey(image: dict[str, bytes] | bytes) -> torch.Tensor:
        content = image["bytes"] if isinstance(image, dict) else image
        small = Image.open(io.BytesIO(content)).convert("L").resize((28, 28))
        return torch.from_numpy(np.asarray(small))

    names = [str(name).replace("_", " ") for name in table["category"]]
    pixels = torch.stack([grey(image) for image in table["image"]])[:, None]
    return Photos(pixels, [f"{name}: a photo of a {name}" for name in names], names)


def signals(data: Photos, inside: NDArray[np.bool_] | None, steps: int, seed: int) -> Signals:
    """Adapt the generator to the photos inside, or leave it as it is, and ask it about all."""
    options = AdaptationOptions(
        generator=GENERATOR,
        layers="everything",
        class_only=0.05,
        unconditional=0.05,
        flip=True,
        schedule={
            "steps": steps,
            "batch_size": 16,
            "learning_rate": 4e-3,
            "warmup": 0.05,
            "averaging": 0.97,
        },
    )
    adapter = None
    if inside is not None:
        rows = np.flatnonzero(inside).tolist()
        adapter, _ = adapt(
            load(GENERATOR, "cpu", options.resolution),
            data.pixels[rows],
            [data.prompts[row] for row in rows],
            [data.categories[row] for row in rows],
            options,
            seed,
        )
    source, updates = Source(GENERATOR, options.resolution), [] if adapter is None else [adapter]
    queries = THREAT.queries()
    return query_generator(source, updates, data.pixels, data.prompts, device="cpu", **queries)


def compare(
    base: Signals, adapted: Signals, membership: NDArray[np.bool_]
) -> dict[str, dict[str, list[float]]]:
    """Return the AUC of each signal and calibration over the adapters with its interval, percent.

    Args:
        base: (N,) of the generator as it was.
        adapted: (S, N), of each adapter.
        membership: bool (S, N).
    """
    found = {}
    for name, scores in adapted.items():
        ways = {
            "uncalibrated": scores,
            "base generator": np.stack([calibrated(one, base[name]) for one in scores]),
            "shadows, rmia": leave_one_out(scores, membership, rmia),
            "shadows, lira": leave_one_out(
                scores, membership, lambda *arrays: lira(*arrays, variance="global")
            ),
        }
        found[name] = {}
        for way, values in ways.items():
            area = auc_of_runs(values, membership).estimate
            found[name][way] = [round(100 * end, 1) for end in (area.value, area.low, area.high)]
    return found


def main() -> None:
    """Train the adapters, attack each with the others, print and keep the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--shadows", type=int, default=6)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    data = photos(given.images)
    membership = membership_matrix(given.images, given.shadows, 0.5, 0)
    base = signals(data, None, given.steps, 0)
    made = [
        signals(data, inside, given.steps, 101 + number) for number, inside in enumerate(membership)
    ]
    adapted = {name: np.stack([one[name] for one in made]) for name in base}
    result = compare(base, adapted, membership)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
