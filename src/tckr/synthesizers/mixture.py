"""Draw from several generators in turn (MultiGAN of GaFi, before arXiv 2407.15526).

A further generator is that of the same arm, fitted once more with another seed, or that of another arm, fitted on the same
members by that arm's own parameters and prompted as that arm prompts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import Options

if TYPE_CHECKING:
    from torch import Tensor

    from tckr.synthesizers.base import Synthesizer

OWN = "own"  # the source of what the arm's own generator drew
SOURCE = "source"  # column of a mixed set: which generator drew an image
BATCH = 256  # images that are handed on at once


class MixedOptions(Options):
    """A further generator: of the same arm with a seed of its own, or of another arm."""

    arm: str | None = Field(
        None,
        description="another arm whose generator it is, fitted on the same members by that arm's own parameters; null: the"
        " same arm once more",
    )
    seed: int | None = Field(
        None,
        ge=0,
        description="tells it from others of the same arm; it is fitted and drawn from with a seed of its own",
    )
    weight: float = Field(
        1.0, gt=0, le=1000, description="images for each one that the arm's own generator draws"
    )
    parameters: SerializeAsAny[Options] | None = Field(
        None,
        validate_default=True,
        description="parameter groups of that other arm; whoever reads the configuration fills them in (with_arms)",
    )

    @field_validator("arm")
    @classmethod
    def _known(cls, arm: str | None) -> str | None:
        from tckr.synthesizers.registry import synthesizer_class

        if arm is not None:
            synthesizer_class(arm)  # says which there are
        return arm

    @field_validator("parameters", mode="before")
    @classmethod
    def _of_the_arm(cls, given: Any, info: Any) -> Any:
        """Make the groups the synthesizer of the arm."""
        from tckr.synthesizers.registry import synthesizer_class

        arm = info.data.get("arm")
        if arm is None:
            if given is not None:
                raise ValueError("parameters are those of another arm, and none is named")
            return None
        if not isinstance(given, Mapping | None):
            return given
        try:
            return synthesizer_class(arm)(**(given or {}))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"of arm {arm}, {place}: {first['msg'].lower()}") from None

    @model_validator(mode="after")
    def _told_apart(self) -> "MixedOptions":
        if self.arm is None and self.seed is None:
            raise ValueError("a further generator needs a seed of its own, or another arm")
        return self

    @property
    def synthesizer(self) -> "Synthesizer | None":
        """The other arm; None: the same once more."""
        return self.parameters  # type: ignore[return-value]

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to fit: an arm without steps draws from what it downloaded."""
        return self.synthesizer is None or bool(self.synthesizer.steps)

    @property
    def name(self) -> str:
        """What it is called in the set and in reports.

        >>> MixedOptions(seed=3).name
        'seed 3'
        """
        parts = [*([self.arm] if self.arm else [])]
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        return ", ".join(parts)

    def seed_of(self, seed: int) -> int:
        """Return the seed that takes the place of the run's."""
        told = [part for part in (self.arm, self.seed) if part is not None]
        return derive(seed, "mixture", *told)

    def drawing(self) -> list[Any]:
        """Return what of the options decides its images, given artefacts and prompts."""
        other = None if self.synthesizer is None else self.synthesizer.drawing()
        return [self.arm, self.seed, self.weight, other]

    def in_one_process(self) -> "MixedOptions":
        """Return the same generator for use inside a worker, which starts no further processes."""
        if self.synthesizer is None:
            return self
        return self.model_copy(update={"parameters": self.synthesizer.in_one_process()})


