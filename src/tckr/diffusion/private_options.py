"""Typed parameters of adapting a generator under differential privacy."""

from typing import Annotated, Literal

from pydantic import Field

from tckr.diffusion.options import ATTENTION, EVERYTHING
from tckr.options import ModelSource, Options, PrivateSchedule

FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")


class DPAdaptationOptions(Options):
    """Parameters of the private adaptation.

    How they were fixed, none of it by private images: rank 4 because the noise grows with the number of weights and the
    signal does not (arXiv 2110.05679); clipping far below the norm of a gradient, so that every image counts alike and one
    learning rate suits every generator (arXiv 2206.07136); a sampling rate of 0.15 and few steps because at equal mu large
    batches lose least (arXiv 2204.13650, section 4); several noise levels an image because they cost passes, but no privacy
    (Dockhorn et al. 2023, arXiv 2210.09929).
    """

    generator: Annotated[str, ModelSource("generator")] = Field(
        description="folder or hub id of a diffusers StableDiffusionPipeline or StableDiffusionXLPipeline"
    )
    resolution: int | None = Field(
        None, ge=8, description="side at which it is adapted and sampled, pixels; null: its own"
    )
    method: Literal["lora", "full"] = Field(
        "lora",
        description="updates of low rank, or of every weight of the denoiser, as PrivImage and DPDM publish it: the noise"
        " falls on all of them, and the learning rate has to be about a tenth",
    )
    rank: int = Field(4, ge=1, le=256, description="rank of each update; of lora alone")
    layers: Literal["attention", "linear", "everything"] = Field(
        "linear",
        description="attention projections, those and feed-forward, or convolutions too; of lora alone",
    )
    schedule: PrivateSchedule = PrivateSchedule(
        steps=80,
        sampling_rate=0.15,
        learning_rate=1e-3,
        max_grad_norm=1e-3,
        passes=2,
        averaging=0.93,
    )
    class_only: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of passes that read the class name instead of the prompt",
    )
    unconditional: float = Field(
        0.05, ge=0, le=1, description="share of passes that read the empty prompt"
    )
    flip: bool = Field(True, description="also learn from mirrored images")
    snr_gamma: float | None = Field(
        None, gt=0, description="gamma of Min-SNR weighting (Hang et al. 2023); null: none"
    )
    # Speed only.
    cache_gib: float = Field(
        8.0, ge=0, description="memory for latents and text embeddings, GiB; more goes to disk"
    )
    checkpoints: str | None = Field(
        None, description="folder of an unfinished adaptation, from which a killed run resumes"
    )

    @property
    def target_modules(self) -> list[str]:
        """Names of the layers that LoRA updates."""
        linear = [*ATTENTION, *FEED_FORWARD]
        return {"attention": list(ATTENTION), "linear": linear, "everything": list(EVERYTHING)}[
            self.layers
        ]

    @property
    def alpha(self) -> float | None:
        """None: an update has scale 1."""
        return None

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        what = "adapt" if self.method == "lora" else "fine-tune every weight of"
        return f"{what} {self.generator} under differential privacy, {self.schedule.steps:,} steps"
