"""Does a caption say what sets its image apart? Find the image again from the caption, among images of its class.

The measure is recall at k (Radford et al. 2021, section 3.1.2, for instance), with the other images of the same class
as the only distractors: knowing the class then does not help, only what the caption adds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor
from torch.nn import functional

from tckr.errors import UserError
from tckr.text.clip import Clip, image_embeddings

CONFIDENCE = 0.95
RESAMPLES = 2000


def retrieval(
    similarity: ArrayLike, groups: ArrayLike, largest: int = 100, seed: int = 0
) -> dict[str, Any]:
    """Return how often a caption ranks its own image first, or among the first five, in the image's class.

    Ties are ordered at random; each image counts as the expected value over these orders, so that a constant
    similarity scores exactly what chance does.

    Args:
        similarity: float (N images, N captions), larger = fits better; caption i is that of image i.
        groups: (N,), the class of each image; a class with a single image is left out.
        largest: most images of a class that compete; drawn at random from larger classes.
        seed: of that draw and of the bootstrap.

    Returns:
        `top1` and `top5`, each with value, low, high (percentile bootstrap over the images; the candidates are
        taken as given), confidence, method, and chance (what guessing scores), all rates in [0, 1]; and the counts
        `images`, `classes`, `fewest` and `most` (candidates per class).

    Raises:
        UserError: no class has two images.
        ValueError: shapes that do not fit, or NaN.

    >>> found = retrieval(np.eye(20), ["cat", "dog"] * 10)
    >>> found["top1"]["value"], round(found["top1"]["chance"], 3)
    (1.0, 0.1)
    """
    scores, classes = np.asarray(similarity, dtype=np.float64), np.asarray(groups)
    if scores.shape != (len(classes), len(classes)) or np.isnan(scores).any():
        raise ValueError(
            f"similarity {scores.shape} must be square, without NaN, one row per group ({len(classes)})"
        )
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(classes == name))[:largest] for name in np.unique(classes)
    ]
    chosen = [rows for rows in chosen if len(rows) > 1]
    if not chosen:
        raise UserError("No class has two images to choose from.", "give more images.")
    sizes = np.concatenate([np.full(len(rows), len(rows)) for rows in chosen])
    better, equal = np.concatenate([_rivals(scores[np.ix_(rows, rows)]) for rows in chosen], 1)
    found = {
        f"top{k}": _estimate(
            np.clip((k - better) / equal, 0, 1), float(np.minimum(k / sizes, 1).mean()), random
        )
        for k in (1, 5)
    }
    return {
        **found,
        "images": len(sizes),
        "classes": len(chosen),
        "fewest": int(sizes.min()),
        "most": int(sizes.max()),
    }


def _rivals(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count, for each caption of a class, the images that fit better than its own, and those that fit equally, (2, n)."""
    own = np.diag(scores)
    return np.stack([(scores > own).sum(0), (scores == own).sum(0)])


def _estimate(
    hits: NDArray[np.float64], chance: float, random: np.random.Generator
) -> dict[str, float | str]:
    means = [hits[random.integers(len(hits), size=len(hits))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "value": float(hits.mean()),
        "low": float(low),
        "high": float(high),
        "confidence": CONFIDENCE,
        "method": "percentile bootstrap over images",
        "chance": chance,
    }


def shuffled_within(groups: ArrayLike, seed: int = 0) -> NDArray[np.int64]:
    """Return a random order (N,) that exchanges examples within their class: captions so ordered find images by chance.

    >>> labels = np.array(["cat", "dog", "cat", "dog"])
    >>> (labels[shuffled_within(labels)] == labels).all()
    np.True_
    """
    classes, random = np.asarray(groups), np.random.default_rng(seed)
    order = np.arange(len(classes))
    for name in np.unique(classes):
        rows = np.flatnonzero(classes == name)
        order[rows] = random.permutation(rows)
    return order


def clip_similarity(
    clip: Clip, images: Tensor, captions: Sequence[str], batch_size: int = 250
) -> NDArray[np.float32]:
    """Return the cosine similarity of the CLIP embeddings, float32 (N images, M captions).

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        captions: M sentences, truncated to the model's length.
    """
    seen = image_embeddings(clip, images, batch_size)
    return (seen @ text_embeddings(clip, captions, batch_size).T).numpy()


@torch.inference_mode()
def text_embeddings(clip: Clip, texts: Sequence[str], batch_size: int = 250) -> Tensor:
    """Return the embedding of each text, truncated to the model's length, float32 (N, D) on the CPU, rows of length 1."""
    rows = []
    for start in range(0, len(texts), batch_size):
        tokens = clip.tokenizer(
            list(texts[start : start + batch_size]), padding="max_length", truncation=True,
            max_length=clip.tokenizer.model_max_length, return_tensors="pt",
        ).input_ids.to(clip.model.device)  # fmt: skip
        rows.append(
            clip.model.text_projection(clip.model.text_model(input_ids=tokens).pooler_output)
        )
    return functional.normalize(torch.cat(rows).float()).cpu()


def word_similarity(descriptions: Sequence[str], captions: Sequence[str]) -> NDArray[np.float64]:
    """Return the cosine similarity of the sets of words and word pairs, float64 (N descriptions, M captions).

    With `tckr.foundation.attributes.describe` of the images it is an evaluator without a network: how much a caption
    gets right of what can be computed from the pixels.

    >>> round(word_similarity(["red hat"], ["red shoe"]).item(), 3)
    0.333
    """
    counter = CountVectorizer(ngram_range=(1, 2), binary=True)
    counter.fit([*descriptions, *captions])
    left, right = (normalize(counter.transform(texts)) for texts in (descriptions, captions))
    return np.asarray((left @ right.T).todense())
