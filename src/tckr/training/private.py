"""The training loop under differential privacy (DP-SGD: Abadi et al. 2016, arXiv 1607.00133).

Each step takes every image with the same probability (Poisson sampling), clips the gradient of each image, adds Gaussian
noise to the sum and divides by the *expected* number of images. That noisy sum is all that leaves a step: no loss, no
gradient norm and no count is kept or shown, because nothing pays for them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tckr.engine.checkpoint import Checkpoint
from tckr.engine.progress import track
from tckr.errors import Paused, UserError
from tckr.options import PrivateSchedule
from tckr.training.per_image import clipped_sum, recording

if TYPE_CHECKING:
    from tckr.dp.mechanisms import Noise

SPEED_ONLY = {"micro_batch"}
ADAM_EPSILON = 1e-12  # far below the gradients, which clipping makes as small as it likes
SGD_MOMENTUM = 0.9

Loss = Callable[[Tensor], Tensor]
"""Called with rows, int64 (n,): the sum over these images of the mean over their passes of a loss that one image
determines alone. The passes of an image stand next to each other in the batch. It draws from torch's default generators."""


def private_minimize(
    network: nn.Module,
    loss: Loss,
    images: int,
    schedule: PrivateSchedule,
    noise_multiplier: float,
    noise: "Noise",
    description: str,
    *,
    count: int | None = None,
    checkpoint: Checkpoint | None = None,
    identity: Mapping[str, Any] | None = None,
) -> None:
    """Train the parameters of `network` that require a gradient, in place; they end as their average.

    The adjacency is to add or remove one image; one step is one Poisson-sampled Gaussian mechanism of sensitivity
    `schedule.max_grad_norm`.

    Args:
        network: whose trained layers `PerImageGradients` knows; it is left in the mode in which it comes.
        loss: see `Loss`.
        images: number of rows to sample from.
        schedule: steps, sampling rate, clipping, learning rate.
        noise_multiplier: standard deviation of the noise in units of `max_grad_norm`; 0 for none.
        noise: draws the sample of each step and the noise.
        description: name of the progress bar and of the training in error messages.
        count: the number of images as the ledger states it, a public constant by which sums are divided; None takes
            `images` and so declares it public.
        checkpoint: the state is saved there after every step, noise included, so that a step once paid for is not
            taken again; and resumed from it.
        identity: plain values, such as a hash of the data, that the checkpoint must match.

    Raises:
        Paused: the checkpoint's deadline has passed; the state is saved.
        UserError: the weights diverged, or the checkpoint is of another recipe, noise or data.
    """
    started = time.monotonic()
    state = _State.of(network, schedule)
    recipe = schedule.model_dump(exclude=SPEED_ONLY)
    fingerprint = {
        "description": description, "schedule": recipe, "noise_multiplier": noise_multiplier,
        "shapes": [list(each.shape) for each in state.parameters], "count": count or images, **(identity or {}),
    }  # fmt: skip
    saved = checkpoint.load(fingerprint) if checkpoint else None
    if saved:
        state.restore(saved)
    expected = schedule.sampling_rate * (count or images)
    pieces = _Pieces(schedule.micro_batch)
    for index in track(range(state.done, schedule.steps), description, schedule.steps, state.done):
        rows = noise.poisson_sample(images, schedule.sampling_rate)
        sums = noisy_sum(network, loss, rows, schedule.max_grad_norm, noise_multiplier, noise, pieces)
        state.step([each / expected for each in sums], schedule.averaging)
        if not all(bool(each.isfinite().all()) for each in state.parameters):
            raise UserError(
                f"The {description} diverged: its weights were no longer numbers by step {index + 1:,}.",
                "lower its learning_rate.",
            )
        if checkpoint:
            checkpoint.save(fingerprint, state.dump())
            late = checkpoint.deadline is not None and time.monotonic() - started >= checkpoint.deadline
            if late and state.done < schedule.steps:
                raise Paused(description, state.done, schedule.steps)
    if schedule.averaging:
        with torch.no_grad():
            torch._foreach_copy_(list(state.parameters), state.average)


