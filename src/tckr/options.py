"""Base of every typed parameter group."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# Ends of the keys of parameters that change how fast a result comes, not the result.
SPEED = (
    ".workers",
    ".stack",
    ".checkpoints",
    ".cache_gib",
    "captioning.batch_size",
    "sampling.batch_size",
)
# Groups of such parameters, wherever they stand.
SPEED_GROUPS = (".traffic.",)


class Options(BaseModel):
    """Frozen parameters of one stage; an unknown key, a value out of range, infinite or not a number is refused.

    Kedro validates `params:<stage>` against a subclass of this before any node runs.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # the command line reads a column named 1 as a number
    )


class ModelSource(NamedTuple):
    """Marks a parameter that names a pretrained model: `Annotated[str, ModelSource("generator")]`.

    Attributes:
        kind: what the model must be; a run checks its folder before it starts.
    """

    kind: str


class Schedule(Options):
    """How long and how fast to optimise."""

    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(ge=1, description="examples a step")
    learning_rate: float = Field(gt=0, description="peak learning rate")
    decay: Literal["cosine", "constant"] = Field(
        "cosine", description="of the learning rate after the warm-up; constant keeps the peak"
    )
    final: float = Field(
        0.02, ge=0, le=1, description="learning rate at the end, as a share of the peak"
    )
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps spent warming up")
    weight_decay: float = Field(1e-3, ge=0)
    beta2: float = Field(0.99, gt=0, lt=1, description="decay of AdamW's second moment")
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the exponential average of the weights; 0 keeps the last ones",
    )

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of step `step` (0-based).

        >>> schedule = Schedule(steps=100, batch_size=8, learning_rate=1e-3, warmup=0)
        >>> [round(schedule.learning_rate_at(step), 6) for step in (0, 50, 100)]
        [0.001, 0.00051, 2e-05]
        """
        progress = step / self.steps
        if progress < self.warmup:
            return self.learning_rate * (step + 1) / (self.steps * self.warmup + 1)
        if self.decay == "constant":
            return self.learning_rate
        cosine = (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
        return self.learning_rate * (self.final + (1 - self.final) * cosine)


class PrivateSchedule(Options):
    """How long, how fast and how sharply clipped to optimise under differential privacy (DP-SGD).

    Fixed before any private image is read; the noise multiplier is not among them, because it follows from the budget.
    """

    steps: int = Field(ge=1, description="optimiser steps, each of them paid for")
    sampling_rate: float = Field(
        gt=0, le=1, description="probability of each image to be in a step (Poisson sampling)"
    )
    learning_rate: float = Field(gt=0, description="constant")
    max_grad_norm: float = Field(
        1.0, gt=0, description="largest norm of one image's gradient, the sensitivity of a step"
    )
    passes: int = Field(
        1,
        ge=1,
        description="views or noise levels an image, averaged before its gradient is clipped",
    )
    optimiser: Literal["adam", "sgd"] = Field("adam", description="sgd has momentum 0.9")
    averaging: float = Field(
        0.9, ge=0, lt=1, description="decay of the exponential average of the weights; 0: none"
    )
    # Speed only.
    micro_batch: int = Field(
        64,
        ge=1,
        description="images whose gradients are held at once; halved where memory runs out",
    )


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `a.b.c` and its value for every leaf of nested dictionaries and typed options."""
    for key, value in values.items():
        inner = value.model_dump() if isinstance(value, BaseModel) else value
        if isinstance(inner, Mapping):
            yield from leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves that a result depends on; after a change of the others, unfinished work goes on.

    >>> recipe({"captioning": {"prompt": None, "batch_size": 8, "checkpoints": "data"}, "classifier": {"batch_size": 8}})
    {'captioning.prompt': None, 'classifier.batch_size': 8}
    >>> recipe({"mixture": [{"weight": 1, "sampling": {"steps": 6, "workers": 2}}]})
    {'mixture': [{'weight': 1, 'sampling.steps': 6}]}
    """

    def settled(value: Any) -> Any:
        listed = isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
        return [recipe(each) for each in value] if listed else value

    return {
        key: settled(value)
        for key, value in leaves(values)
        if not key.endswith(SPEED) and not any(group in key for group in SPEED_GROUPS)
    }
