"""Snapshots of a denoiser on the way of its training, stored as safetensors: its whole weights, or an adapter, for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tckr.diffusion.adapter import Adapter
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import UserError

INDEX = "snapshots.json"
KIND, ADAPTER = "denoiser", "adapter"  # with which the names of files begin


@dataclass(frozen=True)
class DenoiserWeights:
    """All weights of a denoiser.

    Attributes:
        weights: float16 or float32 on the CPU, by their names in diffusers' UNet.
    """

    weights: dict[str, Tensor]

    def apply(self, pipeline: Any) -> Any:
        """Put the weights in the place of the pipeline's; return the pipeline.

        Raises:
            UserError: they are of another denoiser; nothing was changed.
        """
        own = dict(pipeline.unet.named_parameters())
        for name in dict.fromkeys([*own, *self.weights]):
            given, wanted = (
                tuple(kept[name].shape) if name in kept else "none" for kept in (self.weights, own)
            )
            if given != wanted:
                raise UserError(
                    f"The snapshot's weight {name} has shape {given}, the generator's {wanted}.",
                    "use the generator that the snapshot was made of.",
                )
        for name, weight in own.items():
            weight.data.copy_(self.weights[name])
        return pipeline


@dataclass(frozen=True)
class Snapshots:
    """The denoiser as it was after some numbers of optimizer steps.

    Attributes:
        steps: number of steps behind each, by its number.
        denoisers: by the same numbers, which begin with 0. A training that was to make one of them alone has one.
    """

    steps: Mapping[int, int]
    denoisers: Mapping[int, DenoiserWeights | Adapter]

    @property
    def numbers(self) -> list[int]:
        """Numbers of the snapshots that are there, in the order of the training."""
        return sorted(self.denoisers)

    def at(self, number: int | None) -> DenoiserWeights | Adapter:
        """Return a snapshot by its number; None: the last.

        Raises:
            UserError: there is no such snapshot.
        """
        wanted = self.numbers[-1] if number is None else number
        if wanted not in self.denoisers:
            raise UserError(
                f"There is no snapshot {wanted}: there are {', '.join(map(str, self.numbers))}.",
                "choose one of them, or train the generator again with generator_adaptation.snapshots.",
            )
        return self.denoisers[wanted]

    def apply(self, pipeline: Any) -> Any:
        """Put the last snapshot's weights into the pipeline, as an adapter would be merged in; return the pipeline."""
        return self.at(None).apply(pipeline)

    def save(self, folder: Path) -> None:
        """Write a safetensors file for each snapshot, with the names of diffusers' UNet, and the list of them."""
        listed = []
        for number in self.numbers:
            kept = self.denoisers[number]
            kind = KIND if isinstance(kept, DenoiserWeights) else ADAPTER
            file = f"{kind}_{number}.safetensors"
            save_file(kept.weights, folder / file)
            listed.append({"number": number, "steps": self.steps[number], "file": file})
        (folder / INDEX).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Snapshots":
        """Read what `save` wrote; the files are mapped into memory and read where they are used.

        Raises:
            UserError: a file is missing or damaged, or a number in it is not finite.
        """
        remedy = "run the stage that makes the snapshots again."
        try:
            listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            weights = {row["number"]: load_file(folder / row["file"]) for row in listed}
            steps = {row["number"]: row["steps"] for row in listed}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(f"The snapshots in {folder} cannot be read: {error}.", remedy) from None
        for number, tensors in weights.items():
            _check_finite(number, tensors, remedy)
        kinds = {
            row["number"]: DenoiserWeights if row["file"].startswith(KIND) else Adapter
            for row in listed
        }
        return Snapshots(steps, {number: kinds[number](kept) for number, kept in weights.items()})


@dataclass
class Kept:
    """Collects weights on the way of a training, so that one that was killed and goes on has those that it had passed.

    Attributes:
        wanted: number of each snapshot by the steps behind it.
        identity: of the training, as its checkpoint has it.
        unfinished: where they are found again; None: nowhere.
    """

    wanted: Mapping[int, int]
    identity: Mapping[str, Any]
    unfinished: Checkpoints | None = None
    weights: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def add(self, done: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights after so many steps."""
        number = self.wanted[done]
        self.weights[number] = weights
        if self.unfinished:
            self.unfinished.of(f"snapshot_{number}").save(dict(self.identity), weights)

    def snapshots(self, kind: type[DenoiserWeights] | type[Adapter]) -> Snapshots:
        """Return all of them.

        Raises:
            UserError: one that an earlier process had passed is gone.
        """
        for number in set(self.wanted.values()) - set(self.weights):
            place = self.unfinished.of(f"snapshot_{number}") if self.unfinished else None
            saved = place.load(dict(self.identity)) if place else None
            if place is None or saved is None:
                raise UserError(
                    f"Snapshot {number} of an unfinished training is no longer there.",
                    f"remove {place.path.parent if place else 'its folder'} to train from the beginning.",
                )
            self.weights[number] = saved
        steps = {number: done for done, number in self.wanted.items()}
        return Snapshots(steps, {number: kind(self.weights[number]) for number in sorted(steps)})


def _check_finite(number: int, weights: Mapping[str, Tensor], remedy: str) -> None:
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"Snapshot {number}: {name} has values that are not finite.",
                f"{remedy[:-1]}, with snapshot_dtype: float32 or a lower learning rate.",
            )
