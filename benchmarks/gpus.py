"""One GPU of this machine against all of them, in one run: captioning, drawing and shadows at true size, random weights.

    python -m benchmarks.gpus [--stages captioning drawing shadows] [--engine local] [--json result.json]
    python -m benchmarks.gpus --small           # tiny models; two processes of a CPU stand for two GPUs

Every measurement is a process of its own that sees the GPUs it may use. The work goes through `tckr.engine` as in a run:
shards to one process a GPU, with each other's results unknown. *All s* counts everything, *rate* what is done after every
GPU has handed in its first shard: until then a process starts, imports, loads and warms up. Results are compared by hash.
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.measure import Report, machine
from benchmarks.shadows import RECIPES

from benchmarks import blip2, stable_diffusion
from tckr.audit.membership import membership_matrix
from tckr.audit.shadow_config import ShadowConfig
from tckr.audit.shadow_models import run_shadows
from tckr.classifiers.options import DistillationOptions
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.sampling import stream
from tckr.engine import EngineOptions, resolve_workers, shards, use_engine, visible_devices
from tckr.text import captioner
from tckr.text.options import CaptionOptions

# How many items, how many to warm up with, and what does so many of them and returns a hash of the result.
Work = tuple[int, int, Callable[[int], str]]
STAGES = ("captioning", "drawing", "shadows")


@dataclass(frozen=True)
class Amount:
    """How much work, and in what pieces.

    Attributes:
        captioned: images to caption, in shards of `caption_shard`.
        drawn: images to draw, in batches of `batch`.
        steps: of the solver.
        shadows: shadow classifiers, `stack` at a time on one GPU.
        audited: images that the shadows train on, by halves.
        recipe: of the shadows, see `benchmarks.shadows`.
        epochs: of the shadows.
    """

    captioned: int = 32_768
    caption_shard: int = 2048
    drawn: int = 8192
    batch: int = 256
    steps: int = 20
    shadows: int = 64
    stack: int = 4
    audited: int = 55_000
    recipe: str = "gpu"
    epochs: int = 8


SMALL = Amount(24, 4, 24, 4, 2, 4, 1, 120, "small", 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every stage on one GPU and on all, print the table and save it."""
    given = _parse(arguments)
    if given.one:
        work = {"captioning": captioning, "drawing": drawing, "shadows": shadows}[given.one]
        amount = SMALL if given.small else _amount(given)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(work, amount, given, Path(folder))))  # noqa: T201
        return
    devices = ["0", "1"] if given.small else visible_devices()
    if len(devices) < 2:
        raise SystemExit("this machine has fewer than two GPUs")
    report = Report(given.json)
    report.set(**machine("cpu" if given.small else "cuda"), engine=given.engine)
    for stage in given.stages:
        found = [_measured(stage, some, arguments) for some in (devices[:1], devices)]
        for one in found:
            ratios = {
                "rate_ratio": one["rate"] / found[0]["rate"],
                "all_ratio": found[0]["seconds"] / one["seconds"],
                "same_result": one["result"] == found[0]["result"],
            }
            report.add("stages", {"stage": stage, **one, **ratios})
    columns = {
        "stage": "stage", "gpus": "GPUs", "items": "items", "first_s": "first from all s", "seconds": "all s",
        "rate": "rate a s", "rate_ratio": "times the rate", "all_ratio": "times in all", "same_result": "same result",
    }  # fmt: skip
    report.show("one GPU and all of them", "stages", columns)


