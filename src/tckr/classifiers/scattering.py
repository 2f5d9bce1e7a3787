"""The scattering transform: two layers of fixed Morlet wavelets and a modulus, no weights, nothing learned.

Bruna & Mallat 2013 (arXiv 1203.1513), with J = 2 scales and L = 8 angles, the filters of kymatio 0.3 (arXiv 1812.11214):
features for a private linear classifier (Tramèr & Boneh 2021, arXiv 2011.11660). What an image gives depends on that image
alone, so that the transform costs no privacy.

Maps are so small that their Fourier transforms are matrix products. A complex map is kept as real numbers (H, 2, W, ..., N)
of N images: read as 2 H rows or, within a row, as 2 W, it is a matrix for the transform of either axis without a copy.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES, ANGLES = 2, 8
PATHS = 1 + SCALES * ANGLES + ANGLES**2  # of orders 0, 1 and 2: 81
STRIDE = 2**SCALES  # pixels of one axis to a position
SMALLEST = 8  # pixels of a side: the border is mirrored by up to 5 pixels
GROUPS = 27  # of the group norm; the number of channels is a multiple of it
PART = 32 * 28 * 28  # pixels at once on a CPU, whose caches hold the maps of as many


def scattering(images: Tensor) -> Tensor:
    """Return the scattering coefficients of orders 0, 1 and 2.

    S0 = x * phi; S1 = |x * psi_n| * phi for the 16 wavelets; S2 = ||x * psi_n| * psi_m| * phi for n of the finer scale and
    m of the coarser one. Borders are mirrored.

    Args:
        images: float32 or float64 (B, C, H, W), sides of at least 8 pixels.

    Returns:
        (B, C, 81, h, w) of the same dtype and device, h and w a quarter of the sides: 7 for 28.

    Raises:
        ValueError: a side is shorter than 8 pixels.

    Example:
        >>> scattering(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1, 81, 7, 7])
    """
    if min(images.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"sides must be at least {SMALLEST} pixels, not {tuple(images.shape[-2:])}"
        )
    planes = images.flatten(0, 1)
    size = max(1, len(planes) if planes.is_cuda else PART // math.prod(planes.shape[1:]))
    found = torch.cat([_coefficients(part) for part in planes.split(size)])
    return found.unflatten(0, images.shape[:2])


def scattering_features(images: Tensor) -> Tensor:
    """Return the coefficients as vectors of one length: normalised in 27 groups, then scaled to norm sqrt(D).

    Args:
        images: as for `scattering`.

    Returns:
        (B, D), D = 81 C h w; zero for an image without any contrast.

    Example:
        >>> scattering_features(torch.rand(2, 1, 28, 28)).norm(dim=1)  # sqrt(3969)
        tensor([63.0000, 63.0000])
    """
    maps = scattering(images).flatten(1, 2)
    vectors = F.group_norm(maps, GROUPS).flatten(1)
    return F.normalize(vectors, dim=1) * math.sqrt(vectors.shape[1])


def dimension(channels: int, height: int, width: int) -> int:
    """Return the length of `scattering_features` of such images.

    >>> dimension(1, 28, 28)
    3969
    """
    return PATHS * channels * math.prod(_padded(side) // STRIDE - 2 for side in (height, width))


def _padded(side: int) -> int:
    return ((side + STRIDE) // STRIDE + 1) * STRIDE


class _Filters(NamedTuple):
    """What maps of one size are transformed and filtered with; `whole` is for full resolution, `half` for half of it.

    Attributes:
        fine: Morlet wavelets of the finer scale in the Fourier domain (H, 1, W, 8, 1).
        coarse: those of the coarser scale by quadrants, four (H / 2, 1, W / 2, 8, 1, 1).
        fourier: matrices of the Fourier transform of a real map: of the first axis (2 H, H), of the second (2 W, 2 W).
        whole: matrices of its inverse, (2 H, 2 H) and (2 W, 2 W).
        half: the same at half resolution.
        low_whole: matrices of the low-pass filter, which keep the places of the coefficients, (h, H) and (w, W).
        low_half: the same at half resolution.
    """

    fine: Tensor
    coarse: list[Tensor]
    fourier: tuple[Tensor, Tensor]
    whole: tuple[Tensor, Tensor]
    half: tuple[Tensor, Tensor]
    low_whole: tuple[Tensor, Tensor]
    low_half: tuple[Tensor, Tensor]


def _coefficients(images: Tensor) -> Tensor:
    """Return the coefficients of grey images (N, H, W), (N, 81, h, w)."""
    x = _mirrored(images).permute(1, 2, 0).contiguous()
    filters = _filters(*x.shape[:2], x.dtype, x.device)
    spectrum = _along(x, *filters.fourier, 2)[:, :, :, None]
    u_fine = _modulus(spectrum * filters.fine, filters.whole)
    u_coarse = _modulus(_halved(spectrum, filters.coarse), filters.half)
    u_both = _modulus(_halved(_along(u_fine, *filters.fourier, 2), filters.coarse), filters.half)
    second = _along(u_both, *filters.low_half)  # (h, w, coarser angle * finer angle, N)
    orders = [
        _along(x[:, :, None], *filters.low_whole),
        _along(u_fine, *filters.low_whole),
        _along(u_coarse, *filters.low_half),
        second.unflatten(2, (ANGLES, ANGLES)).transpose(2, 3).flatten(2, 3),
    ]
    return torch.cat(orders, 2).permute(3, 2, 0, 1)


def _mirrored(images: Tensor) -> Tensor:
    short = [_padded(side) - side for side in images.shape[-2:]]
    (top, bottom), (left, right) = ((extra // 2, (extra + 1) // 2) for extra in short)
    return F.pad(images, (left, right, top, bottom), mode="reflect")


def _along(maps: Tensor, rows: Tensor, columns: Tensor, parts: int = 1) -> Tensor:
    """Multiply the first axis of maps by one matrix and the next one by another; a complex result has two parts.

    Args:
        maps: (H, W, ...) or, if they are complex, (H, 2, W, ...).
        rows: (H', H), a complex place counted as two.
        columns: (W', W), likewise, with the parts outermost.
        parts: of the result.

    Returns:
        (H', W', ...), or (H', 2, W', ...) with 2 parts.
    """
    rest = maps.shape[2 if maps.shape[0] == rows.shape[1] else 3 :]
    height, width = len(rows) // parts, len(columns) // parts
    filtered = (rows @ maps.reshape(rows.shape[1], -1)).view(height, columns.shape[1], -1)
    shape = (height, 2, width) if parts == 2 else (height, width)
    return torch.matmul(columns, filtered).view(*shape, *rest)


def _modulus(spectra: Tensor, inverse: tuple[Tensor, Tensor]) -> Tensor:
    """Return the modulus of the maps whose Fourier transforms are given, real (H, W, ...)."""
    real, imaginary = _along(spectra, *inverse, 2).unbind(1)
    return (real * real).addcmul_(imaginary, imaginary).sqrt_()


def _halved(spectra: Tensor, wavelets: list[Tensor]) -> Tensor:
    """Filter, and keep every second pixel of each axis: in the Fourier domain the mean of the four quadrants.

    Args:
        spectra: (H, 2, W, K, N).
        wavelets: a quadrant each, (H / 2, 1, W / 2, 8, 1, 1).

    Returns:
        (H / 2, 2, W / 2, 8 K, N).
    """
    quadrants = [part for rows in spectra.chunk(2, 0) for part in rows.chunk(2, 2)]
    found = quadrants[0].unsqueeze(3) * wavelets[0]
    for part, wavelet in zip(quadrants[1:], wavelets[1:], strict=True):
        found.addcmul_(part.unsqueeze(3), wavelet)
    return found.flatten(3, 4)


@lru_cache(maxsize=8)
def _filters(height: int, width: int, dtype: torch.dtype, device: torch.device) -> _Filters:
    """Return the filters of maps of this size.

    The low-pass filter is a Gaussian, so that a matrix for the rows and one for the columns filter, subsample and drop the
    mirrored border.
    """
    angles = [(ANGLES // 2 - 1 - n) * math.pi / ANGLES for n in range(ANGLES)]
    phi = torch.fft.fft2(_gabor(height, width, 0.8 * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)).real
    gain = phi[0, 0].sqrt()
    axes = [phi[:, 0] / gain, phi[0] / gain]
    low = [torch.arange(-(side // 4), side // 4) % side for side in (height, width)]
    halves = [torch.fft.ifftshift(axis[few]) for axis, few in zip(axes, low, strict=True)]
    fine, coarse = (
        torch.stack(
            [_morlet(height, width, 0.8 * 2**j, angle, 0.75 * math.pi / 2**j) for angle in angles],
            2,
        )
        for j in range(SCALES)
    )
    quadrants = [part for rows in (coarse / 4).chunk(2, 0) for part in rows.chunk(2, 1)]

    def there(matrix: Tensor) -> Tensor:
        return matrix.to(device=device, dtype=dtype).contiguous()

    return _Filters(
        there(fine[:, None, :, :, None]),
        [there(part[:, None, :, :, None, None]) for part in quadrants],
        (there(_fourier(height)[:, :, :, 0].flatten(0, 1)), there(_within_a_row(_fourier(width)))),
        (there(_of_rows(_inverse(height))), there(_within_a_row(_inverse(width)))),
        (there(_of_rows(_inverse(height // 2))), there(_within_a_row(_inverse(width // 2)))),
        (there(_low_pass(axes[0], STRIDE)), there(_low_pass(axes[1], STRIDE))),
        (there(_low_pass(halves[0], STRIDE // 2)), there(_low_pass(halves[1], STRIDE // 2))),
    )


def _fourier(size: int, sign: int = -1) -> Tensor:
    """Return the discrete Fourier transform as real numbers, float64 (frequency, part, place, part).

    e^(i a) (x + i y) = (x cos a - y sin a) + i (x sin a + y cos a), a = sign 2 pi frequency place / size.
    """
    places = torch.arange(size)
    angle = sign * 2 * math.pi / size * (torch.outer(places, places) % size).double()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 2), torch.stack([sin, cos], 2)], 1)


def _inverse(size: int) -> Tensor:
    return _fourier(size, sign=1) / size


def _of_rows(transform: Tensor) -> Tensor:
    """Return the matrix of a transform for maps (H, 2, W) read as 2 H rows."""
    return transform.flatten(2, 3).flatten(0, 1)


def _within_a_row(transform: Tensor) -> Tensor:
    """Return the matrix of a transform for one row (2, W) of a map read as 2 W places."""
    return transform.permute(1, 0, 3, 2).flatten(2, 3).flatten(0, 1)


def _low_pass(spectrum: Tensor, step: int) -> Tensor:
    """Return the matrix that filters one axis and keeps every `step`-th place but the first and the last."""
    pulses = torch.eye(len(spectrum), dtype=torch.float64)
    filtered = torch.fft.ifft(torch.fft.fft(pulses) * spectrum).real
    return filtered[:, ::step].T[1:-1]


def _morlet(height: int, width: int, sigma: float, angle: float, frequency: float) -> Tensor:
    """Return a Gabor filter less as much of its envelope as makes its mean 0, in the Fourier domain (real)."""
    slant = 4 / ANGLES
    wave = _gabor(height, width, sigma, angle, frequency, slant)
    envelope = _gabor(height, width, sigma, angle, 0.0, slant)
    return torch.fft.fft2(wave - wave.sum() / envelope.sum() * envelope).real


def _gabor(
    height: int, width: int, sigma: float, angle: float, frequency: float, slant: float
) -> Tensor:
    """Return a Gaussian envelope times a plane wave, periodic in both axes, complex128 (height, width)."""
    periods = torch.arange(-2, 3, dtype=torch.float64)[:, None]
    rows, columns = ((torch.arange(side) + side * periods).flatten() for side in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    along, across = (
        y * math.cos(angle) + x * math.sin(angle),
        x * math.cos(angle) - y * math.sin(angle),
    )
    envelope = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * sigma**2))
    wave = torch.polar(envelope, frequency * along)
    folded = wave.unflatten(1, (5, width)).unflatten(0, (5, height)).sum((0, 2))
    return folded / (2 * math.pi * sigma**2 / slant)
