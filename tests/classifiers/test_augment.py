"""Views are shifts, flips and photometric changes of their own image, and nothing else."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tckr.classifiers.augment import pad, views
from tckr.classifiers.options import AugmentationOptions

PLAIN = AugmentationOptions(shift=0, flip=False, contrast=0, offset=0)
IMAGES = torch.randint(0, 256, (6, 3, 9, 11), generator=torch.Generator().manual_seed(0)).byte()


def view(options: AugmentationOptions, index: list[int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return views(IMAGES, torch.tensor(index), options, generator)


def test_nothing_on_returns_the_images():
    torch.testing.assert_close(view(PLAIN, [4, 1]), IMAGES[[4, 1]].float() / 255)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), shift=st.integers(0, 3), flip=st.booleans())
def test_every_view_is_a_shift_or_its_mirror(seed: int, shift: int, flip: bool):
    options = AugmentationOptions(shift=shift, flip=flip, contrast=0, offset=0)
    framed = pad(IMAGES, options).float() / 255
    for index, result in enumerate(view(options, list(range(6)), seed)):
        crops = [
            framed[index, :, y : y + 9, x : x + 11]
            for y in range(2 * shift + 1)
            for x in range(2 * shift + 1)
        ]
        candidates = crops + [crop.flip(-1) for crop in crops if flip]
        assert any(torch.equal(result, candidate) for candidate in candidates)


def test_flip_and_shift_both_happen():
    mirrored = view(PLAIN.model_copy(update={"flip": True}), [0] * 64)
    same = (mirrored == IMAGES[:1].float() / 255).flatten(1).all(1)
    assert 16 < same.sum() < 48
    assert len(view(PLAIN.model_copy(update={"shift": 2}), [0] * 200).unique(dim=0)) == 25


def test_photometric_changes_stay_in_range_and_keep_the_layout():
    options = AugmentationOptions(shift=2, contrast=0.9, offset=0.9)
    result = view(options, [0, 1, 2, 3])
    assert 0 <= result.min() <= result.max() <= 1
    assert result.shape == (4, 3, 9, 11)
    assert result.is_contiguous(memory_format=torch.channels_last)
