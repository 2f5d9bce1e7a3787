"""Train many classifiers with one recipe on a shared image set, on a GPU optionally several side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tckr.classifiers.feed import Feed, Resident, Streamed, fits
from tckr.classifiers.heads import Lesson, fit_heads
from tckr.classifiers.models import Network, build
from tckr.classifiers.optimizers import build_optimizer, learning_rates
from tckr.classifiers.options import SCATTERING, ClassifierOptions, RegenerationOptions
from tckr.classifiers.slots import TrainingSlot
from tckr.classifiers.step import frozen, train_step
from tckr.engine.progress import track
from tckr.engine.seeds import derive
from tckr.errors import UserError


@dataclass(frozen=True)
class TrainSpec:
    """One network to train.

    Attributes:
        seed: of the weights, the order of the images, their random views and dropout.
        steps: optimizer steps; None takes the recipe's number for the images read.
        indices: int64 (K,), the images to train on; None trains on all.
        teacher: gives soft labels on the fly; it is not changed and stays on its device. None trains on targets.
        targets: of all images of the trainer, int64 (N,) classes or float (N, n_classes) probabilities, or (N, K,
            n_classes) of K fixed views of each (`fixed_views`); None takes the trainer's own.
        regenerate: read the images slice by slice; None reads them as one set.
    """

    seed: int
    steps: int | None = None
    indices: Tensor | None = None
    teacher: nn.Module | None = None
    targets: Tensor | None = None
    regenerate: RegenerationOptions | None = None


class Trainer:
    """Trains networks with one recipe on one set of images; no network affects another.

    No copy of the whole set is made, but for its raw pixels on a GPU where they fit there; otherwise the batches are
    streamed to it (`feed`). On a GPU, where a small network would wait for Python, the training step is captured as a
    CUDA graph once and replayed for every step of every network; matrix products and convolutions are computed in
    bfloat16 there, channels last.

    Attributes:
        images: uint8 (N, C, H, W), on the device where they fit there, else on the CPU.

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
        resident: bool | None = None,
    ) -> None:
        """Move the images to the device, if they fit there.

        Args:
            images: uint8 (N, C, H, W); they may be memory-mapped, and are read a batch at a time then.
            options: the recipe.
            n_classes: classes of every network.
            targets: int64 (N,) classes or float (N, n_classes) probabilities; not needed where every network has a
                teacher or targets of its own. They are kept there as N x n_classes probabilities, float32.
            device: where to train.
            resident: whether the raw pixels stay on a GPU; None finds out whether they fit. The networks are the same.

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
        self.side = (int(images.shape[-2]), int(images.shape[-1]))
        if resident is None:
            resident = images.is_cuda or fits(images.nbytes, self.device)
        self.resident = resident
        self.images = images.to(self.device) if resident else images
        self._targets = None if targets is None else self._probabilities(targets)
        self._slots: list[TrainingSlot] = []

    def fit(
        self, specs: Sequence[TrainSpec], description: str = "classifier", side_by_side: int = 1
    ) -> list[Network]:
        """Train one network per spec.

        Heads on the scattering transform are fitted in closed form, without steps or a seed (`heads`).

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
        if self.options.architecture == SCATTERING:
            if any(spec.regenerate for spec in specs):
                raise UserError(
                    "A head on the scattering transform is fitted in closed form: it has no epochs between which its images"
                    " could change.",
                    "set student_training.regenerate to null, or classifier.architecture to resnet.",
                )
            lessons = [
                Lesson(self._checked(spec.indices), spec.teacher, self._targets_of(spec))
                for spec in specs
            ]
            networks += fit_heads(self.images, lessons, self.options, self.n_classes, self.device)
        elif self.device.type == "cuda":
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
        order, targets = self.order_of(spec), self._targets_of(spec)
        teacher = None if spec.teacher is None else frozen(spec.teacher, self.device)
        model = self.network(spec.seed).train()
        optimizer = build_optimizer(model, self.options, rate=0.0)
        generator = torch.Generator().manual_seed(spec.seed)
        rates = learning_rates(self.options, len(order))
        with _seeded(derive(spec.seed, "dropout")):
            for rate, index in track(zip(rates, order, strict=True), description, len(order)):
                optimizer.set_rate(rate)
                train_step(
                    model, optimizer, self.images, index, self.options, generator,
                    teacher=teacher, target=None if targets is None else targets[index],
                )  # fmt: skip
        return model

    def _fit_on_gpu(self, specs: Sequence[TrainSpec], description: str) -> list[Network]:
        """Take a step of each network in turn, on streams of their own, so that their kernels run side by side."""
        with torch.cuda.device(self.device):
            slots = [self._occupy(place, spec) for place, spec in enumerate(specs)]
            now = torch.cuda.current_stream()
            for slot in slots:
                slot.stream.wait_stream(now)
            try:
                for slot in slots:
                    slot.start()  # once all are captured: another thread's copies would spoil a capture
                for step in track(range(max(slot.steps for slot in slots)), description):
                    for slot in slots:
                        if step < slot.steps:
                            slot.advance()
            finally:
                for slot in slots:
                    slot.close()
            networks = []
            for slot, spec in zip(slots, specs, strict=True):
                now.wait_stream(slot.stream)
                network = self.network(spec.seed)
                network.load_state_dict(slot.model.state_dict())
                networks.append(network)
        return networks

    def _feed(self) -> Feed:
        """Return what brings the images of each batch to a slot of its own."""
        if self.resident:
            return Resident(self.images)
        return Streamed(lambda: self.images, self.options.batch_size, self.device)

    def _occupy(self, place: int, spec: TrainSpec) -> TrainingSlot:
        """Load what `spec` names into the slot at `place`, which is created and captured where there is none that fits."""
        model, order = self.network(spec.seed), self.order_of(spec)
        targets = self._targets_of(spec)
        slots = self._slots
        if place == len(slots) or not slots[place].fits(len(order), spec.teacher):
            # Free the memory of the old graph before the new one takes its own.
            del slots[place : place + 1]
            slot = TrainingSlot(
                self._feed(), self.options, model, spec.teacher, targets, len(order)
            )
            slot.capture()
            slots.insert(place, slot)
        slots[place].load(model, order, spec.teacher, targets, spec.seed)
        return slots[place]

    def replace(self, images: Tensor, targets: Tensor | None = None) -> None:
        """Replace the images by others of the same shape, and the targets if new ones are given.

        Raises:
            ValueError: another shape.
        """
        if images.shape != self.images.shape:
            raise ValueError(f"the pool is {tuple(self.images.shape)}, not {tuple(images.shape)}")
        if self.resident and self.device.type == "cuda":
            self.images.copy_(images)  # in place: a captured step reads this very tensor
        else:
            self.images = images
        self._targets = self._targets if targets is None else self._probabilities(targets)

    def order_of(self, spec: TrainSpec) -> Tensor:
        """Return the images of each step of a network; see `order`."""
        return self.order(spec.seed, spec.steps, spec.indices, spec.regenerate)

    def order(
        self,
        seed: int,
        steps: int | None = None,
        indices: Tensor | None = None,
        regenerate: RegenerationOptions | None = None,
    ) -> Tensor:
        """Return the images of each step, int64 (steps, B) on the CPU: shuffled passes, one after another.

        With `regenerate` each pass is over one slice of the images.

        Raises:
            ValueError: the images do not make equal slices.
        """
        indices = self._checked(indices)
        slices = RegenerationOptions() if regenerate is None else regenerate
        n, rest = divmod(len(indices), slices.slices)
        if rest or not n:
            raise ValueError(f"{len(indices)} images do not make {slices.slices} equal slices")
        size = self.options.batch_size
        steps = steps or self.options.steps(n)
        generator = torch.Generator().manual_seed(seed)
        # Pass e reads slice floor(e / every) mod slices (GaFi's Dynamic Dataset Recycle, from a pool).
        passes = [
            n * slices.slice_of(epoch) + torch.randperm(n, generator=generator)
            for epoch in range(-(-steps * size // n))
        ]
        return indices[torch.cat(passes)[: steps * size]].view(steps, size)

    def network(self, seed: int) -> Network:
        """Return an untrained network, its weights drawn from `seed`, on the CPU, channels last."""
        with _seeded(seed):
            model = build(self.options, self.channels, self.n_classes, self.side)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _targets_of(self, spec: TrainSpec) -> Tensor | None:
        """Return what to train on without a teacher, float32 (N, n_classes) or (N, K, n_classes) on the device."""
        if spec.teacher is not None:
            return None
        if spec.targets is None and self._targets is None:
            raise ValueError("there are neither targets nor a teacher")
        return self._targets if spec.targets is None else self._probabilities(spec.targets)

    def _probabilities(self, targets: Tensor) -> Tensor:
        """Return the targets of all images as float32 (N, n_classes) on the device."""
        if len(targets) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(targets)} targets")
        if targets.ndim == 1:
            if not 0 <= int(targets.min()) <= int(targets.max()) < self.n_classes:
                raise ValueError(f"classes must lie in 0..{self.n_classes - 1}")
            one_hot = torch.zeros(len(targets), self.n_classes, device=self.device)
            return one_hot.scatter_(1, targets.to(self.device)[:, None], 1.0)
        if targets.shape[-1] != self.n_classes:
            raise ValueError(f"soft targets have {targets.shape[-1]} columns, not {self.n_classes}")
        return targets.to(self.device, torch.float32)

    def _checked(self, indices: Tensor | None) -> Tensor:
        n = len(self.images)
        if indices is None:
            return torch.arange(n)
        if len(indices) == 0 or not 0 <= int(indices.min()) <= int(indices.max()) < n:
            raise ValueError(f"the images to read must be some of 0..{n - 1}")
        return indices.cpu()


def _is_finite(model: nn.Module) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generator of the CPU, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