def with_arms(values: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters in which every mixture carries those of the arms that it names.

    So whatever a mixed set is made by stands in the parameters of the stage that draws it: lineage, shadows and unfinished work
    know it by them. What is said there already, as in the settings of an earlier run, stays. Of the shared options of the
    drawing (`RecyclingOptions`) a further generator has none: they are those of the set as a whole.

    Args:
        values: parameters by group, all or some.
        parameters: all of them, from which those of the arms are taken.

    >>> unadapted = {"knowledge_recycling": {"generator": "g", "cardinality": 2}}
    >>> mixed = {"knowledge_recycling": {"mixture": [{"arm": "unadapted"}, {"seed": 1}]}}
    >>> with_arms(mixed, {**mixed, "unadapted": unadapted})["knowledge_recycling"]["mixture"]
    [{'arm': 'unadapted', 'parameters': {'knowledge_recycling': {'generator': 'g'}}}, {'seed': 1}]
    """
    filled = dict(values)
    for key, group in values.items():
        if not isinstance(group, Mapping):
            continue
        if key != "knowledge_recycling":
            filled[key] = with_arms(group, parameters) if "knowledge_recycling" in group else group
        elif isinstance(mixture := group.get("mixture"), Sequence):
            filled[key] = {**group, "mixture": [_filled(each, parameters) for each in mixture]}
    return filled


def _filled(each: Any, parameters: Mapping[str, Any]) -> Any:
    from tckr.synthesizers.registry import DEFAULT, SYNTHESIZERS

    if not isinstance(each, Mapping) or each.get("parameters") is not None:
        return each
    if (arm := each.get("arm")) not in SYNTHESIZERS:
        return each  # a seed alone, or refused when it is read
    groups = parameters if arm == DEFAULT else parameters.get(arm, {})
    taken = {
        name: {key: value for key, value in group.items() if belongs(arm, f"{name}.{key}")}
        for name, group in groups.items()
        if isinstance(group, Mapping) and belongs(arm, name)
    }
    return {**each, "parameters": taken}


def belongs(arm: str, key: str) -> bool:
    """Whether a parameter of an arm, such as `knowledge_recycling.sampling.steps`, is one of its generator in a mixture.

    >>> belongs("unadapted", "knowledge_recycling.sampling.steps")
    True
    >>> belongs("unadapted", "knowledge_recycling.cardinality"), belongs("unadapted", "student_training.patience")
    (False, False)
    """
    from tckr.synthesizers.recycling import RecyclingOptions
    from tckr.synthesizers.registry import synthesizer_class

    group, _, inside = key.partition(".")
    shared = (
        group == "knowledge_recycling" and inside.partition(".")[0] in RecyclingOptions.model_fields
    )
    return group in synthesizer_class(arm).model_fields and not shared


def arms_of(values: Any) -> list[str]:
    """Return the other arms that the mixture of a parameter group names; none if it has none.

    >>> arms_of({"mixture": [{"seed": 1}, {"arm": "unadapted"}]}), arms_of({"steps": 3})
    (['unadapted'], [])
    """
    mixture = values.get("mixture") if isinstance(values, Mapping) else None
    return [each["arm"] for each in mixture or () if isinstance(each, Mapping) and each.get("arm")]


def check_mixture(arm: "Synthesizer") -> None:
    """Check that an arm may draw from the generators of its mixture.

    Under differential privacy only what touches no private image may be mixed in, since no mechanism pays for more; an arm without
    a ledger mixes in none that needs one; and the control, which nothing private reaches, mixes in nothing.

    Raises:
        UserError: it may not; the key is named.
    """
    mixture = arm.knowledge_recycling.mixture
    if mixture and not arm.artefacts(per_image=False):
        raise UserError(
            "knowledge_recycling.mixture is refused: this arm fits no generator of which there could be several, and nothing"
            " private may reach it.",
            REMEDY,
        )
    for number, each in enumerate(mixture):
        if (why := _forbidden(arm, each)) is not None:
            raise UserError(f"knowledge_recycling.mixture[{number}] ({each.name}) {why}", REMEDY)


REMEDY = "set knowledge_recycling.mixture to [], or mix in another generator (docs/knowledge-recycling.md)."


def _forbidden(arm: "Synthesizer", each: MixedOptions) -> str | None:
    """Return why an arm may not draw from a further generator; None: it may."""
    other = each.synthesizer
    if other is not None and type(other) is type(arm):
        return "names its own arm: a further generator of the same arm has a seed alone."
    if arm.ledger() and each.is_fitted:
        return "would be fitted to the private images, and no mechanism of this arm's ledger pays for it."
    if other is None:
        return None
    if other.ledger():
        return "is under differential privacy: it would need a ledger of its own, and this arm has none."
    if unseen := set(other.threats) - set(arm.threats) - {"generator"}:
        return f"draws from {', '.join(sorted(unseen))} of members, which no attack on this arm looks at."
    return None


def turns(weights: Sequence[float], count: int) -> NDArray[np.int64]:
    """Return which generator draws each of the images 0, 1, ...: in every prefix as their weights ask, as nearly as can be.

    Args:
        weights: of the generators.
        count: images.

    >>> turns([1, 1], 6).tolist(), turns([2, 1], 6).tolist()
    ([0, 1, 0, 1, 0, 1], [0, 1, 0, 0, 1, 0])
    """
    due, total = np.zeros(len(weights)), float(sum(weights))
    drawn = np.empty(count, dtype=np.int64)
    for number in range(count):
        due += weights
        drawn[number] = due.argmax()
        due[drawn[number]] -= total
    return drawn


def interleaved(
    sources: Sequence["Iterable[Tensor]"], turn: NDArray[np.int64]
) -> "Iterator[Tensor]":
    """Yield the next image of whichever source has its turn, in batches, uint8 (B, C, H, W).

    >>> import torch
    >>> (batch,) = interleaved([[torch.zeros(2, 1)], [torch.ones(1, 1), torch.ones(1, 1)]], np.array([1, 0, 0, 1]))
    >>> batch.flatten().tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    import torch

    images = [(image for batch in source for image in batch) for source in sources]
    for start in range(0, len(turn), BATCH):
        yield torch.stack([next(images[which]) for which in turn[start : start + BATCH]])
