"""The scattering transform: two layers of fixed Morlet wavelets and a modulus, no weights, nothing learned.

Bruna & Mallat 2013 (arXiv 1203.1513), with J = 2 scales and L = 8 angles, the filters of kymatio 0.3 (arXiv 1812.11214):
features for a private linear classifier (Tramèr & Boneh 2021, arXiv 2011.11660). What an image gives depends on that image
alone, so that the transform costs no privacy.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES, ANGLES = 2, 8
PATHS = 1 + SCALES * ANGLES + ANGLES**2  # of orders 0, 1 and 2: 81
STRIDE = 2**SCALES  # pixels of one axis to a position
SMALLEST = 8  # pixels of a side: the border is mirrored by up to 5 pixels
GROUPS = 27  # of the group norm; the number of channels is a multiple of it


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
    padded = _mirrored(images)
    fine, coarse, whole, half = _filters(*padded.shape[-2:], images.dtype, images.device)
    x = torch.fft.fft2(padded)[:, :, None]  # (B, C, 1, H, W) in the Fourier domain
    u_fine = torch.fft.ifft2(x * fine).abs()  # at full resolution
    u_coarse = torch.fft.ifft2(_halved(x, coarse)).abs()  # at half
    u_both = torch.fft.ifft2(_halved(torch.fft.fft2(u_fine)[:, :, :, None], coarse)).abs()
    orders = [
        _smoothed(padded[:, :, None], *whole),
        _smoothed(u_fine, *whole),
        _smoothed(u_coarse, *half),
        _smoothed(u_both.flatten(2, 3), *half),
    ]
    return torch.cat(orders, 2)


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


def _mirrored(images: Tensor) -> Tensor:
    short = [_padded(side) - side for side in images.shape[-2:]]
    (top, bottom), (left, right) = ((extra // 2, (extra + 1) // 2) for extra in short)
    return F.pad(images, (left, right, top, bottom), mode="reflect")


def _halved(spectrum: Tensor, wavelets: Tensor) -> Tensor:
    """Filter, and keep every second pixel of each axis: in the Fourier domain the mean of the four quadrants."""
    quadrants = zip(_quadrants(spectrum), _quadrants(wavelets / 4), strict=True)
    found, *others = (part * wavelet for part, wavelet in quadrants)
    for other in others:
        found += other
    return found


def _quadrants(spectrum: Tensor) -> list[Tensor]:
    return [part for rows in spectrum.chunk(2, -2) for part in rows.chunk(2, -1)]


def _smoothed(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ (images @ columns)


@lru_cache(maxsize=8)
def _filters(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the wavelets of two scales in the Fourier domain, and the low-pass filter at full and at half resolution.

    The low-pass filter is a Gaussian, so that a matrix for the rows and one for the columns filter, subsample and drop the
    mirrored border.
    """
    angles = [(ANGLES // 2 - 1 - n) * math.pi / ANGLES for n in range(ANGLES)]
    phi = torch.fft.fft2(_gabor(height, width, 0.8 * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)).real
    gain = phi[0, 0].sqrt()
    axes = [phi[:, 0] / gain, phi[0] / gain]
    low = [torch.arange(-(side // 4), side // 4) % side for side in (height, width)]
    halves = [torch.fft.ifftshift(axis[few]) for axis, few in zip(axes, low, strict=True)]
    whole, half = (
        [_low_pass(axis, step).to(device=device, dtype=dtype) for axis in both]
        for both, step in ((axes, STRIDE), (halves, STRIDE // 2))
    )
    wavelets = [
        torch.stack(
            [_morlet(height, width, 0.8 * 2**j, angle, 0.75 * math.pi / 2**j) for angle in angles]
        ).to(device=device, dtype=dtype)
        for j in range(SCALES)
    ]
    return wavelets[0], wavelets[1], (whole[0], whole[1].T), (half[0], half[1].T)


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
