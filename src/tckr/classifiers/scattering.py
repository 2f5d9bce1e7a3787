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
    phi, phi_half, fine, coarse = _filters(*padded.shape[-2:], images.dtype, images.device)
    x = torch.fft.fft2(padded)[
        :, :, None
    ]  # (B, C, 1, H, W), as all that follows in the Fourier domain
    u_fine = _modulus(x * fine)  # at full resolution
    u_coarse = _modulus(_subsampled(x * coarse, 2))  # at half
    u_both = _modulus(_subsampled(u_fine[:, :, :, None] * coarse, 2)).flatten(2, 3)
    orders = [
        _smoothed(x, phi, STRIDE),
        _smoothed(u_fine, phi, STRIDE),
        _smoothed(u_coarse, phi_half, STRIDE // 2),
        _smoothed(u_both, phi_half, STRIDE // 2),
    ]
    return torch.cat(orders, 2)[..., 1:-1, 1:-1]  # without the mirrored border


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


def _modulus(spectrum: Tensor) -> Tensor:
    return torch.fft.fft2(torch.fft.ifft2(spectrum).abs())


def _smoothed(spectrum: Tensor, low_pass: Tensor, step: int) -> Tensor:
    return torch.fft.ifft2(_subsampled(spectrum * low_pass, step)).real


def _subsampled(spectrum: Tensor, step: int) -> Tensor:
    """Keep every `step`-th pixel of each axis: in the Fourier domain the mean of what falls together."""
    height, width = (side // step for side in spectrum.shape[-2:])
    rows = sum(spectrum.split(height, -2))  # as slices: many times faster than a strided mean
    return sum(rows.split(width, -1)) / step**2


@lru_cache(maxsize=8)
def _filters(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return in the Fourier domain the low-pass filter, the same at half the resolution, and the wavelets of two scales."""
    angles = [(ANGLES // 2 - 1 - n) * math.pi / ANGLES for n in range(ANGLES)]
    phi = torch.fft.fft2(_gabor(height, width, 0.8 * 2 ** (SCALES - 1), 0.0, 0.0, 1.0)).real
    low = [torch.arange(-(side // 4), side // 4) % side for side in (height, width)]
    phi_half = torch.fft.ifftshift(phi[low[0]][:, low[1]])
    wavelets = [
        torch.stack(
            [_morlet(height, width, 0.8 * 2**j, angle, 0.75 * math.pi / 2**j) for angle in angles]
        )
        for j in range(SCALES)
    ]
    found = (phi, phi_half, *wavelets)
    return tuple(each.to(device=device, dtype=dtype) for each in found)


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