def _measured(stage: str, devices: list[str], arguments: Sequence[str] | None) -> dict[str, Any]:
    """Run one stage in a process that sees these GPUs."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = [sys.executable, "-m", "benchmarks.gpus", *given, "--one", stage]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(devices)}
    if "--small" in given:
        variables = {**os.environ, "TCKR_BENCHMARK_WORKERS": str(len(devices))}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"gpus": len(devices), **json.loads(done.stdout.splitlines()[-1])}


def run(prepare: Callable[..., Work], amount: Amount, given: Any, folder: Path) -> dict[str, Any]:
    """Do the work of one stage and return its times, from the record of every shard."""
    options = EngineOptions()
    if given.engine == "ray":
        options = EngineOptions(kind="ray", address="local", storage=str(folder / "storage"))
    with use_engine(options), _workers(given.small):
        items, few, do = prepare(amount, given.small, folder)
        alone = torch.cuda.device_count() < 2 and not (given.small and _at_once() > 1)
        if alone:
            do(few)  # warms up, as the first shard of every worker does
        noted: list[tuple[float, int]] = []  # when a shard was done, and by which process
        _watch(noted)
        start = time.perf_counter()
        result = do(items)
        seconds = time.perf_counter() - start
    found = {"items": items, "seconds": seconds, "rate": items / seconds, "result": result}
    if alone:
        return {**found, "first_s": 0.0}
    firsts = [min(at for at, who in noted if who == one) for one in {who for _, who in noted}]
    after = [at for at, _ in noted if at > max(firsts)]
    if after:
        found["rate"] = items * len(after) / len(noted) / (max(after) - max(firsts))
    return {**found, "first_s": max(firsts) - start, "workers": len(firsts), "shards": len(noted)}


def _watch(noted: list[tuple[float, int]]) -> None:
    """Note the time of every shard that is reported."""
    note = shards._Engine.note

    def notes(engine: Any, stage: str, record: Any) -> None:
        noted.append((time.perf_counter(), record.process))
        note(engine, stage, record)

    shards._Engine.note = notes  # type: ignore[method-assign]


@contextmanager
def _workers(small: bool) -> Iterator[None]:
    """Let processes of a CPU stand for GPUs where the benchmark is small."""
    if small:
        captioner.resolve_workers = lambda: (_at_once(), [])
    yield


def _at_once() -> int:
    return int(os.environ.get("TCKR_BENCHMARK_WORKERS", "1"))


def captioning(amount: Amount, small: bool, folder: Path) -> Work:
    """Caption photographs of a sort with a BLIP-2."""
    size = blip2.SMALL if small else blip2.Size()
    device = "cpu" if small else "cuda"
    torch.manual_seed(0)
    model = blip2.blip2(size, device)
    ours = captioner.Captioner(model, blip2.processor(size))
    pictures = blip2.pictures(min(amount.captioned, 1024), size.side)
    # Different files of the same pixels: a captioner writes once for equal files.
    images = [
        picture + bytes(str(i), "ascii")
        for i, picture in zip(range(amount.captioned), itertools.cycle(pictures), strict=False)
    ]
    options = CaptionOptions(
        captioner="random",
        batch_size=min(512, amount.caption_shard),
        shard=amount.caption_shard,
        max_new_tokens=4 if small else 20,
        dtype="bfloat16",
    )

    def do(count: int) -> str:
        return _hash("\n".join(captioner.caption(ours, images[:count], options)).encode())

    return amount.captioned, amount.caption_shard, do


def drawing(amount: Amount, small: bool, folder: Path) -> Work:
    """Draw from a Stable Diffusion 2."""
    size = stable_diffusion.SMALL if small else stable_diffusion.Size()
    device = "cpu" if small else "cuda"
    torch.manual_seed(0)
    pipeline = stable_diffusion.build(size, device, torch.float32 if small else torch.bfloat16)
    options = SamplingOptions(
        steps=amount.steps,
        guidance_scale=2.0,
        batch_size=amount.batch,
        workers=_at_once() if small else 2,
    )
    wanted = stable_diffusion.prompts(amount.drawn)

    def do(count: int) -> str:
        digest = hashlib.sha256()
        square = (size.side, size.side)
        for batch in stream(pipeline, wanted[:count], square, 3, options, 0, folder):
            digest.update(batch.numpy().tobytes())
        return digest.hexdigest()[:16]

    return amount.drawn, amount.batch, do


def shadows(amount: Amount, small: bool, folder: Path) -> Work:
    """Train shadow classifiers on noise: their time does not depend on what the images show."""
    draw = torch.Generator().manual_seed(0)
    side = 16 if small else 28
    images = torch.randint(0, 256, (amount.audited, 1, side, side), generator=draw)
    options = RECIPES[amount.recipe].model_copy(update={"epochs": amount.epochs})
    config = ShadowConfig(
        images.to(torch.uint8),
        torch.arange(amount.audited) % 10,
        n_classes=10,
        steps=options.steps(amount.audited // 2),
        classifier=options,
        distillation=DistillationOptions(),
        seed=0,
        device="cpu" if small else "cuda",
        stack=amount.stack,
    )
    membership = membership_matrix(amount.audited, amount.shadows, 0.5, 0)
    workers, devices = resolve_workers()

    def do(count: int) -> str:
        wanted = membership[:count]
        scores = run_shadows(config, wanted, workers=workers or _at_once(), devices=devices)
        return _hash(np.ascontiguousarray(scores["teacher"]).tobytes())

    return amount.shadows, amount.stack, do


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _amount(given: Any) -> Amount:
    chosen = {name: getattr(given, name) for name in ("captioned", "drawn", "shadows", "epochs")}
    return replace(Amount(), **{name: value for name, value in chosen.items() if value})


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    for name in ("captioned", "drawn", "shadows", "epochs"):
        parser.add_argument(f"--{name}", type=int, help=f"default: {getattr(Amount(), name)}")
    parser.add_argument("--one", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="a minute, on a CPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
