"""How few sampling steps, and how little guidance, still give as good a student: the miniatures on Fashion-MNIST.

    python -m benchmarks.students [--seeds 0 1 2] [--steps 4 6 10 20] [--guidance 1 1.5 2 4] [--out students.json]
    python -m benchmarks.students --interval 0.2 0.8      # guided there only
    python -m benchmarks.students --merge seed0.json seed1.json seed2.json   # of one process a seed, on several GPUs
    python -m benchmarks.students --small      # under a minute on a CPU

A seed trains a teacher and adapts the generator once; then each cell draws as many images as there are members, from the
same prompts and first noise, and trains a student on them (`study.py`). The published sampler (TCKR, arXiv 2504.04582)
takes 20 steps at guidance 2, which is also measured first where only part of the steps is guided.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from benchmarks import cells, study

PUBLISHED = (20, 2.0)  # steps, guidance
KEYS = ("steps", "guidance")
EVERYWHERE = (0.0, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell for every seed, or read what was measured; print and save the table."""
    given = _parse(arguments)
    result = study.run(given, KEYS, lambda seed: _measure(seed, given))
    _add_speed(result)
    study.save(result, given.out)
    cells.show(result, KEYS, {"images_per_s": ",.0f", "speed_ratio": ".2f"})


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    study.options(parser)
    parser.add_argument("--steps", type=int, nargs="+", help="denoising steps [4 6 10 20]")
    parser.add_argument("--guidance", type=float, nargs="+", help="scales, 1 is none [1 1.5 2 4]")
    parser.add_argument("--interval", type=float, nargs=2, default=EVERYWHERE, help="of guided steps, but for the published sampler [0 1]")  # fmt: skip
    given = parser.parse_args(arguments)
    given.steps = given.steps or ([2, 4] if given.small else [4, 6, 10, 20])
    given.guidance = given.guidance or ([1.0, 2.0] if given.small else [1.0, 1.5, 2.0, 4.0])
    given.published = (4, 2.0) if given.small else PUBLISHED
    if not given.merge and given.published not in set(product(given.steps, given.guidance)):
        parser.error("--steps and --guidance must include {}, {:g}".format(*given.published))
    return given


def _measure(seed: study.Seed, given: argparse.Namespace) -> Iterator[cells.Run]:
    """One run a cell: accuracy, seconds and images/s of sampling."""
    generator, _, _ = seed.adapted()
    for steps, guidance in product(given.steps, given.guidance):
        published = (steps, guidance) == given.published
        interval = EVERYWHERE if published else tuple(given.interval)
        changes = {"steps": steps, "guidance_scale": guidance, "guidance_interval": interval}
        sampling = seed.setting.recycling.sampling.model_copy(update=changes)
        images, seconds = seed.drawn(generator, sampling)
        yield {
            "steps": steps,
            "guidance": guidance,
            "interval": interval,
            "seconds": seconds,
            "images_per_s": len(images) / seconds,
            "accuracy": seed.student(images),
        }


def _add_speed(result: dict[str, Any]) -> None:
    """Images a second of each cell, and beside the published sampler."""
    cells.add_means(result, KEYS, ["images_per_s"])
    speed = cells.by_cell(result["runs"], KEYS, "images_per_s")
    for row in result["cells"]:
        own = speed[row["steps"], row["guidance"]]
        row["speed_ratio"] = (own / speed[tuple(result["published"])]).mean()


if __name__ == "__main__":
    main()
