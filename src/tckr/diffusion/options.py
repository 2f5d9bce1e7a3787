"""Typed parameters of adapting and sampling."""

from typing import Literal

from pydantic import Field

from tckr.options import Options, Schedule

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYTHING = (
    *ATTENTION,
    *("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_in", "conv_out", "conv_shortcut", "conv", "time_emb_proj"),
)


class AdaptationOptions(Options):
    """Parameters of the adaptation stage (LoRA: Hu et al. 2022)."""

    generator: str = Field(description="folder or hub id of a diffusers StableDiffusionPipeline")
    rank: int = Field(
        16, ge=1, le=256, description="rank of each update; its scale is 1 (alpha = rank)"
    )
    layers: Literal["attention", "everything"] = Field(
        "everything", description="the published adapter changes the attention projections only"
    )
    schedule: Schedule
    class_only: float = Field(
        0.1, ge=0, le=1, description="share of steps that read the class name alone"
    )
    unconditional: float = Field(0.1, ge=0, le=1, description="share of steps that read nothing")
    flip: bool = Field(False, description="also learn from mirrored images")

    @property
    def target_modules(self) -> list[str]:
        """Names of the layers that LoRA changes."""
        return list(ATTENTION if self.layers == "attention" else EVERYTHING)


class SamplingOptions(Options):
    """How images are drawn from a generator."""

    steps: int = Field(10, ge=1, le=1000, description="denoising steps")
    guidance_scale: float = Field(
        1.5, ge=1, le=20, description="classifier-free guidance; 1 is none"
    )
    batch_size: int = Field(128, ge=1, description="images drawn at once")
    workers: int = Field(
        1, ge=1, description="processes that draw at once, one core each; 1 on a GPU"
    )
