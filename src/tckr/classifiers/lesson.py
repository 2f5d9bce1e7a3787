"""One network being trained: its optimiser, its teacher, and one step."""

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.architectures import Network
from tckr.classifiers.augment import views
from tckr.classifiers.mixing import mix_up
from tckr.classifiers.optimisers import build_optimiser

if TYPE_CHECKING:
    from tckr.classifiers.trainer import Trainer

WARM_UP = 3  # steps before a CUDA graph is recorded, so that every library has what it needs


class Lesson:
    """A network with its optimiser and its teacher; `learn` takes one optimiser step."""

    def __init__(
        self,
        trainer: "Trainer",
        model: Network,
        teacher: nn.Module | None,
        targets: Tensor | None,
        rate: float | Tensor,
        generator: torch.Generator,
    ) -> None:
        """Take `model` itself to the device of the trainer, and a copy of `teacher`.

        Without a teacher `targets` are float32 (N, n_classes) there.
        """
        self.padded, self.targets = trainer.padded, targets
        self.options, self.device = trainer.options, trainer.device
        self.generator = generator
        self.model = model.to(self.device).train()
        self.teacher: nn.Module | None = None
        if teacher is not None:
            self.teacher = copy.deepcopy(teacher).to(self.device).eval().requires_grad_(False)
            if self.device.type == "cuda":
                self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = build_optimiser(self.model, self.options, rate)
        compiled = self.options.compile and self.device.type == "cuda"
        self._student: Any = torch.compile(self.model, dynamic=False) if compiled else self.model
        self._teacher: Any = (
            torch.compile(self.teacher, dynamic=False)
            if compiled and self.teacher is not None
            else self.teacher
        )

    def learn(self, index: Tensor) -> None:
        """Take one step on random views of the images at `index`, int64 (B,) on the device."""
        self.optimiser.zero_grad(set_to_none=True)
        batch = views(self.padded, index, self.options.augmentation, self.generator)
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            if self._teacher is None:
                assert self.targets is not None
                target = self.targets[index]
                alpha = self.options.augmentation.mixup
                if alpha:
                    batch, target = mix_up(batch, target, alpha, self.generator)
            else:
                with torch.no_grad():
                    target = self._teacher(batch).float().softmax(1)
            predicted = self._student(batch)
        smoothing = self.options.label_smoothing
        loss = F.cross_entropy(predicted.float(), target, label_smoothing=smoothing)
        loss.backward()
        self.optimiser.step()


class Resident(Lesson):
    """A lesson whose steps read all that changes from tensors that stay in their place.

    What a step needs to know (which images, which learning rate) it looks up on the device by a
    counter there, so that it can be recorded once and replayed for every network of the recipe.
    """

    def __init__(
        self,
        trainer: "Trainer",
        model: Network,
        teacher: nn.Module | None,
        targets: Tensor | None,
        capacity: int,
    ) -> None:
        """Make room for `capacity` steps of networks and teachers like these two."""
        device = trainer.device
        self.rate = torch.zeros((), device=device)
        own = None if targets is None else targets.clone()
        generator = torch.Generator(device)
        super().__init__(trainer, copy.deepcopy(model), teacher, own, self.rate, generator)
        size = (capacity, trainer.options.batch_size)
        self.order = torch.zeros(size, dtype=torch.int64, device=device)
        self.rates = torch.zeros(capacity, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.stream: Any = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None

    def fits(self, steps: int, teacher: nn.Module | None) -> bool:
        """Whether there is room for so many steps with a teacher of this make."""
        ours, theirs = (getattr(model, "config", None) for model in (self.teacher, teacher))
        alike = (teacher is None) == (self.teacher is None) and ours == theirs
        return alike and steps <= len(self.rates)

    def advance(self) -> None:
        """Take the step that the counter is at, on the lesson's stream: replay it if it was recorded."""
        with torch.cuda.stream(self.stream):  # none: changes nothing
            if self._graph is None:
                self._step()
            else:
                self._graph.replay()

    def _step(self) -> None:
        self.rate.copy_(self.rates.index_select(0, self.counter).squeeze(0))
        self.learn(self.order.index_select(0, self.counter).squeeze(0))
        self.counter.add_(1)

    def record(self) -> None:
        """Record a step as a CUDA graph, which `advance` replays from now on.

        The steps that warm it up change weights, momentum and counters: `begin` comes next. It is
        recorded on a stream of its own, whose workspaces no other lesson uses: so lessons may be
        replayed side by side.
        """
        self.stream = torch.cuda.Stream()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                self.counter.zero_()  # there may be room for fewer steps
                self._step()
        torch.cuda.current_stream().wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, stream=self.stream):
            self._step()
        self._graph = graph

    @torch.no_grad()
    def begin(
        self,
        model: Network,
        order: Tensor,
        rates: list[float],
        teacher: nn.Module | None,
        targets: Tensor | None,
        seed: int,
    ) -> None:
        """Start anew, in place: with these weights, images (steps, B), rates (steps) and seed."""
        self.model.load_state_dict(model.state_dict())
        if self.teacher is not None and teacher is not None:
            self.teacher.load_state_dict(teacher.state_dict())
        if self.targets is not None and targets is not None:
            self.targets.copy_(targets)
        for state in self.optimiser.state.values():
            for value in state.values():
                value.zero_()
        self.order[: len(order)].copy_(order)
        self.rates[: len(order)].copy_(torch.tensor(rates))
        self.counter.zero_()
        self.generator.manual_seed(seed)
