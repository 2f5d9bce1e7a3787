"""Synthetic sets made again for each shadow, from that shadow's own members (scope `pipeline`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from tckr.audit.options import GeneratorThreat
from tckr.options import recipe
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.private_set import PrivateSet, SyntheticSet
from tckr.synthesizers.text_to_image import TextToImage


@dataclass(frozen=True)
class OwnTeacher:
    """Train the arm's own teacher on a shadow's members, as the target's was: the same mechanism with its own ledger.

    Attributes:
        synthesizer: the target's, with the target's own settings.
        class_names: names of the classes 0, 1, ...
        owners: int64 (N,), whose each audited image is; None: nothing says so.
    """

    synthesizer: Synthesizer
    class_names: Sequence[str]
    owners: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        """Return what tells one way to a teacher from another, for fingerprints."""
        return repr((_settings(self.synthesizer), list(self.class_names), *_told(self.owners)))

    def fit(
        self, images: Tensor, labels: Tensor, inside: NDArray[np.bool_], seed: int, device: str
    ) -> Any:
        """Return the teacher of a shadow; arguments as for `Resynthesis.run`."""
        rows = np.flatnonzero(inside).tolist()
        private = PrivateSet(images, labels, self.class_names, self.owners).at(rows)
        return self.synthesizer.fit_teacher(private, seed, device)


class Resynthesized(NamedTuple):
    """What a shadow made again.

    Attributes:
        sets: the synthetic sets by name.
        signals: white-box signals (n,) of the fitted generator by name.
        teacher: the arm's own, if it has one.
    """

    sets: dict[str, SyntheticSet]
    signals: dict[str, NDArray[np.float64]]
    teacher: Any = None


def _told(owners: NDArray[np.int64] | None) -> list[list[int]]:
    return [] if owners is None else [owners.tolist()]


def _settings(synthesizer: Synthesizer) -> tuple[str, dict[str, Any]]:
    return type(synthesizer).__name__, recipe(dict(synthesizer))


@dataclass(frozen=True)
class Resynthesis:
    """Fit the target's synthesizer on a shadow's members and sample the sets that its students read.

    Attributes:
        synthesizer: the target's, with the target's own settings.
        class_names: names of the classes 0, 1, ...
        known: per-image artefacts of every audited image, (N,) rows each.
        count: images of each set.
        draws: images that were drawn of the target's set for each that stayed, by which the duration is estimated.
        owners: int64 (N,), whose each audited image is; None: nothing says so.
        closed: the sets by name, each with the channels that are closed in it.
        threat: with it the adapted generator is queried about images too.
        queried: int64 (n,), about which.
    """

    synthesizer: Synthesizer
    class_names: Sequence[str]
    known: Mapping[str, pd.DataFrame]
    count: int
    closed: Mapping[str, tuple[str, ...]]
    threat: GeneratorThreat | None = None
    queried: Sequence[int] = ()
    draws: float = 1.0
    owners: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        """Return what tells one resynthesis from another, for fingerprints."""
        known = {name: table.to_csv(index=False) for name, table in self.known.items()}
        settings = (
            *(_settings(self.synthesizer), list(self.class_names), known, self.count),
            *_told(self.owners),
        )
        return repr((settings, sorted(self.closed.items()), self.threat, list(self.queried)))

    def run(
        self,
        images: Tensor,
        labels: Tensor,
        inside: NDArray[np.bool_],
        seed: int,
        device: str,
        teacher: Any = None,
    ) -> Resynthesized:
        """Return the sets, and what else the fit made that is attacked or taught by.

        Args:
            images: uint8 (N, C, H, W), all audited ones.
            labels: int64 (N,).
            inside: bool (N,), the members of this shadow.
            seed: of this shadow; its parts are derived as those of a run.
            device: where to compute.
            teacher: of this shadow, which filters as the target's did; of an arm with its own the fit makes it.
        """
        rows = np.flatnonzero(inside).tolist()
        private = PrivateSet(images, labels, self.class_names, self.owners)
        known = {
            name: table.iloc[rows].reset_index(drop=True) for name, table in self.known.items()
        }
        # A shadow runs in a process of its own: no further ones inside it.
        fitted = self.synthesizer.in_one_process().fit(private.at(rows), seed, device, known)
        if not self.synthesizer.own_teacher:
            fitted = replace(fitted, teacher=teacher)
        sets = {
            # The target's classes could be filled. Where a shadow's cannot, that must not end an audit of many.
            name: fitted.sample(self.count, seed, closed=closed, strict=False)
            for name, closed in self.closed.items()
        }
        signals: dict[str, NDArray[np.float64]] = {}
        if self.threat is not None:
            signals = self._query(fitted.artefacts, private.at(self.queried), device)
        own = fitted.artefacts["teacher"] if self.synthesizer.own_teacher else None
        return Resynthesized(sets, signals, own)

    def _query(
        self, artefacts: Mapping[str, Any], queried: PrivateSet, device: str
    ) -> dict[str, NDArray[np.float64]]:
        from tckr.audit.denoising import query_generator

        arm = self.synthesizer
        assert self.threat is not None
        assert isinstance(arm, TextToImage)
        known = {name: table.iloc[list(self.queried)] for name, table in self.known.items()}
        return query_generator(
            arm.source(),
            arm.updates(artefacts),
            queried.images,
            arm.prompts_of(queried, known),
            device=device,
            **self.threat.queries(),
        )

    def seconds(self, images: Tensor, labels: Tensor, device: str) -> float:
        """Estimate the duration of one `run` on this machine from short trials."""
        private = PrivateSet(images, labels, self.class_names, self.owners)
        synthesizer = self.synthesizer.in_one_process()
        fit, fitted = synthesizer.estimate_fit(private, self.known, device)
        image = fitted.seconds_per_image()
        passes = getattr(getattr(synthesizer.knowledge_recycling, "sampling", None), "passes", 1)
        queries = 0.0 if self.threat is None else self.threat.passes * len(self.queried) / passes
        return fit + image * (self.draws * self.count * len(self.closed) + queries)
