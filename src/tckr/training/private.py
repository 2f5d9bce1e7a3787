"""The training loop under differential privacy (DP-SGD: Abadi et al. 2016, arXiv 1607.00133).

Each step takes every image with the same probability (Poisson sampling), clips the gradient of each image, adds Gaussian
noise to the sum and divides by the *expected* number of images. That noisy sum is all that leaves a step: no loss, no
gradient norm and no count is kept or shown, because nothing pays for them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import add_noise
from tckr.dp.noise import Noise
from tckr.engine.checkpoint import Checkpoint
from tckr.engine.progress import track
from tckr.errors import Paused, UserError
from tckr.options import PrivateSchedule
from tckr.training.per_image import clipped_sum, recording

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
    entry: Entry,
    noise: Noise,
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
        entry: what the ledger charged, see `private_plan`: its noise is the noise that is added.
        noise: draws the sample of each step and the noise.
        description: name of the progress bar and of the training in error messages.
        count: the number of images as the ledger states it, a public constant by which sums are divided; None takes
            `images` and so declares it public.
        checkpoint: the state is saved there after every step, noise included, so that a step once paid for is not
            taken again; and resumed from it.
        identity: plain values, such as a hash of the data, that the checkpoint must match.

    Raises:
        Paused: the checkpoint's deadline has passed; the state is saved.
        UserError: the weights diverged, the ledger charged another schedule, or the checkpoint is of another recipe,
            noise or data.
    """
    check_charged(entry, private_plan(schedule, 0.0, entry.name, private_minimize))
    started = time.monotonic()
    state = _State.of(network, schedule)
    recipe = schedule.model_dump(exclude=SPEED_ONLY)
    fingerprint = {
        "description": description, "schedule": recipe, "noise_multiplier": entry.noise_multiplier,
        "shapes": [list(each.shape) for each in state.parameters], "count": count or images, **(identity or {}),
    }  # fmt: skip
    saved = checkpoint.load(fingerprint) if checkpoint else None
    if saved:
        state.restore(saved)
    expected = schedule.sampling_rate * (count or images)
    pieces = _Pieces(schedule.micro_batch)
    for index in track(range(state.done, schedule.steps), description, schedule.steps, state.done):
        rows = torch.from_numpy(noise.poisson_sample(images, entry.sampling_rate)).nonzero()[:, 0]
        sums = _noisy(gradient_sum(network, loss, rows, entry.sensitivity, pieces), entry, noise)
        state.step([each / expected for each in sums], schedule.averaging)
        if not all(bool(each.isfinite().all()) for each in state.parameters):
            raise UserError(
                f"The {description} diverged: its weights were no longer numbers by step {index + 1:,}.",
                "lower its learning_rate.",
            )
        if checkpoint:
            checkpoint.save(fingerprint, state.dump())
            late = (
                checkpoint.deadline is not None
                and time.monotonic() - started >= checkpoint.deadline
            )
            if late and state.done < schedule.steps:
                raise Paused(description, state.done, schedule.steps)
    if schedule.averaging:
        with torch.no_grad():
            torch._foreach_copy_(list(state.parameters), state.average)


def private_plan(
    schedule: PrivateSchedule, share: float, name: str, code: Callable[..., Any]
) -> Plan:
    """Return what to plan in the ledger for `private_minimize`: a Gaussian on a Poisson sample.

    Args:
        share: of the budget, in mu^2.
        name: in the ledger.
        code: what calls `private_minimize`.
    """
    return Plan(
        name=name,
        mechanism="subsampled_gaussian",
        sampling_rate=schedule.sampling_rate,
        steps=schedule.steps,
        sensitivity=schedule.max_grad_norm,
        share=share,
        why="a step adds up gradients, of which each is of one image alone and clipped to this norm",
        code=code_of(code),
    )


def check_charged(entry: Entry, plan: Plan) -> None:
    """Check that the ledger charged what is about to run.

    Raises:
        UserError: the mechanism, its sampling rate, steps or sensitivity differ.
    """
    for field_ in ("mechanism", "sampling_rate", "steps", "sensitivity"):
        charged, wanted = getattr(entry, field_), getattr(plan, field_)
        if charged != wanted:
            raise UserError(
                f"The ledger charged '{entry.name}' for {field_} {charged}, but the parameters say {wanted}.",
                "go back to the parameters that were charged, or start over with a new ledger and count both.",
            )


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
            # All memory is taken before the first image counts: a piece is added whole or not at all.
            found = [each.double() for each in found]
        for total, each in zip(sums, found, strict=True):
            total.add_(each)

    pieces.over(rows, add)
    return sums


def _noisy(sums: list[Tensor], entry: Entry, noise: Noise) -> list[Tensor]:
    """Add noise to the sums of all parameters, which are one vector: the gradient of an image is clipped as a whole."""
    vector = add_noise(torch.cat([each.flatten() for each in sums]), entry, noise)
    parts = vector.split([each.numel() for each in sums])
    return [part.view(each.shape) for part, each in zip(parts, sums, strict=True)]


class _Pieces:
    """Calls some work on pieces of rows, which halve whenever memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, rows: Tensor, work: Callable[[Tensor], None]) -> None:
        while len(rows):
            part, fits = rows[: self.size], True
            try:
                work(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise UserError(
                        "The device has not enough memory for the gradient of a single image.",
                        "choose fewer passes, a smaller model or a lower resolution, or free the device.",
                    ) from error
                fits = False
            if (
                not fits
            ):  # here, not above: there the error still holds what the failed attempt had allocated
                self.size = (len(part) + 1) // 2
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