def noisy_sum(
    network: nn.Module,
    loss: Loss,
    rows: Tensor,
    max_grad_norm: float,
    noise_multiplier: float,
    noise: "Noise",
    pieces: "_Pieces | None" = None,
) -> list[Tensor]:
    """Return the sum of the clipped gradients of the images at `rows`, with noise added once, float64.

    Returns:
        One tensor per trained parameter.
    """
    sums = gradient_sum(network, loss, rows, max_grad_norm, pieces)
    if noise_multiplier:
        for each in sums:
            each += noise.normal(each.shape, noise_multiplier * max_grad_norm, each.device).to(each)
    return sums


def gradient_sum(
    network: nn.Module,
    loss: Loss,
    rows: Tensor,
    max_grad_norm: float,
    pieces: "_Pieces | None" = None,
) -> list[Tensor]:
    """Return the sum of the clipped gradients without noise: private, and never to be returned by a step.

    Args:
        rows: int64 (n,), n from 0 to any number: they are read in pieces that fit.
    """
    trained = [each for each in network.parameters() if each.requires_grad]
    sums = [torch.zeros(each.shape, dtype=torch.float64, device=each.device) for each in trained]
    pieces = pieces or _Pieces(len(rows) or 1)

    def add(part: Tensor) -> None:
        with recording(network) as record:
            found = clipped_sum(record.gradients(loss(part), len(part)), max_grad_norm)
            found = [each.double() for each in found]  # all memory is taken before the first image counts
        for total, each in zip(sums, found, strict=True):
            total += each

    pieces.over(rows, add)
    return sums


class _Pieces:
    """Calls some work on pieces of rows, which halve whenever memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, rows: Tensor, work: Callable[[Tensor], None]) -> None:
        while len(rows):
            part = rows[: self.size]
            try:
                work(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise UserError(
                        "The device has not enough memory for the gradient of a single image.",
                        "choose fewer passes, a smaller model or a lower resolution, or free the device.",
                    ) from error
                part = None
            if part is None:  # here, not above: there the error still holds what the failed attempt had allocated
                self.size = (min(self.size, len(rows)) + 1) // 2
                torch.cuda.empty_cache()
                continue
            rows = rows[len(part) :]


@dataclass
class _State:
    """Everything that a step changes."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: list[Tensor] = field(default_factory=list)
    done: int = 0

    @staticmethod
    def of(network: nn.Module, schedule: PrivateSchedule) -> "_State":
        parameters = [each for each in network.parameters() if each.requires_grad]
        rate = schedule.learning_rate
        optimizer: torch.optim.Optimizer
        if schedule.optimiser == "adam":
            optimizer = torch.optim.Adam(parameters, rate, (0.9, 0.99), ADAM_EPSILON)
        else:
            optimizer = torch.optim.SGD(parameters, rate, SGD_MOMENTUM)
        return _State(parameters, optimizer, [each.detach().clone() for each in parameters])

    def step(self, gradients: list[Tensor], averaging: float) -> None:
        """Update the weights by noisy mean gradients, and their average."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # early on the average follows the weights closely, so that the start is soon forgotten
        decay = min(averaging, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(self.average, [each.detach() for each in self.parameters], 1 - decay)
        self.done += 1

    def dump(self) -> dict[str, Any]:
        """Return a copy on the CPU, of plain values."""

        def copies(tensors: Any) -> list[Tensor]:
            return [each.detach().to("cpu", copy=True) for each in tensors]

        device = self.parameters[0].device
        return {
            "parameters": copies(self.parameters),
            "average": copies(self.average),
            "optimizer": self.optimizer.state_dict()["state"],
            "done": self.done,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    @torch.no_grad()
    def restore(self, saved: dict[str, Any]) -> None:
        """Restore what `dump` returned."""
        torch._foreach_copy_(list(self.parameters), saved["parameters"])
        torch._foreach_copy_(self.average, saved["average"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": saved["optimizer"]})
        self.done = saved["done"]
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] is not None and self.parameters[0].is_cuda:
            torch.cuda.set_rng_state(saved["random_cuda"], self.parameters[0].device)
