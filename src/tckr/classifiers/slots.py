"""One network in training on a device, its step captured as a CUDA graph where that device is a GPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tckr.classifiers.features import Scattering
from tckr.classifiers.feed import Feed
from tckr.classifiers.models import Network
from tckr.classifiers.optimizers import build_optimizer, learning_rates
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.step import frozen, train_step
from tckr.training.cuda_graph import WARM_UP, GraphedStep


def compiled(network: nn.Module) -> Any:
    """Compile a network; one that reads the scattering transform is returned as it is.

    The transform's filters, which it makes of complex numbers at its first call and keeps, would be made again on the CPU in
    every compiled one: that stops the capture of a CUDA graph.
    """
    if any(isinstance(part, Scattering) for part in network.modules()):
        return network
    return torch.compile(network, dynamic=False)


class TrainingSlot:
    """One network in training, with all that changes from step to step kept in tensors on the device.

    A captured step reads and writes fixed tensors. The images and the learning rate of the current step are therefore
    looked up by a counter on the device, and `load` starts the next network in place. So one captured step serves
    every network of the recipe.
    """

    def __init__(
        self,
        feed: Feed,
        options: ClassifierOptions,
        model: Network,
        teacher: nn.Module | None,
        targets: Tensor | None,
        capacity: int,
    ) -> None:
        """Allocate `capacity` steps of networks and teachers of the same architecture as these.

        Args:
            feed: brings the images of each batch to the device of the slot.
            options: the recipe.
            model: any network of the recipe; it is copied.
            teacher: any teacher; it is copied. None trains on targets.
            targets: float32 (N, n_classes) or (N, K, n_classes); they are copied. None with a teacher.
            capacity: largest number of steps of a network.
        """
        self.feed, self.options = feed, options
        device = feed.images.device
        on_gpu = device.type == "cuda"
        self.model = copy.deepcopy(model).to(device).train()
        self.teacher = None if teacher is None else frozen(teacher, device)
        self.targets = None if targets is None else targets.clone()
        self.rate = torch.zeros((), device=device)
        self.optimizer = build_optimizer(self.model, options, self.rate)
        self.generator = torch.Generator(device)
        self._run: list[Any] = [self.model, self.teacher]  # what a step calls
        if options.compile and on_gpu:
            self._run = [None if network is None else compiled(network) for network in self._run]
        capacity = max(capacity, WARM_UP)  # the capture is preceded by steps too
        self.order = torch.zeros((capacity, options.batch_size), dtype=torch.int64, device=device)
        self.rates = torch.zeros(capacity, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.steps = 0
        self._batches = torch.zeros((0, options.batch_size), dtype=torch.int64)
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
            self.feed.next()
            self._step()
        else:
            with torch.cuda.stream(self.stream):
                self.feed.next()
            self._graphed()

    def start(self) -> None:
        """Begin to bring images to the device; `load` has said which. No other slot may be captured meanwhile."""
        self.feed.start(self._batches)

    def close(self) -> None:
        """Stop bringing images to the device."""
        self.feed.close()

    def _step(self) -> None:
        self.rate.copy_(self.rates.index_select(0, self.counter).squeeze(0))
        index = self.order.index_select(0, self.counter).squeeze(0)
        model, teacher = self._run
        train_step(
            model, self.optimizer, self.feed.images, self.feed.rows(index), self.options, self.generator,
            teacher=teacher, target=None if self.targets is None else self.targets[index],
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
        self.steps, self._batches = len(order), order
        self.order[: self.steps].copy_(order)
        self.rates[: self.steps].copy_(torch.tensor(learning_rates(self.options, self.steps)))
        self.counter.zero_()
        self.generator.manual_seed(seed)


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
