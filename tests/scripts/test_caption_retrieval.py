"""Retrieval scores what can be worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scripts.caption_retrieval import (
    clip_similarity,
    retrieval,
    shuffled_within,
    text_embeddings,
    word_similarity,
)

from tckr.errors import UserError
from tckr.foundation.attributes import describe
from tckr.images.tensors import to_tensor
from tckr.text.clip import load_clip

DATA = Path(__file__).parents[2] / "data"
CLIP = DATA / "06_models/foundation/clip"
SAMPLE = DATA / "01_raw/fashion_mnist/fashion_mnist_sample.parquet"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    table = pd.read_parquet(SAMPLE)
    shoes = table[table.label == "Ankle boot"].head(60)
    return to_tensor(image["bytes"] for image in shoes.image)


def test_perfect_and_worst_captions() -> None:
    groups = np.repeat(["a", "b"], 10)
    perfect = retrieval(np.eye(20), groups)
    assert perfect["top1"]["value"] == perfect["top5"]["value"] == 1
    worst = retrieval(-np.eye(20), groups)
    assert worst["top1"]["value"] == worst["top5"]["value"] == 0
    assert [worst[k]["chance"] for k in ("top1", "top5")] == pytest.approx([0.1, 0.5])
    assert (worst["images"], worst["classes"], worst["fewest"], worst["most"]) == (20, 2, 10, 10)


def test_other_classes_do_not_compete() -> None:
    groups = np.repeat([0, 1], 10)
    scores = np.eye(20) + 5.0 * (groups[:, None] != groups)
    assert retrieval(scores, groups)["top1"]["value"] == 1


def test_the_caption_looks_for_the_image_and_not_the_other_way_round() -> None:
    scores = np.array([[2.0, 9.0], [1.0, 10.0]])  # each caption (column) fits its own image best
    assert retrieval(scores, [0, 0])["top1"]["value"] == 1
    assert retrieval(scores.T, [0, 0])["top1"]["value"] == 0.5


def test_ties_count_as_what_chance_makes_of_them() -> None:
    constant = retrieval(np.zeros((30, 30)), np.repeat([0, 1, 1], 10))
    for rate in (constant["top1"], constant["top5"]):
        assert rate["value"] == pytest.approx(rate["chance"])
    assert constant["top5"]["chance"] == pytest.approx((5 / 10 + 2 * 5 / 20) / 3)
    scores = np.diag([1.0] * 8)
    scores[:7, 7] = 1.0  # one image in eight wins its caption only in one of eight orders
    found = retrieval(scores, np.zeros(8))
    assert found["top1"]["value"] == pytest.approx((7 + 1 / 8) / 8)
    assert found["top5"]["value"] == pytest.approx((7 + 5 / 8) / 8)


def test_large_classes_are_thinned_and_single_images_left_out() -> None:
    groups = [*["large"] * 40, *["small"] * 3, "single"]
    found = retrieval(np.eye(44), groups, largest=10)
    assert (found["images"], found["classes"], found["fewest"], found["most"]) == (13, 2, 3, 10)
    with pytest.raises(UserError, match="two images"):
        retrieval(np.eye(3), [0, 1, 2])


@pytest.mark.parametrize("scores", [np.eye(3), np.zeros((4, 3)), np.full((4, 4), np.nan)])
def test_what_does_not_fit_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="square"):
        retrieval(scores, [0, 0, 1, 1])


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    groups, held = np.zeros(100), 0
    for trial in range(60):
        hit = random.random(100) < 0.3
        top1 = retrieval(np.diag(np.where(hit, 1.0, -1.0)), groups, seed=trial)["top1"]
        assert top1["low"] <= top1["value"] <= top1["high"]
        held += top1["low"] <= 0.3 <= top1["high"]
    assert 50 <= held < 60


def test_exchanged_captions_stay_in_their_class_and_find_by_chance() -> None:
    groups = np.tile(["a", "b"], 200)
    order = shuffled_within(groups, seed=1)
    assert sorted(order) == list(range(400))
    assert (groups[order] == groups).all()
    top1 = retrieval(np.eye(400)[:, order], groups)["top1"]
    assert top1["low"] <= top1["chance"] <= top1["high"]


def test_computed_words_find_their_images(images: torch.Tensor) -> None:
    texts = describe(images.expand(-1, 3, -1, -1))
    scores = word_similarity(texts, texts)
    np.testing.assert_allclose(np.diag(scores), 1)
    pair = word_similarity(["top whole bottom split"], ["top whole bottom", "bottom whole top"])
    assert pair[0, 0] > pair[0, 1] > 0  # neighbours count
    found = retrieval(scores, np.zeros(len(texts)))
    assert found["top1"]["value"] == pytest.approx(len(set(texts)) / len(texts))


def test_the_shipped_clip_tells_images_apart(images: torch.Tensor) -> None:
    clip = load_clip(CLIP)
    texts = describe(images.expand(-1, 3, -1, -1))
    scores = clip_similarity(clip, images, texts)
    assert scores.shape == (len(images), len(texts))
    assert np.abs(scores).max() <= 1 + 1e-5
    np.testing.assert_allclose(
        scores[:7, :5], clip_similarity(clip, images[:7], texts[:5], batch_size=3), atol=1e-5
    )
    found = retrieval(scores, np.zeros(len(texts)))["top1"]
    assert found["low"] > 3 * found["chance"]


def test_text_embeddings_follow_their_texts() -> None:
    clip = load_clip(CLIP)
    texts = ["a bag", "a tall boot, split top", "a bag"]
    read = text_embeddings(clip, texts, batch_size=2)
    torch.testing.assert_close(read.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(read[0], read[2], atol=1e-5, rtol=0)
    assert read[0] @ read[1] < 0.999
