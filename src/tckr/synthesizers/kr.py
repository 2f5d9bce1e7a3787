"""KR (Knowledge Recycling: Galli, Lomurno et al., arXiv 2407.15526): train the whole generator, and let its student choose it.

The generator's denoiser is fine-tuned on the members under the names of their classes, with snapshots on the way; there is no
captioner. Which snapshot is sampled, and how, the accuracy of short students decides (`tckr.synthesizers.choice`: Checkpoint
Optimisation and Tuning); the teacher labels what is drawn (Generative Knowledge Distillation), as in every arm.
"""

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd

from tckr.diffusion.options import FinetuningOptions
from tckr.engine.places import place
from tckr.engine.seeds import derive
from tckr.synthesizers.base import Step
from tckr.synthesizers.choice import ChoiceOptions
from tckr.synthesizers.fitted import Fitted, extrapolated
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.text_to_image import DrawingOptions, TextToImage

if TYPE_CHECKING:
    from tckr.diffusion.snapshots import Snapshots

# Optimizer steps of a short trial, few and many: the difference says how long one takes.
TRIAL_STEPS = {"cuda": (10, 110), "cpu": (2, 6)}
FINE_TUNING = "fine-tuning"  # the channel through which members reach the images


class KRDrawingOptions(DrawingOptions):
    """How the synthetic set is made."""

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"synthetic images, {self.cardinality:g} x the members, from the fine-tuned generator, prompted with class names"


class KR(TextToImage):
    """Fine-tune, choose, generate."""

    steps: ClassVar[tuple[Step, ...]] = (
        Step("finetune_generator", ("snapshots", "finetuning_losses"), reads=()),
    )
    channels: ClassVar[tuple[str, ...]] = (FINE_TUNING,)
    by_products: ClassVar[tuple[str, ...]] = ("finetuning_losses",)
    chooses: ClassVar[bool] = True
    update: ClassVar[str] = "snapshots"

    generator_adaptation: FinetuningOptions
    generator_choice: ChoiceOptions
    knowledge_recycling: KRDrawingOptions

    def finetune_generator(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> "tuple[Snapshots, pd.DataFrame]":
        """Train the generator's denoiser on images and class names; unfinished work is found again and goes on.

        Returns:
            Snapshots of the denoiser, and the loss by step (`step`, `loss`).
        """
        from tckr.diffusion.finetuning import finetune
        from tckr.diffusion.pipeline import load
        from tckr.engine.checkpoint import Checkpoints
        from tckr.engine.content import content_hash, source_state
        from tckr.engine.once_saved import once_saved

        options = self.generator_adaptation
        names = [private.class_names[label] for label in private.labels.tolist()]
        unfinished = None
        if options.checkpoints:
            told = options.model_dump(mode="json", exclude={"checkpoints", "cache_gib"})
            work = content_hash(told, source_state(options.generator), private.images, names, seed)
            unfinished = Checkpoints(place(options.checkpoints) / work)
        pipeline = load(options.generator, device, options.resolution)
        made = finetune(
            pipeline,
            private.images,
            names,
            options,
            derive(seed, "generator_adaptation"),
            unfinished=unfinished,
        )
        if unfinished:
            once_saved(unfinished.remove)
        return made

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """Whether the images are those of the fine-tuned generator: not if its channel is closed."""
        return FINE_TUNING not in closed

    def in_one_process(self) -> Self:
        """Return the same arm, drawing in this process; a shadow's training is kept by the audit, whole."""
        alone = super().in_one_process()
        training = self.generator_adaptation.model_copy(update={"checkpoints": None})
        return alone.model_copy(update={"generator_adaptation": training})

    def estimate_fit(
        self, private: PrivateSet, known: Mapping[str, Any], device: str
    ) -> tuple[float, Fitted]:
        """Estimate the duration of the fine-tuning by linear extrapolation from short trials."""
        options = self.generator_adaptation

        def trial(steps: int) -> tuple[float, Fitted]:
            schedule = options.schedule.model_copy(update={"steps": steps})
            changes = {"schedule": schedule, "epochs": None, "snapshots": 1, "snapshot": None}
            brief = options.model_copy(update=changes)
            start = time.perf_counter()
            arm = self.model_copy(update={"generator_adaptation": brief})
            fitted = arm.fit(private, 0, device, known)
            return time.perf_counter() - start, fitted

        steps = max(options.wanted(max(1, len(private.images) // 2)))
        return extrapolated(trial, *TRIAL_STEPS["cpu" if device == "cpu" else "cuda"], steps)
