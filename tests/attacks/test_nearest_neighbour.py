"""Planted copies in a release are found; a release that never saw the members tells nothing about them."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from tckr.attacks.nearest_neighbour import (
    PixelRows,
    closest_pairs,
    prompt_disclosure,
    prompt_features,
    proximity,
    proximity_within,
)
from tckr.errors import UserError
from tckr.metrics import auc

N, D = 600, 24
IS_MEMBER = np.arange(N) < N // 2


def drawn(count: int, seed: int) -> np.ndarray:
    """Clustered features of length 1, denser here than there."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, D))
    spread = np.array([0.1, 0.3, 0.6, 1.0, 1.5])
    kind = random.integers(5, size=count)
    rows = centres[kind] + spread[kind, None] * random.normal(size=(count, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def candidates() -> np.ndarray:
    return drawn(N, 0)


@pytest.fixture(scope="module")
def leaking(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A release of which some are copies of 30 % of the members, a fifth of the way to a neighbour; and of whom."""
    copied = np.random.default_rng(3).permutation(N // 2)[: int(0.3 * N / 2)]
    others = drawn(400, 6)
    originals = candidates[copied]
    neighbours = others[cdist(originals, others).argmin(1)]
    return np.concatenate([drawn(400, 4), 0.8 * originals + 0.2 * neighbours]), copied


@pytest.mark.parametrize("k", [1, 3])
def test_distances_and_neighbours_are_exact(candidates: np.ndarray, k: int) -> None:
    released, reference = drawn(150, 1), drawn(90, 2)
    found = proximity(candidates, released, reference, k)
    to_released, to_reference = (
        cdist(candidates.astype(np.float64), part) for part in (released, reference)
    )
    np.testing.assert_allclose(found["nearest"], -to_released.min(1), rtol=1e-5)
    np.testing.assert_array_equal(found["nearest_index"], to_released.argmin(1))
    ratio = np.log(np.sort(to_reference)[:, k - 1]) - np.log(np.sort(to_released)[:, k - 1])
    np.testing.assert_allclose(found["density_ratio"], ratio, atol=1e-5)


def test_sparse_rows_and_arrays_are_the_same(candidates: np.ndarray) -> None:
    parts = (candidates, drawn(50, 1), drawn(50, 2))
    arrays, sparse = proximity(*parts), proximity(*map(csr_matrix, parts))
    np.testing.assert_array_equal(sparse["nearest_index"], arrays["nearest_index"])
    for name in ("nearest", "density_ratio"):
        np.testing.assert_allclose(sparse[name], arrays[name], rtol=1e-5, atol=1e-6)


def test_copies_are_at_distance_zero_and_scores_stay_finite(candidates: np.ndarray) -> None:
    released = np.concatenate([drawn(50, 1), candidates[:10]])
    reference = np.concatenate([drawn(50, 2), candidates[5:15]])
    found = proximity(candidates, released, reference)
    assert (found["nearest"][:10] == 0).all()
    np.testing.assert_array_equal(found["nearest_index"][:10], 50 + np.arange(10))
    ratio = found["density_ratio"]
    assert np.isfinite(ratio).all()
    assert (ratio[5:10] == 0).all()  # a copy of what is common knowledge is no evidence
    assert ratio[:5].min() > ratio[15:].max()
    assert ratio[10:15].max() < ratio[15:].min()


def test_planted_copies_are_found(
    candidates: np.ndarray, leaking: tuple[np.ndarray, np.ndarray]
) -> None:
    released, copied = leaking
    found = proximity(candidates, released, drawn(400, 5))
    planted = np.isin(np.arange(N), copied)
    asked = planted | ~IS_MEMBER
    assert auc(found["density_ratio"][asked], planted[asked]).value > 0.95
    assert auc(found["density_ratio"], IS_MEMBER).low > 0.5
    # Calibration is what makes it so: distance alone takes examples of dense regions for members.
    assert auc(found["nearest"][asked], planted[asked]).value < 0.9


def test_an_independent_release_discloses_nothing(candidates: np.ndarray) -> None:
    covered = 0
    for seed in range(20):
        found = proximity(candidates, drawn(400, 100 + seed), drawn(400, 200 + seed))
        for name in ("nearest", "density_ratio"):
            area = auc(found[name], IS_MEMBER, confidence=0.99)
            covered += area.low <= 0.5 <= area.high
    assert covered >= 36


def test_the_closest_pairs_are_the_copies_with_their_originals(
    candidates: np.ndarray, leaking: tuple[np.ndarray, np.ndarray]
) -> None:
    released, copied = leaking
    found = proximity(candidates, released, drawn(400, 5))
    pairs = closest_pairs(found, 10)
    assert pairs.shape == (10, 2)
    for candidate, index in pairs:
        assert copied[index - 400] == candidate
    assert (np.diff(found["density_ratio"][pairs[:, 0]]) <= 0).all()
    assert not IS_MEMBER[closest_pairs(found, 10, ~IS_MEMBER)[:, 0]].any()
    assert len(closest_pairs(found, 10, np.arange(N) < 3)) == 3


def test_what_cannot_be_compared_is_refused(candidates: np.ndarray) -> None:
    other = drawn(20, 1)
    with pytest.raises(UserError, match="widths"):
        proximity(candidates, other[:, :-1], other)
    with pytest.raises(UserError, match="no neighbour 21"):
        proximity(candidates, drawn(30, 1), other, k=21)
    with pytest.raises(UserError, match="finite"):
        proximity(candidates, np.full_like(other, np.nan), other)


COMMON = ["bag: small bag with a strap", "coat: long coat with buttons", "boot: tall boot"]


def prompts(count: int, seed: int) -> list[str]:
    """Some common captions and many that few share."""
    random = np.random.default_rng(seed)
    words = np.array(["red", "blue", "old", "shiny", "torn", "wide", "thin", "plain", "dotted"])
    return [
        COMMON[random.integers(3)]
        if random.random() < 0.4
        else COMMON[random.integers(3)] + " " + " ".join(random.choice(words, 4, replace=False))
        for _ in range(count)
    ]


def test_released_captions_betray_their_members() -> None:
    own, reference = prompts(N, 0), prompts(500, 1)
    released = [own[i] for i in np.random.default_rng(2).integers(N // 2, size=400)]
    found = prompt_disclosure(own, released, reference)
    for name in ("exact", "nearest", "density_ratio"):
        assert auc(found[name], IS_MEMBER).low > 0.6
    weights = found["exact"]
    rare = [i for i in range(N) if own[i] in released and own[i] not in reference]
    np.testing.assert_allclose(weights[rare], np.log(501))
    common = [i for i in range(N) if own[i] == COMMON[0]]
    assert 0 < weights[common].max() < 2.5
    assert (weights[[i for i in range(N) if own[i] not in released]] == 0).all()
    for i in rare:
        assert released[found["nearest_index"][i]] == own[i]
        assert found["nearest"][i] == 0


def test_captions_of_others_betray_nobody() -> None:
    own = prompts(N, 0)
    found = prompt_disclosure(own, prompts(400, 7), prompts(500, 8))
    for name in ("exact", "nearest", "density_ratio"):
        area = auc(found[name], IS_MEMBER, confidence=0.999)
        assert area.low <= 0.5 <= area.high


def test_features_know_the_order_of_words_and_not_who_is_a_member() -> None:
    released, reference = ["boot: red top, blue sole"], ["bag: red strap"]
    asked = ["boot: red top, blue sole", "boot: blue top, red sole", "zzz"]
    features, out, _ = prompt_features(asked, released, reference)
    near = np.asarray((features @ out.T).todense()).ravel()
    assert near[0] == pytest.approx(1)
    assert 0.1 < near[1] < 0.99
    assert near[2] == 0
    assert features.shape[1] == out.shape[1] == 13


def test_class_names_of_one_letter_are_read() -> None:
    found = prompt_disclosure(["3", "5"], ["3", "3"], ["3", "5", "7"])
    assert found["nearest"][0] == 0 > found["nearest"][1]
    np.testing.assert_allclose(found["exact"], [np.log(2), 0])
    assert found["nearest_index"][0] == 0


def test_missing_prompts_are_refused() -> None:
    with pytest.raises(UserError, match="no released prompts"):
        prompt_disclosure(["a"], [], ["b"])


def test_within_a_class_nothing_of_another_is_near():
    random = np.random.default_rng(0)
    candidates, released, reference = (
        random.normal(size=(n, 4)).astype(np.float32) for n in (40, 60, 50)
    )
    classes = tuple(random.integers(0, 3, n) for n in (40, 60, 50))
    found = proximity_within(candidates, released, reference, classes)
    assert (classes[1][found["nearest_index"]] == classes[0]).all()
    for label in range(3):
        rows, near, others = (np.flatnonzero(of == label) for of in classes)
        alone = proximity(candidates[rows], released[near], reference[others])
        np.testing.assert_array_equal(found["density_ratio"][rows], alone["density_ratio"])


def test_a_class_that_was_not_released_is_compared_with_all():
    candidates = np.array([[0.0], [5.0]], dtype=np.float32)
    reference = np.array([[1.0], [2.0]], dtype=np.float32)
    classes = (np.array([0, 1]), np.array([0, 0]), np.array([0, 1]))
    found = proximity_within(candidates, candidates, reference, classes)
    assert found["nearest_index"].tolist() == [0, 1]


def test_images_are_compared_by_blocks_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    own, released, reference = (
        random.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8) for count in (30, 50, 20)
    )
    released[40:] = released[:10]  # equal distances: the first one counts
    classes = tuple(np.arange(count) % 3 for count in (30, 50, 20))
    rows = [
        (images.reshape(len(images), -1) / 255 / 4).astype(np.float32)
        for images in (own, released, reference)
    ]
    expected = proximity_within(*rows, classes, 2)
    monkeypatch.setattr("tckr.attacks.nearest_neighbour.BLOCK", 16 * 7)
    found = proximity_within(*map(PixelRows, (own, released, reference)), classes, 2)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


def test_images_that_exceed_a_block_are_never_numbers_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tckr.attacks.nearest_neighbour.BLOCK", 1 << 16)
    images = np.random.default_rng(0).integers(0, 256, (500, 3, 32, 32), dtype=np.uint8)
    tracemalloc.start()
    proximity_within(
        PixelRows(images[:20]),
        PixelRows(images),
        PixelRows(images[:30]),
        (np.zeros(20), np.zeros(500), np.zeros(30)),
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes  # as float32 they would take four times as much
