"""What the attackers saw of the audited images, and the same of some of them.

Duplicated canaries (`tckr.images.canaries`) are in every array that shadows and targets made. The figures of a release are of
all other images, each counted once; the canaries' own are apart (`tckr.audit.exposure`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.images.canaries import is_duplicated, is_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENERATOR = "generator."  # before the name of a signal among the shadows' scores
ROWS = "rows"  # which of the audited images generator and prompts were queried about
PROMPTS = "prompts."


@dataclass(frozen=True)
class Seen:
    """Scores of the audited images, as the stage keeps them.

    Attributes:
        audited: image table of members and holdout, N rows.
        targets: (N, Q) by model.
        shadows: (S, N, Q) by model, and (S, n, 1) of the images that the generator was queried about.
        release: `features` (N, D), `images.<score>` (N,), `rows` int64 (m,), `prompts.<score>` (m,); see `score_release`.
        generator: `rows` int64 (n,), and signals (n,); None of an arm that has no generator of its own.
    """

    audited: pd.DataFrame
    targets: Mapping[str, Any] = field(default_factory=dict)
    shadows: Mapping[str, Any] = field(default_factory=dict)
    release: Mapping[str, Any] = field(default_factory=dict)
    generator: Mapping[str, Any] | None = None

    def ordinary(self) -> "Seen":
        """Return what was seen of all images but the duplicated canaries; itself if there are none."""
        return self.of(~is_duplicated(self.audited))

    def distinct(self) -> "Seen":
        """Return what was seen of every picture once; itself if there are no duplicated canaries."""
        return self.of(is_first(self.audited))

    def of(self, kept: "NDArray[np.bool_]") -> "Seen":
        """Return what was seen of some images.

        Args:
            kept: bool (N,).

        >>> import torch
        >>> seen = Seen(
        ...     pd.DataFrame({"image_id": list("abc")}),
        ...     shadows={"student": torch.zeros(2, 3, 1), "generator.loss": torch.zeros(2, 2, 1)},
        ...     generator={"rows": torch.tensor([0, 2]), "adapted.loss": torch.tensor([1.0, 3.0])},
        ... )
        >>> some = seen.of(np.array([False, True, True]))
        >>> [tuple(scores.shape) for scores in some.shadows.values()], some.generator
        ([(2, 2, 1), (2, 1, 1)], {'rows': tensor([1]), 'adapted.loss': tensor([3.])})
        """
        if kept.all():
            return self
        asked = None if self.generator is None else kept[self.generator[ROWS].numpy()]
        of_prompts = kept[self.release[ROWS].numpy()] if ROWS in self.release else None
        return Seen(
            self.audited[kept],
            {name: scores[kept] for name, scores in self.targets.items()},
            {
                name: scores[:, asked if name.startswith(GENERATOR) else kept]
                for name, scores in self.shadows.items()
            },
            {
                name: _renumbered(values, kept)
                if name == ROWS
                else values[of_prompts if name.startswith(PROMPTS) else kept]
                for name, values in self.release.items()
            },
            None
            if self.generator is None
            else {
                name: _renumbered(values, kept) if name == ROWS else values[asked]
                for name, values in self.generator.items()
            },
        )

    def shadow_signals(self) -> "dict[str, NDArray[np.float64]]":
        """Return the signals (S, n) of shadow adapters, by name; empty where no shadow has an adapter of its own."""
        return {
            name: np.asarray(scores)[..., 0].astype(np.float64)
            for name, scores in part(self.shadows, GENERATOR.removesuffix(".")).items()
        }


def part(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the entries whose names begin with this one and a dot, without it.

    >>> part({"images.nearest": 1, "prompts.exact": 2}, "images")
    {'nearest': 1}
    """
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }


def _renumbered(rows: Any, kept: "NDArray[np.bool_]") -> Any:
    """Return those of the rows that are kept, by their places among the kept ones."""
    places = np.cumsum(kept) - 1
    import torch

    return torch.from_numpy(places[rows.numpy()[kept[rows.numpy()]]])
