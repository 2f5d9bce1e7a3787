"""Does a caption say what sets its image apart? Find the image again from the caption, among images of its class.

The measure is recall at k (Radford et al. 2021, section 3.1.2, for instance), with the other images of the same class
as the only distractors: knowing the class then does not help, only what the caption adds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, CLIPModel, CLIPTokenizer

from tckr.engine.loading import OFFLINE, SAFE, check_kind, readable
from tckr.errors import UserError

CONFIDENCE = 0.95
RESAMPLES = 2000


def retrieval(
    similarity: ArrayLike, groups: ArrayLike, largest: int = 100, seed: int = 0
) -> dict[str, Any]:
    """How often an image is the first, or one of the first five, that its own caption finds in its class.

    Among equal similarities the order is by chance; each image then counts as the expected value, so a constant
    similarity scores exactly what chance does.

    Args:
        similarity: float (N images, N captions), larger = fits better; caption i is that of image i.
        groups: (N,), the class of each image; a class of one image is left out.
        largest: images of a class that compete, at most; drawn at random from larger classes.
        seed: of that draw and of the bootstrap.

    Returns:
        `top1` and `top5`, each with value, low, high (percentile bootstrap over the images; the candidates are
        taken as given), confidence, method, and chance (what guessing scores), all rates in [0, 1]; and the counts
        `images`, `classes`, `fewest` and `most` (candidates a class).

    Raises:
        UserError: no class has two images.
        ValueError: shapes that do not fit, or NaN.
    """
    scores, classes = np.asarray(similarity, dtype=np.float64), np.asarray(groups)
    if scores.shape != (len(classes), len(classes)) or np.isnan(scores).any():
        raise ValueError(
            f"similarity {scores.shape} must be square, without NaN, one row a group ({len(classes)})"
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
    """For each caption of a class: images that fit better than its own, and as well (its own included); (2, n)."""
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
    """A random order (N,) that keeps every class in its own places: captions so exchanged find images by chance only."""
    classes, random = np.asarray(groups), np.random.default_rng(seed)
    order = np.arange(len(classes))
    for name in np.unique(classes):
        rows = np.flatnonzero(classes == name)
        order[rows] = random.permutation(rows)
    return order


class Clip(NamedTuple):
    """A CLIP with what prepares its texts and images."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    pictures: Any


def load_clip(folder: str | Path, device: str = "cpu") -> Clip:
    """Load a CLIP folder, safetensors only, float32.

    Raises:
        UserError: the folder is missing, incomplete, or holds another kind of model.
    """
    remedy = "give a folder of a transformers CLIPModel with its tokenizer and image processor."
    check_kind(folder, "model_type", ["clip"], remedy)
    with readable(f"CLIP {folder}", remedy):
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, **SAFE)
        tokenizer = CLIPTokenizer.from_pretrained(folder, **OFFLINE)
        pictures = AutoImageProcessor.from_pretrained(folder, **OFFLINE)
    return Clip(model.to(device).eval(), tokenizer, pictures)


def clip_similarity(
    clip: Clip, images: Tensor, captions: Sequence[str], batch_size: int = 250
) -> NDArray[np.float32]:
    """Cosine of the embeddings, float32 (N images, M captions).

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        captions: M sentences, cut to the model's length.
    """
    seen = image_embeddings(clip, images, batch_size)
    return (seen @ text_embeddings(clip, captions, batch_size).T).numpy()


@torch.inference_mode()
def image_embeddings(clip: Clip, images: Tensor, batch_size: int = 250) -> Tensor:
    """Where CLIP sees each image: float32 (N, D) on the CPU, rows of length 1.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, resized as the folder's image processor says.
    """
    rows = []
    for part in images.expand(-1, 3, -1, -1).split(batch_size):
        prepared = clip.pictures(
            images=part.cpu(), input_data_format="channels_first", return_tensors="pt"
        )
        body = clip.model.vision_model(pixel_values=prepared.pixel_values.to(clip.model.device))
        rows.append(clip.model.visual_projection(body.pooler_output))
    return functional.normalize(torch.cat(rows).float()).cpu()


@torch.inference_mode()
def text_embeddings(clip: Clip, texts: Sequence[str], batch_size: int = 250) -> Tensor:
    """Where CLIP reads each text, cut to the model's length: float32 (N, D) on the CPU, rows of length 1."""
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
    """Cosine of which words and pairs of neighbouring words two texts hold, float64 (N descriptions, M captions).

    With `tckr.foundation.attributes.describe` of the images it is an evaluator without a network: what a caption gets right
    of what can be computed from the pixels.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counter = CountVectorizer(ngram_range=(1, 2), binary=True)
    counter.fit([*descriptions, *captions])
    left, right = (normalize(counter.transform(texts)) for texts in (descriptions, captions))
    return np.asarray((left @ right.T).todense())
