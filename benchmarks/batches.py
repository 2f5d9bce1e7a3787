"""What the batch of adaptation does to the student: the miniatures on Fashion-MNIST.

    python -m benchmarks.batches [--seeds 0 1 2] [--out batches.json]
    python -m benchmarks.batches --merge seed0.json seed1.json seed2.json   # of one process a seed
    python -m benchmarks.batches --small      # under a minute on a CPU

Large batches fill a card, and take fewer steps for the same passes over the members. Each cell adapts the generator anew,
with a batch, a number of passes and a learning rate of its own, draws as many images as there are members by the sampler
of `conf/base`, and trains a student on them (`study.py`). The learning rate is that of `conf/base` times (batch / its
batch) to a power: 0 leaves it, 1/2 and 1 are the two usual rules. The others are compared with the first cell: by default
the published batch of 4. A learning rate at which the loss diverges for any seed has no student.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import cells, study
from tckr.errors import UserError
from tckr.options import Schedule

KEYS = ("batch", "passes", "power")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell for every seed, or read what was measured; print and save the table."""
    given = _parse(arguments)
    result = study.run(given, KEYS, lambda seed: _measure(seed, given))
    cells.add_means(result, KEYS, ["learning_rate", "optimiser_steps", "seconds", "last_loss"])
    study.save(result, given.out)
    cells.show(result, KEYS, {"learning_rate": ".2g", "optimiser_steps": ",.0f", "seconds": ".1f"})


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    study.options(parser)
    parser.add_argument("--batches", type=int, nargs="+", help="[4 32 128 256]")
    parser.add_argument("--passes", type=int, nargs="+", help="over the members [2 8]")
    parser.add_argument("--powers", type=float, nargs="+", help="[0.5 1]")
    given = parser.parse_args(arguments)
    given.batches = given.batches or ([4, 40] if given.small else [4, 32, 128, 256])
    given.passes = given.passes or ([1] if given.small else [2, 8])
    given.powers = given.powers or ([0.5] if given.small else [0.5, 1.0])
    given.published = _cells(given)[0]
    return given


def _cells(given: argparse.Namespace) -> list[tuple[int, int, float]]:
    return list(product(given.batches, given.passes, given.powers))


def _measure(seed: study.Seed, given: argparse.Namespace) -> Iterator[cells.Run]:
    """One run a cell: accuracy, seconds of adaptation and its last recorded loss."""
    for cell in _cells(given):
        schedule = _schedule(seed.setting, *cell)
        run: cells.Run = {
            **dict(zip(KEYS, cell, strict=True)),
            "learning_rate": schedule.learning_rate,
            "optimiser_steps": schedule.steps,
            "accuracy": None,
        }
        try:
            generator, losses, seconds = seed.adapted(schedule)
        except UserError as error:
            if "diverged" not in error.problem:
                raise
        else:
            images, _ = seed.drawn(generator, seed.setting.recycling.sampling)
            last = float(losses["loss"].tail(5).mean())
            run |= {"seconds": seconds, "last_loss": last, "accuracy": seed.student(images)}
        yield run


def _schedule(setting: study.Setting, batch: int, passes: int, power: float) -> Schedule:
    """That of `conf/base` with another batch; its average covers the same share of the steps."""
    base = setting.adaptation.schedule
    steps = max(1, round(passes * len(setting.members) / batch))
    return base.model_copy(
        update={
            "batch_size": batch,
            "steps": steps,
            "learning_rate": base.learning_rate * (batch / base.batch_size) ** power,
            "averaging": base.averaging ** (base.steps / steps),
        }
    )


if __name__ == "__main__":
    main()
