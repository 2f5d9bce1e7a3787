"""The logit-scaled confidence is exact where probabilities round to 1."""

import numpy as np
import pytest
import torch

from tckr.audit.signals import logit_scaled, model_scores, query_views, shifted
from tckr.classifiers.options import AugmentationOptions
from tckr.classifiers.predict import logits
from tckr.errors import UserError


def test_equals_the_definition():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [np.log(p[0, 1] / (1 - p[0, 1])), np.log(p[1, 0] / (1 - p[1, 0]))]
    np.testing.assert_allclose(logit_scaled(logits, [1, 0]), expected)


def test_stable_far_from_one_half():
    logits = np.float32([[900, 0, 0], [-900, 0, 0]])
    np.testing.assert_allclose(
        logit_scaled(logits, [0, 0]), [900 - np.log(2), -900 - np.log(2)], rtol=1e-12
    )
    assert logit_scaled([[0.0, 0.0]], [1])[0] == 0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[np.nan, 1.0]], [0], "NaN"),
        ([[1.0]], [0], "C >= 2"),
        ([[1.0, 2.0]], [0, 1], "labels"),
    ],
)
def test_refuses(logits, labels, message: str):
    with pytest.raises(ValueError, match=message):
        logit_scaled(logits, labels)


IMAGES = torch.randint(0, 256, (300, 1, 6, 7), generator=torch.Generator().manual_seed(0)).byte()


def test_a_view_is_the_image_moved_within_its_frame():
    options = AugmentationOptions(shift=2)
    assert torch.equal(shifted(IMAGES, (0, 0, False), options), IMAGES)
    down = shifted(IMAGES, (-2, 0, True), options).flip(-1)
    assert torch.equal(down[:, :, 2:], IMAGES[:, :, :-2])
    assert torch.equal(down[:, :, :2], IMAGES[:, :, :1].expand(-1, -1, 2, -1))


def test_views_of_batches_are_those_of_the_whole_set():
    """Made batch by batch (here of 256 images), so that no view of the whole set is ever in memory."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(42, 3)).eval()
    options, labels = AugmentationOptions(shift=1), torch.arange(300) % 3
    scores = model_scores(model, IMAGES, labels, 4, options)
    for number, shift in enumerate(query_views(4, options)):
        expected = logit_scaled(logits(model, shifted(IMAGES, shift, options)), labels)
        np.testing.assert_array_equal(scores[:, number], expected.astype(np.float32))


def test_no_more_views_than_the_augmentation_has():
    assert len(query_views(10, AugmentationOptions())) == 10
    assert query_views(1, AugmentationOptions(shift=0, flip=False)) == [(0, 0, False)]
    with pytest.raises(UserError, match=r"3 views; the augmentation has 2"):
        query_views(3, AugmentationOptions(shift=0))
