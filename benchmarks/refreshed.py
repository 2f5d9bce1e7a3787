"""What filtering and fresh images are worth, beside a fixed set of the same size: the miniatures on Fashion-MNIST.

    python -m benchmarks.refreshed [--seeds 0 1 2] [--slices 8] [--labels on_the_fly hard] [--out refreshed.json]
    python -m benchmarks.refreshed --members 1000 --seeds 0      # minutes on two cores
    python -m benchmarks.refreshed --small                       # about a minute

A seed trains a teacher and adapts the generator once (`study.py`). Then, with labels of the teacher and of the prompts, a
student learns from

- `fixed`: as many images as there are members,
- `fixed, S slices`: S times as many, shuffled together: the set that fresh images have to be measured against,
- `fresh, S slices`: the same images, the next slice every epoch (GaFi's Dynamic Dataset Recycle, from a pool),
- `filtered t`: as `fixed`, without what the teacher does not recognise with a probability above t; no student where a class
  cannot be filled so.

All students take as many optimizer steps.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import cells, study
from tckr.classifiers.options import RegenerationOptions
from tckr.diffusion.adapter import Adapter
from tckr.errors import UserError
from tckr.synthesizers.private_set import SyntheticSet

KEYS = ("labels", "set")
FIXED = "fixed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell for every seed, or read what was measured; print and save the table."""
    given = _parse(arguments)
    result = study.run(given, KEYS, lambda seed: _measure(seed, given))
    study.save(result, given.out)
    cells.show(result, KEYS, {})


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    study.options(parser)
    parser.add_argument("--slices", type=int, help="of the pool of fresh images [8]")
    parser.add_argument("--thresholds", type=float, nargs="*", help="of the filter [0 0.5 0.9]")
    parser.add_argument("--labels", nargs="+", help="[on_the_fly hard]")
    given = parser.parse_args(arguments)
    given.slices = given.slices or (2 if given.small else 8)
    if given.thresholds is None:
        given.thresholds = [0.0] if given.small else [0.0, 0.5, 0.9]
    given.labels = given.labels or ["on_the_fly", "hard"]
    given.published = (given.labels[0], FIXED)
    return given


def _measure(seed: study.Seed, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One run a cell: accuracy and number of images."""
    _, adapter, _, _ = seed.adapter()
    slices = given.slices
    pool = seed.recycled(adapter, slices=slices)
    fresh = RegenerationOptions(slices=slices)
    sets: dict[str, tuple[SyntheticSet | None, RegenerationOptions | None]] = {
        FIXED: (seed.recycled(adapter), None),
        f"fixed, {slices} slices": (pool, None),
        f"fresh, {slices} slices": (pool, fresh),
    }
    for threshold in given.thresholds:
        sets[f"filtered {threshold:g}"] = _filtered(seed, adapter, threshold)
    for labels in given.labels:
        for name, (drawn, regenerate) in sets.items():
            accuracy, images = None, 0
            if drawn is not None:
                accuracy = seed.student(*drawn, source=labels, regenerate=regenerate)
                images = len(drawn.images)
            yield {"labels": labels, "set": name, "images": images, "accuracy": accuracy}


def _filtered(
    seed: study.Seed, adapter: Adapter, threshold: float
) -> tuple[SyntheticSet | None, None]:
    try:
        return seed.recycled(adapter, filter={"threshold": threshold}), None
    except UserError as error:  # a class cannot be filled
        logging.getLogger(__name__).warning("%s", error)
        return None, None


if __name__ == "__main__":
    main()
