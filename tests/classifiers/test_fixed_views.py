"""Fixed views can be made again from their table alone, and more of them begin with the same ones."""

import numpy as np
import torch

from tckr.classifiers.fixed_views import fixed_views, labels_of_views, show, view_table
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import soft_labels
from tckr.classifiers.resnet import ResNet

WIDE = AugmentationOptions(shift=3)
IMAGES = torch.randint(
    0, 256, (6, 1, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def shown(number: int, count: int = 8) -> torch.Tensor:
    index = torch.arange(len(IMAGES))
    return show(IMAGES, index, torch.full_like(index, number), view_table(count, WIDE))


def test_views_are_public_and_within_the_augmentation():
    some = fixed_views(40, WIDE)
    assert some[:5] == fixed_views(5, WIDE)
    assert len(set(some)) == 40
    for view in some:
        assert abs(view.down) <= 3 >= abs(view.right)
        assert abs(view.contrast - 1) <= WIDE.contrast
        assert abs(view.offset) <= WIDE.offset
    assert {view.mirrored for view in some} == {True, False}
    assert not any(
        view.mirrored for view in fixed_views(40, WIDE.model_copy(update={"flip": False}))
    )


def test_the_first_view_is_the_image():
    assert torch.allclose(shown(0), IMAGES / 255, atol=1e-6)


def test_the_card_says_enough_to_make_a_view_again():
    images = IMAGES.numpy() / 255
    for number, view in enumerate(fixed_views(8, WIDE)):
        y, x = np.arange(16) + view.down, np.arange(12)
        x = (11 - x if view.mirrored else x) + view.right
        made = images[..., np.clip(y, 0, 15)[:, None], np.clip(x, 0, 11)]
        mean = made.mean((1, 2, 3), keepdims=True)
        made = np.clip((made - mean) * view.contrast + mean + view.offset, 0, 1)
        assert np.allclose(shown(number), made, atol=1e-6)


def test_each_image_may_show_another_view():
    index, numbers = torch.tensor([4, 1, 4]), torch.tensor([2, 0, 5])
    batch = show(IMAGES, index, numbers, view_table(8, WIDE))
    for place, (row, number) in enumerate(zip(index, numbers, strict=True)):
        assert torch.equal(batch[place], shown(int(number))[row])


def test_labels_of_views_are_the_teachers():
    teacher = ResNet(1, 3, (8, 16), 1).eval()
    labels = labels_of_views(teacher, IMAGES, 4, WIDE, batch_size=4)
    assert labels.shape == (6, 4, 3)
    assert torch.allclose(labels[:, 0], soft_labels(teacher, IMAGES), atol=1e-6)
    with torch.inference_mode():
        assert torch.allclose(labels[:, 3], teacher(shown(3)).softmax(1), atol=1e-6)
