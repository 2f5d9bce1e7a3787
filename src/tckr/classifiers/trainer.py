"""Train many classifiers with one recipe on a shared image set, on a GPU optionally several side by side."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tckr.classifiers.augment import mix_up, pad, views
from tckr.classifiers.models import Network, build
from tckr.classifiers.optimizers import build_optimizer, learning_rates
from tckr.classifiers.options import ClassifierOptions
from tckr.engine.progress import track
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.training.cuda_graph import WARM_UP, GraphedStep


@dataclass(frozen=True)
class TrainSpec:
    """One network to train.

    Attributes:
        seed: of the weights, the order of the images, their random views and dropout.
        steps: optimizer steps; None takes the recipe's number for the images read.
        indices: int64 (K,), the images to train on; None trains on all.
        teacher: gives soft labels on the fly; it is not changed and stays on its device. None trains on targets.
        targets: of all images of the trainer, int64 (N,) classes or float (N, n_classes) probabilities; None takes the
            trainer's own.
    """

    seed: int
    steps: int | None = None
    indices: Tensor | None = None
    teacher: nn.Module | None = None
    targets: Tensor | None = None


class Trainer:
    """Trains networks with one recipe on one set of images; no network affects another.

    The images are moved to the device and padded for the random shifts once. On a GPU, where a small network would wait
    for Python, the training step is captured as a CUDA graph once and replayed for every step of every network; matrix
    products and convolutions are computed in bfloat16 there, channels last.

    Example:
        >>> images = torch.arange(4 * 64, dtype=torch.uint8).view(4, 1, 8, 8)
        >>> options = ClassifierOptions(widths=(4,), batch_size=4)
        >>> trainer = Trainer(images, options, n_classes=2, targets=torch.tensor([0, 1, 0, 1]))
        >>> first, second = trainer.fit([TrainSpec(seed=1, steps=2), TrainSpec(seed=2, steps=2)])
        >>> first(images / 255).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        images: Tensor,
        options: ClassifierOptions,
        n_classes: int,
        *,
        targets: Tensor | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Move the images to the device.

        Args:
            images: uint8 (N, C, H, W).
            options: the recipe.
            n_classes: classes of every network.
            targets: int64 (N,) classes or float (N, n_classes) probabilities; not needed where every network has a
                teacher or targets of its own.
            device: where to train.

        Raises:
            ValueError: shapes or classes that do not fit.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), not {images.dtype} {images.shape}"
            )
        self.options, self.n_classes = options, n_classes
        self.device = torch.device(device)
        self.channels = images.shape[1]
        self.side = min(images.shape[-2:])
        self.padded = pad(images.to(self.device), options.augmentation)
        self._targets = None if targets is None else self._probabilities(targets)
        self._slots: list[TrainingSlot] = []

    def fit(
        self, specs: Sequence[TrainSpec], description: str = "classifier", side_by_side: int = 1
    ) -> list[Network]:
        """Train one network per spec.

        On one machine the same spec gives the same network, whatever else is trained before, after or beside it.

        Args:
            specs: the networks to train.
            description: name of the progress bar and of the networks in error messages.
            side_by_side: networks that a GPU trains at once, each on a stream of its own, because a small network
                cannot fill it. A CPU trains one after another.

        Returns:
            The networks in evaluation mode, on the CPU, in the order of `specs`.

        Raises:
            ValueError: neither targets nor a teacher; shapes, classes or indices that do not fit.
            UserError: the training diverged.
        """
        networks: list[Network] = []
        if self.device.type == "cuda":
            for start in range(0, len(specs), side_by_side):
                networks += self._fit_on_gpu(specs[start : start + side_by_side], description)
        else:
            networks += [self._fit_on_cpu(spec, description) for spec in specs]
        if not all(map(_is_finite, networks)):
            raise UserError(
                f"The training of the {description} diverged: weights are no longer numbers.",
                "lower classifier.learning_rate, or raise classifier.warmup.",
            )
        return [network.eval() for network in networks]

    def _fit_on_cpu(self, spec: TrainSpec, description: str) -> Network:
        order, targets = self.order(spec.seed, spec.steps, spec.indices), self._targets_of(spec)
        teacher = None if spec.teacher is None else _frozen(spec.teacher, self.device)
        model = self.network(spec.seed).train()
        optimizer = build_optimizer(model, self.options, rate=0.0)
        generator = torch.Generator().manual_seed(spec.seed)
        rates = learning_rates(self.options, len(order))
        with _seeded(derive(spec.seed, "dropout")):
            for rate, index in track(zip(rates, order, strict=True), description, len(order)):
                optimizer.set_rate(rate)
                train_step(
                    model, optimizer, self.padded, index, self.options, generator,
                    teacher=teacher, targets=targets,
                )  # fmt: skip
        return model

    def _fit_on_gpu(self, specs: Sequence[TrainSpec], description: str) -> list[Network]:
        """Take a step of each network in turn, on streams of their own, so that their kernels run side by side."""
        with torch.cuda.device(self.device):
            slots = [self._occupy(place, spec) for place, spec in enumerate(specs)]
            now = torch.cuda.current_stream()
            for slot in slots:
                slot.stream.wait_stream(now)
            for step in track(range(max(slot.steps for slot in slots)), description):
                for slot in slots:
                    if step < slot.steps:
                        slot.advance()
            networks = []
            for slot, spec in zip(slots, specs, strict=True):
                now.wait_stream(slot.stream)
                network = self.network(spec.seed)
                network.load_state_dict(slot.model.state_dict())
                networks.append(network)
        return networks

    def _occupy(self, place: int, spec: TrainSpec) -> "TrainingSlot":
        """Load what `spec` names into the slot at `place`, which is created and captured where there is none that fits."""
        model, order = self.network(spec.seed), self.order(spec.seed, spec.steps, spec.indices)
        targets = self._targets_of(spec)
        slots = self._slots
        if place == len(slots) or not slots[place].fits(len(order), spec.teacher):
            # Free the memory of the old graph before the new one takes its own.
            del slots[place : place + 1]
            slot = TrainingSlot(self.padded, self.options, model, spec.teacher, targets, len(order))
            slot.capture()
            slots.insert(place, slot)
        slots[place].load(model, order, spec.teacher, targets, spec.seed)
        return slots[place]

    def replace(self, images: Tensor, targets: Tensor | None = None) -> None:
        """Replace the images by others of the same shape, and the targets if new ones are given.

        Raises:
            ValueError: another shape.
        """
        padded = pad(images.to(self.device), self.options.augmentation)
        if padded.shape != self.padded.shape:
            raise ValueError(f"the pool is {tuple(self.padded.shape)}, not {tuple(padded.shape)}")
        self.padded.copy_(padded)  # in place: a captured step reads this very tensor
        self._targets = self._targets if targets is None else self._probabilities(targets)

    def order(self, seed: int, steps: int | None = None, indices: Tensor | None = None) -> Tensor:
        """Return the images of each step, int64 (steps, B) on the CPU: shuffled passes, one after another."""
        indices = self._checked(indices)
        n, size = len(indices), self.options.batch_size
        steps = steps or self.options.steps(n)
        generator = torch.Generator().manual_seed(seed)
        passes = [torch.randperm(n, generator=generator) for _ in range(-(-steps * size // n))]
        return indices[torch.cat(passes)[: steps * size]].view(steps, size)

    def network(self, seed: int) -> Network:
        """Return an untrained network, its weights drawn from `seed`, on the CPU, channels last."""
        with _seeded(seed):
            model = build(self.options, self.channels, self.n_classes, self.side)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _targets_of(self, spec: TrainSpec) -> Tensor | None:
        """Return what to train on without a teacher, float32 (N, n_classes) on the device."""
        if spec.teacher is not None:
            return None
        if spec.targets is None and self._targets is None:
            raise ValueError("there are neither targets nor a teacher")
        return self._targets if spec.targets is None else self._probabilities(spec.targets)

    def _probabilities(self, targets: Tensor) -> Tensor:
        """Return the targets of all images as float32 (N, n_classes) on the device."""
        if len(targets) != len(self.padded):
            raise ValueError(f"{len(self.padded)} images but {len(targets)} targets")
        if targets.ndim == 1:
            if not 0 <= int(targets.min()) <= int(targets.max()) < self.n_classes:
                raise ValueError(f"classes must lie in 0..{self.n_classes - 1}")
            return F.one_hot(targets.to(self.device), self.n_classes).float()
        if targets.shape[1] != self.n_classes:
            raise ValueError(f"soft targets have {targets.shape[1]} columns, not {self.n_classes}")
        return targets.to(self.device, torch.float32)

    def _checked(self, indices: Tensor | None) -> Tensor:
        n = len(self.padded)
        if indices is None:
            return torch.arange(n)
        if len(indices) == 0 or not 0 <= int(indices.min()) <= int(indices.max()) < n:
            raise ValueError(f"the images to read must be some of 0..{n - 1}")
        return indices.cpu()


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    padded: Tensor,
    index: Tensor,
    options: ClassifierOptions,
    generator: torch.Generator,
    *,
    teacher: nn.Module | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """Take one optimizer step on random views of the images at `index`.

    Args:
        model: in training mode.
        optimizer: of its weights.
        padded: uint8, all images, as `augment.pad` returns them; model, teacher and targets are on their device.
        index: int64 (B,), the images of this batch, on their device.
        options: of which augmentation and label smoothing are read.
        generator: on their device; draws the views.
        teacher: in evaluation mode; None trains on `targets`.
        targets: float32 (N, n_classes), of all images; read only without a teacher.

    Returns:
        The loss of the batch, a scalar.
    """
    optimizer.zero_grad(set_to_none=True)
    batch = views(padded, index, options.augmentation, generator)
    device = padded.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        if teacher is not None:
            with torch.no_grad():
                target = teacher(batch).float().softmax(1)
        else:
            assert targets is not None
            target = targets[index]
            if options.augmentation.mixup:
                alpha = options.augmentation.mixup
                batch, target = mix_up(batch, target, alpha, generator)
        logits = model(batch).float()
    # With a teacher T this is generative knowledge distillation (GKD: Lomurno et al., arXiv 2407.15526; TCKR,
    # arXiv 2504.04582), at temperature 1 and with label smoothing s, for each view x and C classes:
    # L(x) = -sum_c [(1 - s) softmax(z_T(x))_c + s / C] log softmax(z_S(x))_c
    loss = F.cross_entropy(logits, target, label_smoothing=options.label_smoothing)
    loss.backward()
    optimizer.step()
    return loss.detach()


class TrainingSlot:
    """One network in training, with all that changes from step to step kept in tensors on the device.

    A captured step reads and writes fixed tensors. The images and the learning rate of the current step are therefore
    looked up by a counter on the device, and `load` starts the next network in place. So one captured step serves
    every network of the recipe.
    """

    def __init__(
        self,
        padded: Tensor,
        options: ClassifierOptions,
        model: Network,
        teacher: nn.Module | None,
        targets: Tensor | None,
        capacity: int,
    ) -> None:
        """Allocate `capacity` steps of networks and teachers of the same architecture as these.

        Args:
            padded: the images, as `augment.pad` returns them, on the device of the slot.
            options: the recipe.
            model: any network of the recipe; it is copied.
            teacher: any teacher; it is copied. None trains on targets.
            targets: float32 (N, n_classes); they are copied. None with a teacher.
            capacity: largest number of steps of a network.
        """
        self.padded, self.options = padded, options
        device = padded.device
        on_gpu = device.type == "cuda"
        self.model = copy.deepcopy(model).to(device).train()
        self.teacher = None if teacher is None else _frozen(teacher, device)
        self.targets = None if targets is None else targets.clone()
        self.rate = torch.zeros((), device=device)
        self.optimizer = build_optimizer(self.model, options, self.rate)
        self.generator = torch.Generator(device)
        self._run: list[Any] = [self.model, self.teacher]  # what a step calls
        if options.compile and on_gpu:
            self._run = [
                None if network is None else torch.compile(network, dynamic=False)
                for network in self._run
            ]
        capacity = max(capacity, WARM_UP)  # the capture is preceded by steps too
        self.order = torch.zeros((capacity, options.batch_size), dtype=torch.int64, device=device)
        self.rates = torch.zeros(capacity, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.steps = 0
        self.stream: Any = torch.cuda.Stream() if on_gpu else None
        self._graphed: GraphedStep | None = None

    def capture(self) -> None:
        """Capture a step, which `advance` replays from now on.

        The steps that warm it up change weights, momentum and counter: `load` comes next. The stream is the slot's own,
        so that slots can be replayed side by side.
        """
        with _default_generator_is(self.generator):
            self._graphed = GraphedStep(self._step, generators=[self.generator], stream=self.stream)

    def advance(self) -> None:
        """Take the next step: replay the captured one, or compute it where none was captured."""
        if self._graphed is None:
            self._step()
        else:
            self._graphed()

    def _step(self) -> None:
        self.rate.copy_(self.rates.index_select(0, self.counter).squeeze(0))
        index = self.order.index_select(0, self.counter).squeeze(0)
        model, teacher = self._run
        train_step(
            model, self.optimizer, self.padded, index, self.options, self.generator,
            teacher=teacher, targets=self.targets,
        )  # fmt: skip
        self.counter.add_(1)

    def fits(self, steps: int, teacher: nn.Module | None) -> bool:
        """Whether the slot has the capacity for `steps`, and a teacher of the same architecture or none either."""
        ours, theirs = (getattr(network, "config", None) for network in (self.teacher, teacher))
        alike = (teacher is None) == (self.teacher is None) and ours == theirs
        return alike and steps <= len(self.rates)

    @torch.no_grad()
    def load(
        self,
        model: Network,
        order: Tensor,
        teacher: nn.Module | None,
        targets: Tensor | None,
        seed: int,
    ) -> None:
        """Start the training of `model` on the images `order`, int64 (steps, B), copying everything in place."""
        self.model.load_state_dict(model.state_dict())
        if self.teacher is not None and teacher is not None:
            self.teacher.load_state_dict(teacher.state_dict())
        if self.targets is not None and targets is not None:
            self.targets.copy_(targets)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        self.steps = len(order)
        self.order[: self.steps].copy_(order)
        self.rates[: self.steps].copy_(torch.tensor(learning_rates(self.options, self.steps)))
        self.counter.zero_()
        self.generator.manual_seed(seed)


def _frozen(teacher: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of `teacher` on the device, in evaluation mode."""
    frozen = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return frozen


def _is_finite(model: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generator of the CPU, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _default_generator_is(generator: torch.Generator) -> Iterator[None]:
    """Let what draws from the GPU's default generator, as dropout does, draw from `generator`.

    A step captured meanwhile keeps drawing from it. So every slot has random numbers of its own, seeded by `load`.
    """
    default = torch.cuda.default_generators[torch.cuda.current_device()]
    state = default.graphsafe_get_state()
    default.graphsafe_set_state(generator)
    try:
        yield
    finally:
        default.graphsafe_set_state(state)
