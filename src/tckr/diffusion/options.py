"""Typed parameters of adapting a generator and sampling from it."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tckr.engine.endpoint import EndpointOptions, TrafficOptions
from tckr.options import ModelSource, Options, Schedule

Solver = Literal[
    "as_downloaded", "ddim", "ddpm", "dpmsolver", "unipc", "euler", "euler_ancestral", "heun", "pndm", "lcm",
]  # fmt: skip

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
EVERYTHING = (
    *ATTENTION,
    *("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_in", "conv_out", "conv_shortcut", "conv", "time_emb_proj"),
)


class SamplingOptions(Options):
    """Parameters of drawing images from a generator."""

    scheduler: Solver = Field(
        "as_downloaded", description="solver, built from the generator's own noise schedule"
    )
    steps: int = Field(10, ge=1, le=1000, description="denoising steps")
    guidance_scale: float = Field(
        1.5, ge=0, le=20, description="classifier-free guidance; 0 and 1 are none"
    )
    initial_noise_scale: float = Field(
        1.0,
        gt=0,
        le=4,
        description="standard deviation of the first noise, in units of the solver's own (GaFi's expansion trick: 1 to 2)",
    )
    guidance_interval: tuple[float, float] = Field(
        (0.0, 1.0),
        description="part of the steps that is guided, from and to (Kynkäänniemi et al. 2024, arXiv 2404.07724)",
    )
    # Speed only: none of these changes the result.
    batch_size: int | Literal["auto"] = Field(
        128,
        description="images drawn at once; auto: as many as fit in memory. Halved whenever memory runs out",
    )
    workers: int = Field(
        1,
        ge=1,
        description="processes that draw side by side, one core each; more than 1 also lets several GPUs, or a cluster, draw",
    )
    cache_gib: float = Field(
        4.0,
        ge=0,
        description="memory for text embeddings, GiB; if they need more they go to disk",
    )
    compile: bool = Field(
        False, description="on a GPU, compile the denoiser: a minute once, faster steps"
    )

    def recipe(self) -> dict[str, Any]:
        """Return the options that change the result, without those of speed."""
        speed = {"batch_size", "workers", "cache_gib", "compile"}
        return self.model_dump(mode="json", exclude=speed)

    @property
    def passes(self) -> int:
        """Passes of the denoiser for each image: guidance takes two per step."""
        return self.steps * (2 if self.guidance_scale > 1 else 1)

    @model_validator(mode="after")
    def _in_range(self) -> "SamplingOptions":
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise ValueError("guidance_interval must be 0 <= from <= to <= 1")
        if self.batch_size != "auto" and self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        return self


class DenoiserOptions(Options):
    """Parameters of training a generator's denoiser on a private set, whatever of it is trained."""

    generator: Annotated[str, ModelSource("generator")] = Field(
        description="folder or hub id of a diffusers StableDiffusionPipeline (1.x, 2.x, turbo) or "
        "StableDiffusionXLPipeline"
    )
    resolution: int | None = Field(
        None,
        ge=8,
        description="side at which the generator is adapted and sampled, pixels; null: its own",
    )
    schedule: Schedule
    epochs: float | None = Field(
        None, gt=0, description="passes over the members, which then set schedule.steps"
    )
    class_only: float = Field(
        0.1, ge=0, le=1, description="share of images whose step reads the class name alone"
    )
    unconditional: float = Field(
        0.1, ge=0, le=1, description="share of images whose step reads the empty prompt"
    )
    flip: bool = Field(False, description="also learn from mirrored images")
    timesteps: Literal["stratified", "independent"] = Field(
        "stratified",
        description="one from each equal part of the noise schedule, or drawn independently",
    )
    snr_gamma: float | None = Field(
        None, gt=0, description="gamma of Min-SNR weighting (Hang et al. 2023); null: none"
    )
    # Speed only: none of these changes the result but micro_batch, whose noise is drawn part by part.
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="images at once; gradients accumulate up to schedule.batch_size; null: all of them",
    )
    cache_gib: float = Field(
        8.0,
        ge=0,
        description="memory for latents and text embeddings, GiB; what needs more goes to disk",
    )
    compile: bool = Field(
        False, description="on a GPU, compile the denoiser: a minute once, faster steps"
    )
    checkpoints: str | None = Field(
        None, description="folder of an unfinished adaptation, from which a killed run resumes"
    )

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.micro_batch and self.schedule.batch_size % self.micro_batch:
            raise ValueError("schedule.batch_size must be a multiple of micro_batch")
        return self

    def schedule_for(self, members: int) -> Schedule:
        """Return the schedule, its steps set by `epochs` if that is given."""
        if self.epochs is None:
            return self.schedule
        steps = max(1, math.ceil(self.epochs * members / self.schedule.batch_size))
        return self.schedule.model_copy(update={"steps": steps})

    def amount(self) -> str:
        """Say how much work it is."""
        return f"{self.epochs:g} passes" if self.epochs else f"{self.schedule.steps:,} steps"


