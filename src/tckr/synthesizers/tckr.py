"""TCKR (Resmini, Lomurno et al., arXiv 2504.04582): caption the members, adapt a generator, generate from the captions.

Section 3 of the paper in four steps: BLIP-2 describes each private image; LoRA adapts a text-to-image diffusion model to
images and captions; the adapted model draws from the captions, balanced over the classes; the teacher labels what was
drawn (Generative Knowledge Distillation, `tckr.classifiers.distillation`).
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from tckr.diffusion.options import AdaptationOptions
from tckr.engine.places import place
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.synthesizers.base import Step
from tckr.synthesizers.choice import ChoiceOptions
from tckr.synthesizers.fitted import Fitted, extrapolated
from tckr.synthesizers.private_set import PrivateSet, number_of
from tckr.synthesizers.text_to_image import DrawingOptions, TextToImage
from tckr.text.options import CaptionOptions

if TYPE_CHECKING:
    from tckr.diffusion.adapter import Adapter
    from tckr.diffusion.snapshots import Snapshots
    from tckr.engine.checkpoint import Checkpoint, Checkpoints

# Optimizer steps of a short trial, few and many: the difference says how long one takes.
TRIAL_STEPS = {"cuda": (10, 110), "cpu": (2, 6)}


class TckrRecyclingOptions(DrawingOptions):
    """How the synthetic set is made."""

    generator: Literal["adapted", "base"] = Field(
        "adapted", description="base is a control: the generator as downloaded"
    )
    prompts: Literal["captions", "class_names"] = Field(
        "captions",
        description="captions of the members, or the bare class name (a control: no caption leaks)",
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return (
            f"{self.amount()}, from the {self.generator} generator, prompted with"
            f" {self.prompts.replace('_', ' ')}"
        )

    def described(self) -> list[str]:
        """Say in a sentence each which options of the drawing were on.

        >>> TckrRecyclingOptions(prompts="class_names").described()
        ['This is a control: the prompts are bare class names, not captions.']
        """
        control = "This is a control: the prompts are bare class names, not captions."
        return [*super().described(), *([control] if self.prompts == "class_names" else [])]


class TCKR(TextToImage):
    """Caption, adapt, generate."""

    steps: ClassVar[tuple[Step, ...]] = (
        Step("caption_members", ("captions",), per_image=True, reads=()),
        Step("adapt_generator", ("adapter", "adaptation_losses"), reads=("captions",)),
    )
    threats: ClassVar[tuple[str, ...]] = ("generator", "images", "prompts")
    by_products: ClassVar[tuple[str, ...]] = ("adaptation_losses",)
    chooses: ClassVar[bool] = True

    captioning: CaptionOptions
    generator_adaptation: AdaptationOptions
    generator_choice: ChoiceOptions = ChoiceOptions(snapshots="last")
    knowledge_recycling: TckrRecyclingOptions

    def check(self) -> None:
        """Refuse a mixture of generators that would all be the same.

        Raises:
            UserError: they would.
        """
        super().check()
        recycling = self.knowledge_recycling
        unadapted = recycling.generator == "base" or self.generator_adaptation.adapter
        if unadapted and any(each.arm is None for each in recycling.mixture):
            raise UserError(
                "knowledge_recycling.mixture adapts the generator anew for each seed, and this run adapts none.",
                "mix in other arms alone, or let the run adapt its generator.",
            )

    def caption_members(
        self,
        private: PrivateSet,
        artefacts: Mapping[str, Any],
        seed: int,
        device: str,
        *,
        unfinished: "Checkpoints | None" = None,
    ) -> tuple[pd.DataFrame]:
        """Describe each image in one sentence.

        Args:
            unfinished: where unfinished work is kept, and left; by default in `captioning.checkpoints`, until it is done.

        Returns:
            `class_name`, `caption` and `prompt` ("{class}: {caption}"), one row per image.
        """
        from tckr.engine.checkpoint import Checkpoints
        from tckr.text.captioner import caption, caption_fingerprint, captions_table, load

        captioner = load(self.captioning.captioner, device, self.captioning.dtype)
        own = None
        if unfinished is None and self.captioning.checkpoints:
            work = caption_fingerprint(private.images, self.captioning)
            unfinished = own = Checkpoints(place(self.captioning.checkpoints) / work)
        captions = caption(captioner, private.images, self.captioning, unfinished)
        if own:
            own.remove()
        names = [private.class_names[label] for label in private.labels.tolist()]
        return (captions_table([str(i) for i in range(len(names))], names, captions),)

    def adapt_generator(
        self,
        private: PrivateSet,
        artefacts: Mapping[str, Any],
        seed: int,
        device: str,
        *,
        checkpoint: "Checkpoint | None" = None,
        snapshot: Callable[[int, Any], None] | None = None,
    ) -> "tuple[Adapter | Snapshots, pd.DataFrame]":
        """Fine-tune the denoiser on images and prompts (LoRA); an adapter made elsewhere is only checked.

        Returns:
            The adapter, or several on the way of its training, and the loss by step (`step`, `loss`).
        """
        from tckr.diffusion.adapter import Adapter
        from tckr.diffusion.lora import adapt
        from tckr.diffusion.pipeline import load
        from tckr.diffusion.snapshots import Kept
        from tckr.engine.checkpoint import Checkpoints

        options = self.generator_adaptation
        pipeline = load(options.generator, device, options.resolution)
        if options.adapter:
            adapter = Adapter.load(options.adapter)
            adapter.check(pipeline.unet)
            return adapter, pd.DataFrame({"step": [], "loss": []})
        wanted = options.wanted(len(private.labels))
        folder = Checkpoints(checkpoint.path.parent) if checkpoint else None
        kept = Kept(wanted, {"snapshots": sorted(wanted)}, folder)
        adapter, losses = adapt(
            pipeline,
            private.images,
            self.prompts_of(private, artefacts),
            [private.class_names[label] for label in private.labels.tolist()],
            options,
            derive(seed, "generator_adaptation"),
            checkpoint=checkpoint,
            snapshot_every=options.sheet_every if snapshot else 0,
            snapshot=snapshot,
            keep_at=wanted if options.snapshots > 1 else (),
            keep=lambda done, made: kept.add(done, made.weights),
            stop=max(wanted),
        )
        return (adapter if options.snapshots == 1 else kept.snapshots(Adapter)), losses

    def prompts_of(self, private: PrivateSet, artefacts: Mapping[str, Any]) -> list[str]:
        """Return the caption of each image, its class before it."""
        prompts: list[str] = artefacts["captions"]["prompt"].tolist()
        return prompts

    def plan_prompts(
        self,
        fitted: Fitted,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Use the captions of each class in turn, shuffled; with the channel closed, the class's name."""
        from tckr.diffusion.sampling import balanced_prompts

        if self.knowledge_recycling.prompts == "class_names" or "captions" in closed:
            return super().plan_prompts(fitted, count, seed, nested=nested)
        captions, numbers = fitted.artefacts["captions"], number_of(fitted.class_names)
        prompts = captions["prompt"].tolist()
        labels = [numbers[name] for name in captions["class_name"]]
        return balanced_prompts(prompts, labels, count, derive(seed, "prompts"), nested)

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """Whether the adapter is merged in: the control draws from the generator as it was downloaded."""
        return self.knowledge_recycling.generator == "adapted" and super().adapted(closed)

    def estimate_fit(
        self, private: PrivateSet, known: Mapping[str, Any], device: str
    ) -> tuple[float, Fitted]:
        """Estimate the duration of the adaptation by linear extrapolation from two short trials."""
        captioned = set(self.artefacts(per_image=True)) <= known.keys()
        if self.generator_adaptation.adapter or not captioned:
            return super().estimate_fit(private, known, device)

        def trial(steps: int) -> tuple[float, Fitted]:
            schedule = self.generator_adaptation.schedule.model_copy(update={"steps": steps})
            changes = {"schedule": schedule, "epochs": None, "snapshots": 1, "snapshot": None}
            brief = self.generator_adaptation.model_copy(update=changes)
            start = time.perf_counter()
            arm = self.model_copy(update={"generator_adaptation": brief})
            fitted = arm.fit(private, 0, device, known)
            return time.perf_counter() - start, fitted

        steps = max(self.generator_adaptation.wanted(max(1, len(private.images) // 2)))
        return extrapolated(trial, *TRIAL_STEPS["cpu" if device == "cpu" else "cuda"], steps)
