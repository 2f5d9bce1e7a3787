"""The one training loop: it trains networks of one recipe on one pool of images, again and again."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import pad, views
from tckr.classifiers.muon import Muon
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.resnet import ResNet, stem_stride
from tckr.progress import track

WARM_UP = 3  # steps before a CUDA graph is recorded, so that every library has what it needs


class Trainer:
    """Trains networks of one recipe on one pool of images; nothing passes from one to the next.

    The pool lies on the device, framed for the random shifts once. On a GPU, where a small network
    would wait for Python, a whole optimiser step is recorded as a CUDA graph once and replayed for
    every step of every network; matrices and convolutions are bfloat16 there, channels last.
    """

    def __init__(
        self,
        images: Tensor,
        options: ClassifierOptions,
        n_classes: int,
        *,
        targets: Tensor | None = None,
        device: str | torch.device = "cpu",
        graph: bool = True,
    ) -> None:
        """Put the pool on the device.

        Args:
            images: the pool, uint8 (N, C, H, W).
            options: the recipe.
            n_classes: classes of every network.
            targets: int64 (N,) classes or float (N, n_classes) probabilities; not needed where
                every network has a teacher.
            device: where to train.
            graph: on a GPU, record and replay the step; False runs it kernel by kernel.

        Raises:
            ValueError: shapes or classes that do not fit.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), not {images.dtype} {images.shape}"
            )
        self.options, self.n_classes = options, n_classes
        self.device = torch.device(device)
        self.graph = graph
        self.channels = images.shape[1]
        self.stride = options.stride or stem_stride(min(images.shape[-2:]))
        self.padded = pad(images.to(self.device), options.augmentation)
        self.targets: Tensor | None = None
        self._resident: Resident | None = None
        if targets is not None:
            self._set_targets(targets)

    def train(
        self,
        seed: int,
        *,
        steps: int | None = None,
        inside: Tensor | None = None,
        targets: Tensor | None = None,
        teacher: nn.Module | None = None,
        description: str = "classifier",
    ) -> ResNet:
        """Train a fresh network; the same arguments give the same network on the same machine.

        With a `teacher` the target of a view x is the teacher's softmax at x, temperature 1, and
        the loss is L = -sum_c [(1 - s) softmax(z_T(x))_c + s/C] log softmax(z_S(x))_c with label
        smoothing s: generative knowledge distillation (Lomurno et al., arXiv 2407.15526; TCKR,
        arXiv 2504.04582).

        Args:
            seed: of the weights, the order of the images and their views.
            steps: optimiser steps; None takes the recipe's number for the images read.
            inside: int64 (K,), the images of the pool to read; None reads all.
            targets: as for the pool, of which they take the place, also for later networks.
            teacher: gives soft labels on the fly; stays as and where it is. None trains on targets.
            description: name of the progress bar.

        Returns:
            The network in evaluation mode, on the CPU.

        Raises:
            ValueError: neither targets nor a teacher; shapes, classes or indices that do not fit.
        """
        if targets is not None:
            self._set_targets(targets)
        if teacher is None and self.targets is None:
            raise ValueError("there are neither targets nor a teacher")
        order = self.order(seed, steps, inside)
        model = self.network(seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                self._train_resident(model, order, teacher, seed, description)
        else:
            model = self._train_once(model, order, teacher, seed, description)
        return model.eval()

    def order(self, seed: int, steps: int | None = None, inside: Tensor | None = None) -> Tensor:
        """Images of each step, int64 (steps, B): shuffled passes, one after another; see `train`."""
        inside = self._checked(inside)
        n, size = len(inside), self.options.batch_size
        steps = steps or self.options.steps(n)
        generator = torch.Generator().manual_seed(seed)
        passes = [torch.randperm(n, generator=generator) for _ in range(-(-steps * size // n))]
        return inside[torch.cat(passes)[: steps * size]].view(steps, size)

    def rates(self, steps: int) -> list[float]:
        """Learning rate of each step."""
        peak, warmup = self.options.learning_rate, self.options.warmup
        return [peak * cycle((step + 0.5) / steps, warmup) for step in range(steps)]

    def _train_once(
        self,
        model: ResNet,
        order: Tensor,
        teacher: nn.Module | None,
        seed: int,
        description: str,
    ) -> ResNet:
        generator = torch.Generator(self.device).manual_seed(seed)
        lesson = Lesson(self, model, teacher, 0.0, generator)
        rates, order = self.rates(len(order)), order.to(self.device)
        for rate, index in track(zip(rates, order, strict=True), description, len(order)):
            lesson.optimiser.set_rate(rate)
            lesson.learn(index)
        return lesson.model.cpu()

    def _train_resident(
        self,
        model: ResNet,
        order: Tensor,
        teacher: nn.Module | None,
        seed: int,
        description: str,
    ) -> None:
        """Train `model`, which is on the CPU, in place."""
        resident = self._resident
        if resident is None or not resident.fits(len(order), teacher):
            self._resident = None  # frees the old graph's memory before the new one takes its own
            resident = None
            resident = Resident(self, model, teacher, len(order))
            if self.graph:
                resident.record()
            self._resident = resident
        resident.begin(model, order, self.rates(len(order)), teacher, seed)
        for _ in track(range(len(order)), description):
            resident.advance()
        model.load_state_dict(resident.model.state_dict())

    def network(self, seed: int) -> ResNet:
        """A network with fresh weights, on the CPU, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            o = self.options
            model = ResNet(self.channels, self.n_classes, o.widths, self.stride, o.depth)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _set_targets(self, targets: Tensor) -> None:
        if len(targets) != len(self.padded):
            raise ValueError(f"{len(self.padded)} images but {len(targets)} targets")
        if targets.ndim == 1:
            if not 0 <= int(targets.min()) <= int(targets.max()) < self.n_classes:
                raise ValueError(f"classes must lie in 0..{self.n_classes - 1}")
            probabilities = F.one_hot(targets.to(self.device), self.n_classes).float()
        else:
            if targets.shape[1] != self.n_classes:
                raise ValueError(
                    f"soft targets have {targets.shape[1]} columns, not {self.n_classes}"
                )
            probabilities = targets.to(self.device, torch.float32, copy=True)
        if self.targets is None:
            self.targets = probabilities
        else:
            self.targets.copy_(probabilities)  # in place: a recorded step reads this very tensor

    def _checked(self, inside: Tensor | None) -> Tensor:
        n = len(self.padded)
        if inside is None:
            return torch.arange(n)
        if len(inside) == 0 or not 0 <= int(inside.min()) <= int(inside.max()) < n:
            raise ValueError(f"the images to read must be some of 0..{n - 1}")
        return inside.cpu()


class Lesson:
    """A network with its optimiser and its teacher; `learn` takes one optimiser step."""

    def __init__(
        self,
        trainer: Trainer,
        model: ResNet,
        teacher: nn.Module | None,
        rate: float | Tensor,
        generator: torch.Generator,
    ) -> None:
        """Take `model` itself to the device of the trainer, and a copy of `teacher`."""
        self.padded, self.targets = trainer.padded, trainer.targets
        self.options, self.device = trainer.options, trainer.device
        self.generator = generator
        self.model = model.to(self.device).train()
        self.teacher: nn.Module | None = None
        if teacher is not None:
            self.teacher = copy.deepcopy(teacher).to(self.device).eval().requires_grad_(False)
            if self.device.type == "cuda":
                self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = _optimiser(self.model, self.options, rate)
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
        self, trainer: Trainer, model: ResNet, teacher: nn.Module | None, capacity: int
    ) -> None:
        """Make room for `capacity` steps of networks and teachers like these two."""
        device = trainer.device
        self.rate = torch.zeros((), device=device)
        super().__init__(trainer, copy.deepcopy(model), teacher, self.rate, torch.Generator(device))
        size = (capacity, trainer.options.batch_size)
        self.order = torch.zeros(size, dtype=torch.int64, device=device)
        self.rates = torch.zeros(capacity, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def fits(self, steps: int, teacher: nn.Module | None) -> bool:
        """Whether there is room for so many steps with a teacher of this make."""
        if isinstance(teacher, ResNet) and isinstance(self.teacher, ResNet):
            alike = teacher.config == self.teacher.config
        else:
            alike = teacher is None and self.teacher is None
        return alike and steps <= len(self.rates)

    def advance(self) -> None:
        """Take the step that the counter is at: replay it if it was recorded."""
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

        The steps that warm it up change weights, momentum and counters: `begin` comes next.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.counter.zero_()  # there may be room for fewer steps
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph

    @torch.no_grad()
    def begin(
        self,
        model: ResNet,
        order: Tensor,
        rates: list[float],
        teacher: nn.Module | None,
        seed: int,
    ) -> None:
        """Start anew, in place: with these weights, images (steps, B), rates (steps) and seed."""
        self.model.load_state_dict(model.state_dict())
        if self.teacher is not None and teacher is not None:
            self.teacher.load_state_dict(teacher.state_dict())
        for state in self.optimiser.state.values():
            state["momentum"].zero_()
        self.order[: len(order)].copy_(order)
        self.rates[: len(order)].copy_(torch.tensor(rates))
        self.counter.zero_()
        self.generator.manual_seed(seed)


def cycle(position: float, warmup: float) -> float:
    """Share of the peak learning rate at `position` in (0, 1): linear rise, linear fall to 0."""
    if position < warmup:
        return position / warmup
    return (1 - position) / (1 - warmup)


def _optimiser(model: ResNet, options: ClassifierOptions, rate: float | Tensor) -> Muon:
    """Muon for the blocks; stem and head by plain momentum with decay; norms and biases without."""
    blocks = [p for p in model.stages.parameters() if p.ndim == 4]
    groups: list[dict[str, Any]] = [
        {"params": blocks, "orthogonal": True},
        {
            "params": [model.stem.weight, model.head.weight],
            "weight_decay": options.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim < 2]},
    ]
    return Muon(groups, rate, options.momentum)
