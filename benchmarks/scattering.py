"""How fast the scattering transform is by real matrix products, beside complex Fourier transforms, as kymatio takes it.

    python -m benchmarks.scattering [--sides 28 32 64 128] [--channels 1 3] [--batch 256] [--rounds 5] [--json result.json]
    python -m benchmarks.scattering --small

Both ways take turns on the same random images; milliseconds are medians an image, and a ratio is of the medians. `threads` are those
of torch: set OMP_NUM_THREADS.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from benchmarks.measure import Report, machine, now
from torch import Tensor

from tckr.classifiers.scattering import _along, _filters, _mirrored, scattering
from tckr.engine.device import best

COLUMNS = {
    "side": "side", "channels": "channels", "threads": "threads", "fourier": "Fourier, ms an image", "products": "products, ms an image",
    "ratio": "times as fast", "differs": "largest difference",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both ways at every size, print the table and save it."""
    given = _parse(arguments)
    report, device = Report(given.json), best()
    report.set(**machine(device), arguments={k: str(v) for k, v in vars(given).items()})
    for side in given.sides:
        for channels in given.channels:
            images = torch.rand(given.batch, channels, side, side, device=device)
            report.add("rows", compared(images, given.rounds))
    report.show("the scattering transform", "rows", COLUMNS)


@torch.inference_mode()
def compared(images: Tensor, rounds: int) -> dict[str, float]:
    """Return the milliseconds an image of each way, their ratio, and how far they differ."""
    ways = {"fourier": by_fourier_transforms, "products": scattering}
    differs = float((scattering(images) - by_fourier_transforms(images)).abs().max())
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            took[name].append(1000 * _seconds(way, images) / len(images))
    medians = {name: statistics.median(times) for name, times in took.items()}
    return {
        "side": images.shape[-1], "channels": images.shape[1], "threads": torch.get_num_threads(), **medians,
        "ratio": medians["fourier"] / medians["products"], "differs": differs,
    }  # fmt: skip


def by_fourier_transforms(images: Tensor) -> Tensor:
    """Return the coefficients of `scattering`, filtered in the complex Fourier domain; arguments as there."""
    planes = _mirrored(images.flatten(0, 1))
    filters = _filters(*planes.shape[1:], planes.dtype, planes.device)
    fine = filters.fine[:, 0, :, :, 0].permute(2, 0, 1)
    coarse = [part[:, 0, :, :, 0, 0].permute(2, 0, 1) for part in filters.coarse]

    def halved(spectra: Tensor) -> Tensor:
        quadrants = [part for rows in spectra.chunk(2, -2) for part in rows.chunk(2, -1)]
        return sum(part * wavelet for part, wavelet in zip(quadrants, coarse, strict=True))  # type: ignore[return-value]

    def low(maps: Tensor, matrices: tuple[Tensor, Tensor]) -> Tensor:
        return _along(maps.movedim((-2, -1), (0, 1)), *matrices).movedim((0, 1), (-2, -1))

    spectrum = torch.fft.fft2(planes)[:, None]
    u_fine = torch.fft.ifft2(spectrum * fine).abs()
    u_coarse = torch.fft.ifft2(halved(spectrum)).abs()
    u_both = torch.fft.ifft2(halved(torch.fft.fft2(u_fine)[:, :, None])).abs().flatten(1, 2)
    orders = [
        low(planes[:, None], filters.low_whole), low(u_fine, filters.low_whole),
        low(u_coarse, filters.low_half), low(u_both, filters.low_half),
    ]  # fmt: skip
    return torch.cat(orders, 1).unflatten(0, images.shape[:2])


def _seconds(way: Callable[[Tensor], Tensor], images: Tensor) -> float:
    start = now()
    way(images)
    return now() - start


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", help="[28 32 64 128]")
    parser.add_argument("--channels", type=int, nargs="+", help="[1]")
    parser.add_argument("--batch", type=int, help="[256]")
    parser.add_argument("--rounds", type=int, help="[5]")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    given.sides = given.sides or ([8, 28] if given.small else [28, 32, 64, 128])
    given.channels = given.channels or [1]
    given.batch = given.batch or (4 if given.small else 256)
    given.rounds = given.rounds or (2 if given.small else 5)
    return given


if __name__ == "__main__":
    main()