class SnapshotOptions(DenoiserOptions):
    """Which snapshots of the denoiser are kept on the way, and which of them is sampled."""

    snapshots: int = Field(
        1, ge=1, le=100, description="snapshots of the adapter, evenly spaced, the last at the end"
    )
    snapshot: int | None = Field(
        None,
        ge=0,
        description="number of the snapshot that is sampled, from 0; null: the chosen one, or else the last",
    )

    def snapshot_steps(self, members: int) -> list[int]:
        """Return the number of steps after which each snapshot is kept.

        >>> schedule = Schedule(steps=200, batch_size=8, learning_rate=1e-4)
        >>> FinetuningOptions(generator="sd", schedule=schedule).snapshot_steps(60)
        [50, 100, 150, 200]
        """
        steps = self.schedule_for(members).steps
        return [max(1, steps * (i + 1) // self.snapshots) for i in range(self.snapshots)]

    def wanted(self, members: int) -> dict[int, int]:
        """Return the snapshots to make, number by steps: all of them, or the one that is sampled."""
        steps = self.snapshot_steps(members)
        numbers = range(len(steps)) if self.snapshot is None else [self.snapshot]
        return {steps[number]: number for number in numbers}

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.snapshot is not None and self.snapshot >= self.snapshots:
            raise ValueError("snapshot must be below snapshots: they are numbered from 0")
        if self.epochs is None and self.snapshots > self.schedule.steps:
            raise ValueError("there cannot be more snapshots than schedule.steps")
        return self


class AdaptationOptions(SnapshotOptions):
    """Parameters of the adaptation stage (LoRA: Hu et al. 2022)."""

    adapter: Annotated[str | None, ModelSource("adapter")] = Field(
        None,
        description="file or folder of an adapter made elsewhere (diffusers, PEFT, Kohya), used instead of training",
    )
    rank: int = Field(16, ge=1, le=256, description="rank of each update")
    alpha: float | None = Field(
        None, gt=0, description="an update is scaled by alpha / rank; null: alpha = rank"
    )
    layers: Literal["attention", "everything"] = Field(
        "everything", description="the published adapter changes the attention projections only"
    )
    # Pictures only.
    sheet_every: int = Field(
        0, ge=0, description="steps between two rows of the picture of the progress; 0: none"
    )
    sheet_sampling: SamplingOptions = Field(
        SamplingOptions(steps=6, guidance_scale=1.0, workers=1),
        description="how the images of the progress and of before/after are drawn; changes pictures only",
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        if self.adapter:
            return f"take the adapter {self.adapter} for {self.generator}"
        return f"adapt {self.generator} to the members, {self.amount()}"

    @property
    def target_modules(self) -> list[str]:
        """Names of the layers that LoRA updates."""
        return list(ATTENTION if self.layers == "attention" else EVERYTHING)


class FinetuningOptions(SnapshotOptions):
    """Parameters of fine-tuning every weight of the denoiser, with snapshots of it on the way."""

    start: Literal["pretrained", "scratch"] = Field(
        "pretrained",
        description="of the denoiser: its weights as downloaded, or random ones (the rest of the generator stays)",
    )
    class_only: Literal[0] = Field(0, description="0: the prompts are class names anyway")
    snapshots: int = Field(
        4, ge=1, le=100, description="snapshots of the denoiser, evenly spaced, the last at the end"
    )
    snapshot_dtype: Literal["float16", "float32"] = Field(
        "float16", description="of the weights that are kept"
    )

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        of = self.generator if self.start == "pretrained" else f"{self.generator}, from scratch"
        kept = "1 snapshot" if self.snapshots == 1 else f"{self.snapshots} snapshots"
        return f"fine-tune the denoiser of {of} on the members, {self.amount()}, {kept}"


class RendererOptions(Options):
    """Who draws the candidates."""

    kind: Literal["pipeline", "openai"] = Field(
        "pipeline",
        description="pipeline: the generator, as downloaded; openai: an OpenAI-compatible endpoint of images",
    )
    endpoint: EndpointOptions = EndpointOptions()
    traffic: TrafficOptions = TrafficOptions()
    size: str = Field(
        "1024x1024",
        pattern=r"^([1-9]\d{0,4}x[1-9]\d{0,4}|auto)$",
        description="openai: of the images that are asked for, pixels; they are then made as large as the private ones",
    )
    max_pixels: int = Field(
        16_000_000, ge=64, description="openai: of an image, above which it is refused undecoded"
    )
    tolerance: float = Field(
        0.1,
        ge=0,
        le=1,
        description="openai: share of prompts that the endpoint may decline to draw (they become grey images), before the"
        " run stops",
    )

    def recipe(self) -> dict[str, Any]:
        """Return the options that change what is drawn, without those of traffic."""
        return self.model_dump(mode="json", exclude={"traffic"})

    @model_validator(mode="after")
    def _named(self) -> "RendererOptions":
        if self.kind == "openai" and not (self.endpoint.base_url and self.endpoint.model):
            raise ValueError("openai needs endpoint.base_url and endpoint.model")
        return self
