"""The training loop of every generative model: AdamW, warm-up and cosine decay, gradient clipping, averaged weights."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tckr.engine.checkpoint import Checkpoint
from tckr.engine.progress import track
from tckr.errors import Paused, UserError
from tckr.options import Schedule
from tckr.training.cuda_graph import GraphedStep

RECORDS = 100  # points of a loss curve

Keep = Callable[[int, Sequence[Tensor]], None]
"""Called as `keep(steps_done, weights)`, the weights averaged where the schedule says so; it must not change them."""


def minimize(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    schedule: Schedule,
    description: str,
    *,
    capture: bool = False,
    checkpoint: Checkpoint | None = None,
    identity: Mapping[str, Any] | None = None,
    prepare: Callable[[int], None] | None = None,
    accumulate: int = 1,
    keep_at: Collection[int] = (),
    keep: Keep | None = None,
    stop: int | None = None,
) -> pd.DataFrame:
    """Minimize `loss`, which draws its own batch each time it is called.

    Args:
        parameters: leaf tensors, all on one device; changed in place. With `schedule.averaging` they end as
            the exponential moving average of their values (corrected for its start).
        loss: returns the scalar loss of a fresh batch. It draws from torch's default generators and changes nothing
            else; otherwise an interrupted training would not resume exactly.
        schedule: number of steps, learning rates, clipping and averaging.
        description: name of the progress bar and of the training in error messages.
        capture: on a GPU, capture one whole step as a CUDA graph and replay it; `loss` must then keep its shapes and
            never wait for the GPU.
        checkpoint: save the state there from time to time and at the end, and resume from it if it exists. An
            interrupted training gives the same result as an uninterrupted one, and a finished one is not repeated.
            The caller removes the file once the result is saved.
        identity: plain values that distinguish this work from other work, a hash of the data above all; the checkpoint
            must match them to be resumed, and without them there is no checkpoint.
        prepare: called as `prepare(index)` before step `index`, outside the captured graph: it may fill tensors that
            `loss` reads, and must not draw from torch's default generators.
        accumulate: calls of `loss` per step; their gradients are averaged.
        keep_at: numbers of steps after which `keep` is called. One that a resumed training had passed is not repeated:
            `keep` was called for it before the state was saved.
        keep: may copy what the parameters would be if the training ended here.
        stop: end after so many steps of the schedule, whose learning rates are those of the whole.

    Returns:
        Table with columns `step` and `loss` (mean since the previous row), about 100 rows.

    Raises:
        Paused: the checkpoint's deadline has passed; the state is saved.
        UserError: the loss is not finite, or the checkpoint is of another schedule, other parameters or another seed.
        ValueError: a checkpoint without an identity.

    Example:
        >>> import torch
        >>> from tckr.options import Schedule
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> schedule = Schedule(steps=200, batch_size=1, learning_rate=0.1)
        >>> losses = minimize([weight], lambda: (weight - 2).square().sum(), schedule, "example")
        >>> round(weight.item(), 1)
        2.0
    """
    if checkpoint and not identity:
        raise ValueError(
            f"The checkpoint of '{description}' needs an identity: what data it is of."
        )
    started = time.monotonic()
    device = parameters[0].device
    captured = capture and device.type == "cuda"
    optimizer = _adamw(parameters, schedule, captured)
    total = torch.zeros((), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for _ in range(accumulate):
            value = loss() / accumulate if accumulate > 1 else loss()
            value.backward()
            total.add_(value.detach())
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip_norm, foreach=True)
        optimizer.step()

    average = [p.detach().clone() for p in parameters] if schedule.averaging else []
    state = _State(parameters, optimizer, total, average)
    until = min(stop or schedule.steps, schedule.steps)
    keeper = _Keeper(checkpoint, state, schedule, until, description, started, identity or {})
    run: Callable[[], None] = _captured(step, state) if captured else step
    keeper.resume()
    every = max(1, schedule.steps // RECORDS)
    for index in keeper.steps():
        _set_rate(optimizer, schedule.learning_rate_at(index))
        if prepare:
            prepare(index)
        run()
        if schedule.averaging:
            # early on the average follows the weights closely, so that the random start is soon forgotten
            decay = min(schedule.averaging, (1 + index) / (10 + index))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        state.done = index + 1
        if state.done % every == 0:
            mean = _finite(float(total) / every, description, state.done)
            state.rows.append({"step": state.done, "loss": mean})
            total.zero_()
        if keep and state.done in keep_at:
            keep(state.done, average or [p.detach() for p in parameters])
    _finite(float(total), description, state.done)
    keeper.finish()
    if schedule.averaging:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), average)
    return pd.DataFrame(state.rows, columns=["step", "loss"])


def _finite(loss: float, description: str, step: int) -> float:
    if not math.isfinite(loss):
        raise UserError(
            f"The {description} diverged: its loss was no longer a number by step {step:,}.",
            "lower its schedule.learning_rate, or raise its schedule.batch_size.",
        )
    return loss


@dataclass
class _State:
    """Everything that a step changes. It is restored in place, because a captured graph uses these very tensors."""

    parameters: Sequence[Tensor]
    optimizer: torch.optim.Optimizer
    total: Tensor
    average: list[Tensor]
    rows: list[dict[str, float]] = field(default_factory=list)
    done: int = 0

    def dump(self) -> dict[str, Any]:
        """Return a copy on the CPU, of plain values: tensors, numbers, lists and dictionaries."""
        device = self.total.device
        return {
            "parameters": [_copy(parameter) for parameter in self.parameters],
            "average": [_copy(tensor) for tensor in self.average],
            "optimizer": {
                index: {name: _copy(value) for name, value in values.items()}
                for index, values in self.optimizer.state_dict()["state"].items()
            },
            "total": _copy(self.total),
            "rows": list(self.rows),
            "done": self.done,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    @torch.no_grad()
    def restore(self, saved: dict[str, Any]) -> None:
        """Restore what `dump` returned, bit for bit."""
        for kept, values in (
            (self.parameters, saved["parameters"]),
            (self.average, saved["average"]),
            ([self.total], [saved["total"]]),
        ):
            for tensor, value in zip(kept, values, strict=True):
                tensor.copy_(value)
        self._restore_optimizer(saved["optimizer"])
        self.rows, self.done = list(saved["rows"]), saved["done"]
        torch.set_rng_state(saved["random"])
        if self.total.device.type == "cuda" and saved["random_cuda"] is not None:
            torch.cuda.set_rng_state(saved["random_cuda"], self.total.device)

    def _restore_optimizer(self, saved: dict[int, dict[str, Tensor]]) -> None:
        if not self.optimizer.state:  # no step was taken yet, so no graph uses its tensors
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": saved})
            return
        for index, parameter in enumerate(self.parameters):
            for name, tensor in self.optimizer.state.get(parameter, {}).items():
                value = saved.get(index, {}).get(name)
                # AdamW's state before its first step is zero throughout
                tensor.zero_() if value is None else tensor.copy_(value)


class _Keeper:
    """Saves the state of one training when it is due, and resumes from it; without a checkpoint it does nothing."""

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        state: _State,
        schedule: Schedule,
        until: int,
        description: str,
        started: float,
        identity: Mapping[str, Any],
    ) -> None:
        self.checkpoint = checkpoint
        self.state = state
        self.total_steps = until
        self.description = description
        self.started = self.saved_at = started
        self.begun = 0
        self.fingerprint = {
            "description": description,
            "schedule": schedule.model_dump(),
            "shapes": [list(parameter.shape) for parameter in state.parameters],
            "seed": torch.initial_seed(),
            **identity,
        }

    def resume(self) -> None:
        """Restore the saved state, if any."""
        saved = self.checkpoint.load(self.fingerprint) if self.checkpoint else None
        if saved is not None:
            self.state.restore(saved)
        self.begun = self.state.done

    def steps(self) -> Iterator[int]:
        """Yield the remaining steps behind a progress bar; between two steps, save if due, or stop at the deadline."""
        begin = self.state.done
        for index in track(
            range(begin, self.total_steps), self.description, self.total_steps, begin
        ):
            yield index
            if self.checkpoint and self.state.done < self.total_steps:
                self._save_if_due(self.checkpoint)

    def _save_if_due(self, checkpoint: Checkpoint) -> None:
        now = time.monotonic()
        late = checkpoint.deadline is not None and now - self.started >= checkpoint.deadline
        if late or now - self.saved_at >= checkpoint.every:
            checkpoint.save(self.fingerprint, self.state.dump())
            self.saved_at = time.monotonic()
        if late:
            raise Paused(self.description, self.state.done, self.total_steps)

    def finish(self) -> None:
        """Save the final state, unless no step was taken since resuming."""
        if self.checkpoint and self.state.done > self.begun:
            self.checkpoint.save(self.fingerprint, self.state.dump())


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _adamw(
    parameters: Sequence[Tensor], schedule: Schedule, captured: bool
) -> torch.optim.Optimizer:
    rate, on_gpu = schedule.learning_rate, parameters[0].is_cuda
    return torch.optim.AdamW(
        parameters,
        lr=torch.tensor(rate, device=parameters[0].device) if captured else rate,
        betas=(0.9, schedule.beta2),
        weight_decay=schedule.weight_decay,
        capturable=captured,
        foreach=not on_gpu,
        fused=on_gpu,
    )


def _set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)  # the captured graph reads this tensor
        else:
            group["lr"] = value


def _captured(step: Callable[[], None], state: _State) -> GraphedStep:
    """Capture `step`; the steps that warm it up leave no trace in `state`."""
    before = state.dump()
    graphed = GraphedStep(step)
    state.restore(before)
    return graphed
