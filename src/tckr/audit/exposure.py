"""What comes out of duplicated canaries: images of members that were trained on many times, with their right label.

Repetition is what generators learn by heart (Carlini et al., USENIX Security 2023, arXiv 2301.13188), and what is
learnt by heart once in a while is the worst case of a release that is harmless on average. Every thing that an audit
attacks is attacked with the same primary attack on the canaries alone.

Where shadows calibrate the attack, canaries of the members stand against those of the holdout: a shadow learns either from all
copies or from none, so that the two differ in nothing but the target's membership. Without shadows any holdout image is a
non-member like another, and the whole holdout stands against them, which resolves lower false-positive rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.attacks import ATTACKS
from tckr.attacks.registry import scores
from tckr.audit import tables
from tckr.audit.attack_results import AttackResult
from tckr.audit.audit import attack_on_shadows, over_shadows
from tckr.audit.evaluation import evaluate
from tckr.audit.extraction import extract
from tckr.audit.options import FEWEST_TO_LEAVE_ONE_OUT, AuditOptions
from tckr.audit.seen import ROWS, Seen, part
from tckr.audit.things import DuplicatedCanaries, Exposure, ModelAudit, ThingAudit, ThreatAudit
from tckr.audit.threats import generator_attacks
from tckr.images.canaries import copies_of, is_duplicated

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES, PROMPTS, ADAPTER = "images", "prompts", "generator"


def expose(
    seen: Seen,
    membership_table: pd.DataFrame,
    things: Mapping[str, ThingAudit],
    options: AuditOptions,
) -> DuplicatedCanaries | None:
    """Attack every thing on the duplicated canaries alone.

    Args:
        seen: of all audited images, copies included.
        membership_table: of `tables.draw_memberships`.
        things: audits of the same things on all other images, which say the primary attack and what they can show; of
            several things together there is no figure here.
        options: of the audit.

    Returns:
        None without duplicated canaries.
    """
    if not is_duplicated(seen.audited).any():
        return None
    copies = copies_of(seen.audited)
    seen = seen.distinct()
    canaries = _Canaries(seen, tables.memberships(membership_table, seen.audited), options)
    exposures: dict[str, Exposure] = {}
    for name, thing in things.items():
        if isinstance(thing, ModelAudit) and thing.shows != "nothing":
            exposures[name] = canaries.through_model(name)
        elif name == ADAPTER and isinstance(thing, ThreatAudit):
            exposures[name] = canaries.through_generator(thing)
        elif name in (IMAGES, PROMPTS) and isinstance(thing, ThreatAudit):
            exposures[name] = canaries.through_release(name, thing)
    inside = tables.is_member(seen.audited)
    planted = is_duplicated(seen.audited)
    return DuplicatedCanaries(
        members=int((planted & inside).sum()),
        holdout=int((planted & ~inside).sum()),
        copies=copies,
        things=exposures,
        extraction=canaries.extracted(),
    )


@dataclass(frozen=True)
class _Canaries:
    """The duplicated canaries among the pictures that were seen, one row each.

    Attributes:
        seen: of distinct pictures, N.
        membership: bool (S, N).
        options: of the audit.
    """

    seen: Seen
    membership: "NDArray[np.bool_]"
    options: AuditOptions

    def through_model(self, name: str) -> Exposure:
        audited, options = self.seen.audited, self.options
        shadow = np.asarray(self.seen.shadows[name], dtype=np.float64)
        inside = tables.is_member(audited)
        values = scores(
            options.attack,
            np.asarray(self.seen.targets[name], dtype=np.float64),
            shadow,
            self.membership,
            variance=options.variance,
            features=tables.with_classes(np.asarray(self.seen.release["features"]), audited),
            reference=~inside,
        )
        planted = is_duplicated(audited)
        return Exposure(
            attack=self._evaluated(
                options.attack, ATTACKS[options.attack].title, values[planted], inside[planted]
            ),
            over_shadows=self._over_shadows(shadow, self.membership, planted),
        )

    def through_generator(self, thing: ThreatAudit) -> Exposure:
        assert self.seen.generator is not None
        queried = {name: np.asarray(values) for name, values in self.seen.generator.items()}
        rows = queried[ROWS]
        shadow = membership = None
        if thing.n_shadows:
            shadow = self.seen.shadow_signals()
            membership = self.membership[:, rows]
        adapted, base = (part(queried, name) for name in ("adapted", "base"))
        found, labels, primary = generator_attacks(adapted, base, self.options, shadow, membership)
        audited = self.seen.audited.iloc[rows]
        planted, inside = is_duplicated(audited), tables.is_member(audited)
        compared = planted if thing.n_shadows else planted | ~inside
        pooled = None
        if shadow is not None and membership is not None:
            record = shadow[self.options.generator.record]
            pooled = self._over_shadows(record, membership, planted)
        return Exposure(
            attack=self._evaluated(
                primary,
                labels[primary],
                found[primary][compared],
                inside[compared],
                tables.people(audited[compared]),
            ),
            over_shadows=pooled,
        )

    def through_release(self, name: str, thing: ThreatAudit) -> Exposure:
        found = {key: np.asarray(values) for key, values in self.seen.release.items()}
        audited = self.seen.audited.iloc[found[ROWS] if name == PROMPTS else slice(None)]
        compared = is_duplicated(audited) | ~tables.is_member(audited)
        values = found[f"{name}.{thing.primary_attack}"]
        return Exposure(
            attack=self._evaluated(
                thing.primary_attack,
                thing.primary.label,
                np.asarray(values[compared], dtype=np.float64),
                tables.is_member(audited[compared]),
                tables.people(audited[compared]),
            )
        )

    def extracted(self) -> "tuple[Any, ...]":
        audited = self.seen.audited
        compared = is_duplicated(audited) | ~tables.is_member(audited)
        near = part({key: np.asarray(v) for key, v in self.seen.release.items()}, IMAGES)
        some = audited[compared]
        return extract(
            {name: values[compared] for name, values in near.items()},
            tables.is_member(some),
            self.options,
            tables.people(some),
        )

    def _over_shadows(
        self,
        shadow: "NDArray[np.float64]",
        membership: "NDArray[np.bool_]",
        planted: "NDArray[np.bool_]",
    ) -> AttackResult | None:
        if len(membership) < FEWEST_TO_LEAVE_ONE_OUT:
            return None
        name = attack_on_shadows(self.options)
        pooled = over_shadows(shadow, membership, self.options)[:, planted]
        canary = np.broadcast_to(np.arange(pooled.shape[1]), pooled.shape)
        return self._evaluated(
            name,
            ATTACKS[name].title,
            pooled.ravel(),
            membership[:, planted].ravel(),
            canary.ravel(),
        )

    def _evaluated(
        self,
        name: str,
        label: str,
        values: "NDArray[np.float64]",
        inside: "NDArray[np.bool_]",
        clusters: "NDArray[np.int64] | None" = None,
    ) -> AttackResult:
        """Return the figures without those that are of one image: a canary is as many as it has copies."""
        found = evaluate(name, label, values, inside, self.options, clusters=clusters)
        return found.model_copy(update={"epsilon": None, "separation": None})
