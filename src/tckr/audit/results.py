"""The whole of `audit.json`, from its parts: `attack_results`, `things` and `proven`.

All are frozen and refuse unknown fields. `Audit.model_dump(mode="json")` is the content of `audit.json`, and
`Audit.model_validate` reads it back to an equal object. A figure that is infinite, NaN or not measurable is None.

    Audit
      plan: Plan
      things: name -> ModelAudit (student, weights, released, teacher) or ThreatAudit (generator, joint, images, prompts)
        attacks: name -> AttackResult
          auc: Auc, tprs: Tpr (each with its Ppv), epsilon: Epsilon, aop: Interval
      extraction: Extraction, one per space and distance
      duplicated: DuplicatedCanaries, if any were planted
        things: name -> Exposure
      attribution: Attribution, if measured
      guarantee: Guarantee, if the arm has a ledger
"""

from typing import Literal

from pydantic import Field, field_validator

from tckr.audit.attack_results import Result
from tckr.audit.proven import Guarantee
from tckr.audit.things import (
    THINGS,
    DuplicatedCanaries,
    Extraction,
    ModelAudit,
    Thing,
    ThreatAudit,
    thing_of,
)

# Of the layout of audit.json. 3 knew no separation and no guarantee, 4 neither the released set as an attacker uses it nor
# what an audit cannot measure, and called `covers_half` `no_leak`, 5 knew no extraction and no joint attacker; all are read.
VERSION: Literal[6] = 6


class ChannelShare(Result):
    """What one channel adds to the student's leak."""

    channel: str = Field(description="soft labels, adapter, captions, or all of them")
    share: float = Field(description="Shapley value of the channel, in units of AUC")
    low: float = Field(description="lower end of the interval of the share")
    high: float = Field(description="upper end of the interval of the share")
    alone: float = Field(description="leak of the student with this channel only")
    without: float | None = Field(
        description="leak of the student with all channels less that without this one; None for all of them"
    )


class StudentLeak(Result):
    """The leak of a student with some of the channels open."""

    student: str = Field(description="names of its open channels, or `nothing`")
    opened: tuple[str, ...] = Field(description="the channels that are open for it")
    auc: float = Field(description="AUC of the attack on this student")
    leak: float = Field(description="AUC - 1/2")
    low: float = Field(description="lower end of the interval of the leak")
    high: float = Field(description="upper end of the interval of the leak")


class Attribution(Result):
    """How much of the student's leak enters through each channel."""

    n_shadows: int = Field(description="shadows that trained every one of the students")
    attack: str | None = Field(
        default=None, description="the attack on each student; None in files before version 5"
    )
    students: tuple[StudentLeak, ...] = Field(description="one entry per combination of channels")
    channels: tuple[ChannelShare, ...] = Field(
        description="one per channel; the last is all of them"
    )


class Plan(Result):
    """The number of shadows and the time that they were expected to take, decided before the audit."""

    n_shadows: int = Field(description="shadow groups that fit into the time budget")
    requested: int = Field(description="shadow groups that the configuration names")
    seconds_per_group: float = Field(description="of the probe, scaled to a whole group")
    minutes: float = Field(description="estimate for all groups")
    workers: int = Field(description="processes that work side by side")
    fingerprint: str | None = Field(
        default=None, description="of the shadows' work, which names the folder of its checkpoints"
    )
    teachers: str | None = Field(
        default=None,
        description="the same of their teachers alone, which audits of several arms share",
    )


class Audit(Result):
    """Everything that `audit.json` contains: one audit per thing, each attacked on its own."""

    version: Literal[3, 4, 5, 6] = Field(default=VERSION, description="of this layout")
    plan: Plan = Field(description="of the shadows")
    things: dict[str, ModelAudit | ThreatAudit] = Field(
        description="audit of each thing by its name in `THINGS`; a thing that an arm does not have is absent"
    )
    extraction: tuple[Extraction, ...] = Field(
        default=(),
        description="members that were reproduced, by space and distance; empty without images and before version 6",
    )
    duplicated: DuplicatedCanaries | None = Field(
        default=None, description="figures of the duplicated canaries; None without any"
    )
    attribution: Attribution | None = Field(
        default=None, description="where the student's leak comes from; None if not measured"
    )
    guarantee: Guarantee | None = Field(
        default=None, description="what the arm's ledger proves; None: nothing, epsilon is infinite"
    )

    @property
    def proven(self) -> Guarantee | None:
        """Return the guarantee if it protects anybody: there is one, and no noise came from a seed."""
        return self.guarantee if self.guarantee is not None and self.guarantee.private else None

    def about(self, name: str) -> Thing:
        """Return what a thing of this audit is called and who attacks it."""
        return thing_of(name, proven=self.proven is not None)

    @property
    def models(self) -> dict[str, ModelAudit]:
        """Return the audits of classifiers by name."""
        return {name: a for name, a in self.things.items() if isinstance(a, ModelAudit)}

    @property
    def threats(self) -> dict[str, ThreatAudit]:
        """Return the audits of everything that is not a classifier by name."""
        return {name: a for name, a in self.things.items() if isinstance(a, ThreatAudit)}

    @field_validator("things")
    @classmethod
    def _known(
        cls, things: dict[str, ModelAudit | ThreatAudit]
    ) -> dict[str, ModelAudit | ThreatAudit]:
        unknown = sorted(set(things) - set(THINGS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not in tckr.audit.things.THINGS")
        return things
