"""AugMix and MixUp do to a batch what their papers do to an image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tckr.classifiers import augment as mixing
from tckr.classifiers.augment import aug_mix, mix_up, operate, views
from tckr.classifiers.options import AugmentationOptions

BYTES = torch.randint(30, 200, (4, 3, 24, 30), generator=torch.Generator().manual_seed(0)).byte()
BYTES = (
    BYTES // torch.tensor([1, 3, 16, 60]).view(-1, 1, 1, 1)
).byte()  # histograms of several shapes
IMAGES = BYTES.float() / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(operation: int, level: float, sign: float = 1.0) -> torch.Tensor:
    """One operation on every image, uint8 (B, H, W, C)."""
    whole = torch.ones(len(IMAGES))
    result = operate(IMAGES, whole.long() * operation, level * whole, sign * whole)
    return (result * 255).round().byte().permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("operation", "level", "pillow", "off"),
    [
        (mixing.AUTOCONTRAST, 0, ImageOps.autocontrast, 1),
        (mixing.EQUALIZE, 0, ImageOps.equalize, 0),
        (mixing.POSTERIZE, 2.6, lambda image: ImageOps.posterize(image, 3), 0),
        (mixing.POSTERIZE, 1.0, lambda image: ImageOps.posterize(image, 4), 0),
        (mixing.SOLARIZE, 6.0, lambda image: ImageOps.solarize(image, 256 - 153), 0),
    ],
)
def test_colours_change_as_in_pillow(operation: int, level: float, pillow, off: int) -> None:
    for ours, pixels in zip(one(operation, level), BYTES.permute(0, 2, 3, 1).numpy(), strict=True):
        expected = np.asarray(pillow(Image.fromarray(pixels))).astype(int)
        assert np.abs(ours.numpy().astype(int) - expected).max() <= off


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("operation", [mixing.ROTATE, mixing.SHEAR_X, mixing.SHEAR_Y])
def test_turns_and_shears_are_those_of_pillow_about_the_middle(operation: int, sign: float) -> None:
    rows, columns = torch.arange(24.0).view(1, 1, -1, 1), torch.arange(30.0).view(1, 1, 1, -1)
    waves = 128 + 100 * (rows / 3).sin() * (columns / 4).cos()
    smooth = waves.byte().expand(1, 3, -1, -1)
    given = (torch.tensor([operation]), torch.tensor([3.0]), torch.tensor([sign]))
    ours = (operate(smooth.float() / 255, *given)[0] * 255).permute(1, 2, 0).numpy()
    angle, slope = np.radians(sign * 9), sign * 0.09
    a, b, d, e = {
        mixing.ROTATE: (np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)),
        mixing.SHEAR_X: (1, slope, 0, 1),
        mixing.SHEAR_Y: (1, 0, slope, 1),
    }[operation]
    c, f = 15 - a * 15 - b * 12, 12 - d * 15 - e * 12  # the middle stays
    image = Image.fromarray(smooth[0].permute(1, 2, 0).numpy())
    moved = image.transform(
        image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
    inner = (slice(5, -5), slice(5, -5))
    expected = np.asarray(moved).astype(float)[inner]
    assert np.abs(ours[inner] - expected).max() < 1.5
    assert np.abs(np.asarray(image)[inner] - expected).max() > 4


def test_shifts_move_along_their_axis() -> None:
    moved = one(mixing.MOVE_X, 3.0)  # a third of the width, times 3 of 10: 3 of 30 pixels
    assert torch.equal(moved[:, :, :-3], BYTES.permute(0, 2, 3, 1)[:, :, 3:])
    assert not moved[:, :, -3:].any()
    moved = one(mixing.MOVE_Y, 3.75, -1.0)
    assert torch.equal(moved[:, 3:], BYTES.permute(0, 2, 3, 1)[:, :-3])


def test_aug_mix_changes_every_image_within_range_and_repeatably() -> None:
    batch = IMAGES.repeat(16, 1, 1, 1)
    mixed = aug_mix(batch, generator())
    assert mixed.shape == batch.shape
    assert 0 <= mixed.min() <= mixed.max() <= 1
    assert torch.equal(mixed, aug_mix(batch, generator()))
    assert not torch.equal(mixed, aug_mix(batch, generator(1)))
    distance = (mixed - batch).abs().mean((1, 2, 3))
    assert (distance > 1e-4).float().mean() > 0.9
    assert torch.unique(distance.round(decimals=5)).numel() > 50  # no two alike
    assert torch.corrcoef(torch.stack([mixed.flatten(), batch.flatten()]))[0, 1] > 0.7


def test_views_may_be_mixed() -> None:
    options = AugmentationOptions(shift=0, flip=False, contrast=0, offset=0)
    index = torch.arange(4)
    plain = views(BYTES, index, options, generator())
    after = generator()
    views(BYTES, index, options, after)  # draws what comes before the mixing
    chosen = options.model_copy(update={"augmix": True})
    mixed = views(BYTES, index, chosen, generator())
    assert torch.equal(mixed, aug_mix(plain, after))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_mix_up_mixes_images_and_targets_alike() -> None:
    targets = torch.eye(4)
    shares = []
    for seed in range(200):
        images, mixed = mix_up(IMAGES, targets, 1.0, generator(seed))
        share = mixed[0, 0].item()
        shares.append(share)
        torch.testing.assert_close(mixed.sum(1), torch.ones(4))
        torch.testing.assert_close(images[1], share * IMAGES[1] + (1 - share) * IMAGES[0])
        assert mixed[1, 0].item() == pytest.approx(1 - share, abs=1e-6)
    assert np.std(shares) == pytest.approx(12**-0.5, abs=0.04)  # uniform
    sharp = [mix_up(IMAGES, targets, 0.1, generator(seed))[1][0, 0].item() for seed in range(200)]
    assert np.std(sharp) > 0.4  # mostly one or the other
