"""What a private set is like, asked of public categories: PrivImage's semantic query (Li et al. 2024, arXiv 2311.12850).

A classifier of public categories, which no private image has touched, names the k categories that each private image
resembles most. Counted class by class with noise, those say which public images to pre-train a generator on. An image names
k cells of the histogram (class x category), so one image changes it by sqrt(k) at most; everything after the noise is
post-processing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tckr.classifiers.models import Network
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.predict import logits
from tckr.classifiers.trainer import Trainer, TrainSpec
from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import noisy_histogram
from tckr.dp.noise import Noise
from tckr.errors import UserError
from tckr.images.pool import PublicPool
from tckr.images.sheets import sheet

__all__ = [
    "check_enough",
    "choice_sheet",
    "choice_table",
    "choose",
    "chosen_images",
    "query_histogram",
    "query_plan",
    "train_query",
]

ROWS, SHOWN = 40, 16  # of a sheet: categories, and images of each


def train_query(
    pool: PublicPool, options: ClassifierOptions, seed: int, device: str | torch.device = "cpu"
) -> Network:
    """Train the query: a classifier of the pool's categories; it reads no private image.

    Args:
        pool: public images at the size and colour of the private ones.
        options: the recipe.
        seed: of its training.
        device: where to train.

    Returns:
        The network in evaluation mode on the CPU: float images (B, C, H, W) in [0, 1] to logits (B, categories).
    """
    trainer = Trainer(
        pool.images, options, len(pool.categories), targets=pool.labels, device=device
    )
    (network,) = trainer.fit([TrainSpec(seed=seed)], "semantic query")
    return network


def query_plan(k: int, share: float, name: str = "query") -> Plan:
    """Return what to plan in the ledger: one discrete Gaussian of sensitivity sqrt(k).

    >>> query_plan(k=3, share=1).cells
    3
    """
    return Plan(
        name=name,
        mechanism="discrete_gaussian",
        sensitivity=k**0.5,
        share=share,
        why=f"an image adds 1 to the {k} categories of its class that a public classifier finds it to resemble most",
        code=code_of(query_histogram),
    )


def query_histogram(
    network: nn.Module,
    images: Tensor,
    labels: Sequence[int] | Tensor,
    n_classes: int,
    n_categories: int,
    entry: Entry,
    noise: Noise,
) -> NDArray[np.int64]:
    """Count, with noise, how many images of each class have each category among their k most likely ones.

    Args:
        network: of `train_query`, on any device.
        images: uint8 (N, C, H, W), private.
        labels: their classes, (N,).
        n_classes: classes in all, as the owner names them.
        n_categories: outputs of the network.
        entry: what the ledger charged, planned by `query_plan`, which says k.
        noise: the source.

    Returns:
        int64 (n_classes, n_categories), which may be negative.

    Raises:
        UserError: the entry was not spent.
        ValueError: labels out of range, or k above the number of categories.
    """
    classes = np.asarray(labels, np.int64)
    if len(classes) and not 0 <= classes.min() <= classes.max() < n_classes:
        raise ValueError(f"classes must lie in 0..{n_classes - 1}")
    if not 1 <= entry.cells <= n_categories:
        raise ValueError(f"an image cannot name {entry.cells} of {n_categories} categories")
    # Of each image by itself: in evaluation mode the network sees nothing of its batch.
    named = logits(network, images).topk(entry.cells, dim=1).indices.numpy()
    cells = named + classes[:, None] * n_categories
    counts = noisy_histogram(cells, n_classes * n_categories, entry, noise)
    return counts.reshape(n_classes, n_categories)


def choose(counts: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Choose k categories for each class, those with the largest counts that no class before it took.

    Classes choose in order, with what others took masked (PrivImage, section 4.2): a public image gets one private label.

    Args:
        counts: noisy, (classes, categories).
        k: categories of each class.

    Returns:
        int64 (classes, k), categories by falling count.

    Raises:
        UserError: there are too few categories.

    >>> choose(np.array([[9, 5, 1, 0], [8, 7, 2, 3]]), k=2)
    array([[0, 1],
           [3, 2]])
    """
    n_classes, n_categories = counts.shape
    check_enough(n_categories, n_classes, k)
    free = np.ones(n_categories, bool)
    chosen = np.zeros((n_classes, k), np.int64)
    for label, row in enumerate(counts):
        ranked = np.argsort(-row, kind="stable")
        chosen[label] = ranked[free[ranked]][:k]
        free[chosen[label]] = False
    return chosen


def check_enough(n_categories: int, n_classes: int, k: int) -> None:
    """Check that every class can have k categories of its own: a matter of public numbers, so before anything is asked.

    Raises:
        UserError: there are too few categories.
    """
    if n_classes * k > n_categories:
        raise UserError(
            f"The public pool has {n_categories} categories, too few for {k} for each of {n_classes} classes.",
            f"choose a pool of at least {n_classes * k} categories"
            + (f", or at most {most} a class." if (most := n_categories // n_classes) else "."),
        )


def choice_table(
    chosen: NDArray[np.int64],
    counts: NDArray[np.int64],
    class_names: Sequence[str],
    categories: Sequence[str],
) -> pd.DataFrame:
    """Return the choice as a table: label, class_name, category, noisy_count, by class and falling count."""
    rows = [
        (label, class_names[label], categories[category], int(counts[label, category]))
        for label, row in enumerate(chosen)
        for category in row
    ]
    return pd.DataFrame(rows, columns=["label", "class_name", "category", "noisy_count"])


def chosen_images(pool: PublicPool, choice: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Return the public images of the chosen categories, uint8 (M, C, H, W), and their private labels, int64 (M,).

    Raises:
        UserError: a category is not in the pool.
    """
    places = {name: place for place, name in enumerate(pool.categories)}
    missing = [name for name in choice["category"] if name not in places]
    if missing:
        raise UserError(
            f"The public pool has no category {missing[0]!r}, which was chosen from it.",
            "use the pool that was asked.",
        )
    label_of = torch.full((len(pool.categories),), -1, dtype=torch.int64)
    for name, label in zip(choice["category"], choice["label"], strict=True):
        label_of[places[name]] = int(label)
    labels = label_of[pool.labels]
    kept = labels >= 0
    return pool.images[kept], labels[kept]


def choice_sheet(pool: PublicPool, choice: pd.DataFrame) -> Image.Image:
    """Draw public images of what each class chose, a row per category: from public images and noisy counts alone."""
    places = {name: place for place, name in enumerate(pool.categories)}
    rows = [
        (f"{row.class_name} ({row.noisy_count}): {row.category}", pool.of(places[row.category]))
        for row in choice[:ROWS].itertuples()
    ]
    return sheet(
        rows,
        title="Public images that each class chose, with the noisy count",
        columns=SHOWN,
        tile=48,
    )
