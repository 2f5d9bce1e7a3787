"""Typed parameters of a teacher trained under differential privacy."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tckr.classifiers.options import AugmentationOptions
from tckr.options import ModelSource, Options, PrivateSchedule

NOISE_ON_LOGITS = 2.0  # standard deviations
MOST_TRAVEL = 1000.0  # learning_rate * steps where there is little noise or none


class PrivateTeacherOptions(Options):
    """Parameters of the private teacher.

    How they were fixed, none of it by private images. `max_grad_norm` 1 is far below the gradients of vectors of norm
    sqrt(D), so that images count alike until they are learned. The number of steps of the full batch hardly matters: at
    a given mu the noise of a step grows as sqrt(steps), and what adds up over all steps does not change. What matters is
    how far the weights travel, learning_rate * steps. The rule: so far that the accumulated noise moves a logit by two
    standard deviations, `NOISE_ON_LOGITS`. On public images (3,000 grey photographs of six animals and 1,400 digits of
    scikit-learn; epsilon 1, 3, 10 and 30; 60 steps, one draw of the noise) half and twice as far were worse on average,
    and sixteen times as far (at epsilon 1 and 10) by 2 to 12 points. `python -m benchmarks.private_teacher --public`
    repeats this for the photographs.
    """

    kind: Literal["linear", "dp_sgd"] = Field(
        "linear",
        description="a linear head on fixed features by noisy full-batch gradients, or DP-SGD on a pretrained network",
    )
    features: Literal["scattering", "clip", "network"] = Field(
        "scattering",
        description="linear: of the scattering transform, of a CLIP (see encoder), or of a network that was trained on"
        " images already public or under differential privacy",
    )
    encoder: Annotated[str | None, ModelSource("encoder")] = Field(
        None, description="features clip: folder of a transformers CLIPModel"
    )
    network: str | None = Field(
        None,
        description="features network, and dp_sgd: folder of a classifier that tckr saved, trained on public images or on"
        " images under differential privacy, never on private ones",
    )
    steps: int = Field(100, ge=1, description="linear: full-batch steps")
    learning_rate: float | None = Field(
        None, gt=0, description="linear: null takes it from noise, steps and number of images"
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        description="linear: largest norm of one image's gradient, the sensitivity of a step",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="linear: of the noisy gradients")
    averaging: float = Field(
        0.9, ge=0, lt=1, description="linear: decay of the exponential average of the weights"
    )
    # A starting point for dp_sgd, whose clipping is of whole networks.
    dp_sgd: PrivateSchedule = PrivateSchedule(
        steps=200, sampling_rate=0.15, learning_rate=0.5, max_grad_norm=1.0, passes=4,
        optimiser="sgd", averaging=0.95, micro_batch=64,
    )  # fmt: skip
    augmentation: AugmentationOptions = AugmentationOptions()
    # Speed only.
    cache_gib: float = Field(
        2.0,
        ge=0,
        description="linear: memory for features, GiB; more goes to a scratch file of the run",
    )

    @property
    def needs_network(self) -> bool:
        """Whether it starts from a network that was trained before."""
        return self.kind == "dp_sgd" or self.features == "network"

    @model_validator(mode="after")
    def _fits(self) -> "PrivateTeacherOptions":
        if self.features == "clip" and self.encoder is None:
            raise ValueError("features clip need an encoder")
        return self

    def rate_for(self, noise_multiplier: float, count: int, size: int) -> float:
        """Return the learning rate of the linear head: a matter of public constants alone.

        Steps of noise sigma / N on every weight add up to rate / (1 - momentum) sqrt(steps) sigma / N, and on a logit of
        a vector of norm sqrt(D) to sqrt(D) times that.

        Args:
            noise_multiplier: of a step.
            count: images, N.
            size: numbers of a feature vector, D.

        >>> round(PrivateTeacherOptions(steps=80).rate_for(36.9, 55_000, 3969), 2)
        0.53
        """
        if self.learning_rate is not None:
            return self.learning_rate
        sigma = noise_multiplier * self.max_grad_norm
        noise = sigma * math.sqrt(self.steps * size) / ((1 - self.momentum) * count)
        return min(NOISE_ON_LOGITS / noise if noise else math.inf, MOST_TRAVEL / self.steps)
