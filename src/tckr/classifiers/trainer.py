"""One network being trained: its optimiser, its teacher, and one step."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import mix_up, pad, views
from tckr.classifiers.models import Network, build
from tckr.classifiers.optimizers import build_optimiser, cycle
from tckr.classifiers.options import ClassifierOptions
from tckr.engine.progress import track
from tckr.errors import UserError

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


@dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        seed: of the weights, the order of the images and their views.
        steps: optimiser steps; None takes the recipe's number for the images read.
        inside: int64 (K,), the images of the pool to read; None reads all.
        teacher: gives soft labels on the fly; stays as and where it is. None trains on targets.
        targets: of the whole pool, int64 (N,) or float (N, n_classes); None takes the pool's own.
    """

    seed: int
    steps: int | None = None
    inside: Tensor | None = None
    teacher: nn.Module | None = None
    targets: Tensor | None = None


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
        self.side = min(images.shape[-2:])
        self.padded = pad(images.to(self.device), options.augmentation)
        self._targets = None if targets is None else self._probabilities(targets)
        self._residents: dict[int, Resident] = {}

    def train(
        self,
        seed: int,
        *,
        steps: int | None = None,
        inside: Tensor | None = None,
        targets: Tensor | None = None,
        teacher: nn.Module | None = None,
        description: str = "classifier",
    ) -> Network:
        """Train a fresh network; the same arguments give the same network on the same machine.

        With a `teacher` the target of a view x is the teacher's softmax at x, temperature 1, and
        the loss is L = -sum_c [(1 - s) softmax(z_T(x))_c + s/C] log softmax(z_S(x))_c with label
        smoothing s: generative knowledge distillation (Lomurno et al., arXiv 2407.15526; TCKR,
        arXiv 2504.04582).

        Args:
            seed: of the weights, the order of the images and their views.
            steps: optimiser steps; None takes the recipe's number for the images read.
            inside: int64 (K,), the images of the pool to read; None reads all.
            targets: as for the pool, in place of its own.
            teacher: gives soft labels on the fly; stays as and where it is. None trains on targets.
            description: name of the progress bar.

        Returns:
            The network in evaluation mode, on the CPU.

        Raises:
            ValueError: neither targets nor a teacher; shapes, classes or indices that do not fit.
        """
        return train_together([(self, Job(seed, steps, inside, teacher, targets))], description)[0]

    def replace(self, images: Tensor, targets: Tensor | None = None) -> None:
        """Let another pool of the same shape take the place of this one, with its targets if it has any."""
        padded = pad(images.to(self.device), self.options.augmentation)
        if padded.shape != self.padded.shape:
            raise ValueError(f"the pool is {tuple(self.padded.shape)}, not {tuple(padded.shape)}")
        self.padded.copy_(padded)  # in place: a recorded step reads this very tensor
        self._targets = self._targets if targets is None else self._probabilities(targets)

    def targets(self, job: Job) -> Tensor | None:
        """What a job without a teacher trains on, float32 (N, n_classes) on the device.

        Raises:
            ValueError: neither targets nor a teacher.
        """
        if job.teacher is not None:
            return None
        if job.targets is None and self._targets is None:
            raise ValueError("there are neither targets nor a teacher")
        return self._targets if job.targets is None else self._probabilities(job.targets)

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
        return [
            peak * cycle((step + 0.5) / steps, warmup, self.options.decay) for step in range(steps)
        ]

    def train_once(self, job: Job, description: str) -> Network:
        """Train one network here and now, kernel by kernel."""
        generator = torch.Generator(self.device).manual_seed(job.seed)
        model, order = self.network(job.seed), self.order(job.seed, job.steps, job.inside)
        lesson = Lesson(self, model, job.teacher, self.targets(job), 0.0, generator)
        rates, order = self.rates(len(order)), order.to(self.device)
        for rate, index in track(zip(rates, order, strict=True), description, len(order)):
            lesson.optimiser.set_rate(rate)
            lesson.learn(index)
        return lesson.model.cpu()

    def seat(self, place: int, job: Job) -> tuple[Resident, int]:
        """Put a job on the device, at one of the places of this trainer; return it with its number of steps."""
        model, order = self.network(job.seed), self.order(job.seed, job.steps, job.inside)
        targets = self.targets(job)
        resident = self._residents.get(place)
        if resident is None or not resident.fits(len(order), job.teacher):
            # Frees the old graph's memory before the new one takes its own.
            del resident
            self._residents.pop(place, None)
            resident = Resident(self, model, job.teacher, targets, len(order))
            if self.graph:
                resident.record()
            self._residents[place] = resident
        rates = self.rates(len(order))
        resident.begin(model, order, rates, job.teacher, targets, job.seed)
        return resident, len(order)

    def network(self, seed: int) -> Network:
        """A network with fresh weights, on the CPU, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = build(self.options, self.channels, self.n_classes, self.side)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _probabilities(self, targets: Tensor) -> Tensor:
        """Targets of the whole pool as float32 (N, n_classes) on the device."""
        if len(targets) != len(self.padded):
            raise ValueError(f"{len(self.padded)} images but {len(targets)} targets")
        if targets.ndim == 1:
            if not 0 <= int(targets.min()) <= int(targets.max()) < self.n_classes:
                raise ValueError(f"classes must lie in 0..{self.n_classes - 1}")
            return F.one_hot(targets.to(self.device), self.n_classes).float()
        if targets.shape[1] != self.n_classes:
            raise ValueError(f"soft targets have {targets.shape[1]} columns, not {self.n_classes}")
        return targets.to(self.device, torch.float32)

    def _checked(self, inside: Tensor | None) -> Tensor:
        n = len(self.padded)
        if inside is None:
            return torch.arange(n)
        if len(inside) == 0 or not 0 <= int(inside.min()) <= int(inside.max()) < n:
            raise ValueError(f"the images to read must be some of 0..{n - 1}")
        return inside.cpu()


def train_together(
    jobs: Sequence[tuple[Trainer, Job]], description: str = "classifiers"
) -> list[Network]:
    """Train fresh networks of one device; the same job gives the same network alone and in company.

    A GPU that one small network cannot fill takes a step of each in turn, on streams of their own,
    so that their kernels run side by side; a CPU trains one after another.

    Returns:
        The networks in evaluation mode, on the CPU.

    Raises:
        ValueError: neither targets nor a teacher; shapes, classes or indices that do not fit.
        UserError: weights that are no longer numbers.
    """
    on_gpu = bool(jobs) and jobs[0][0].device.type == "cuda"
    models = _in_company(jobs, description) if on_gpu else _in_turn(jobs, description)
    if not all(map(_is_finite, models)):
        raise UserError(
            f"The training of the {description} diverged: weights are no longer numbers.",
            "lower classifier.learning_rate, or raise classifier.warmup.",
        )
    return models


def _is_finite(model: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


def _in_turn(jobs: Sequence[tuple[Trainer, Job]], description: str) -> list[Network]:
    return [trainer.train_once(job, description).eval() for trainer, job in jobs]


def _in_company(jobs: Sequence[tuple[Trainer, Job]], description: str) -> list[Network]:
    """A step of each in turn, on a GPU."""
    with torch.cuda.device(jobs[0][0].device):
        taken: dict[int, int] = {}
        seated = []
        for trainer, job in jobs:
            place = taken[id(trainer)] = taken.get(id(trainer), -1) + 1
            seated.append((trainer, job, *trainer.seat(place, job)))
        now = torch.cuda.current_stream()
        for *_, resident, _ in seated:
            resident.stream.wait_stream(now)
        for step in track(range(max(steps for *_, steps in seated)), description):
            for *_, resident, steps in seated:
                if step < steps:
                    resident.advance()
        models = []
        for trainer, job, resident, _ in seated:
            now.wait_stream(resident.stream)
            model = trainer.network(job.seed)
            model.load_state_dict(resident.model.state_dict())
            models.append(model.eval())
    return models
