"""A generator is a folder (or hub id) of a diffusers text-to-image pipeline; nothing of our own format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import AutoTokenizer

from tckr.diffusion.options import Solver
from tckr.engine.loading import OFFLINE, SAFE, description, download, readable
from tckr.engine.weights import find_variant, local_folder
from tckr.errors import UserError

__all__ = [
    "Generator",
    "bare_unet",
    "count_cut",
    "load",
    "side",
]

Generator: TypeAlias = Any
"""A `StableDiffusionPipeline` or `StableDiffusionXLPipeline`."""

FAMILIES: dict[str, type[Any]] = {
    "StableDiffusionPipeline": StableDiffusionPipeline,  # 1.x, 2.x and their few-step children
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
}
WEIGHTS = {
    "StableDiffusionPipeline": ("unet", "vae", "text_encoder"),
    "StableDiffusionXLPipeline": ("unet", "vae", "text_encoder", "text_encoder_2"),
}
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
BESIDE: dict[str, dict[str, Any]] = {  # what is not needed to make images
    "StableDiffusionPipeline": {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    },
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}


def load(source: str, device: str = "cpu", resolution: int | None = None) -> Generator:
    """Load a text-to-image pipeline, safetensors only, ready to run on `device`; nothing is fetched.

    Weights are float32 on a CPU and bfloat16 on a GPU.

    Args:
        source: a local folder, or a hub id that is already in the local cache.
        resolution: side of the images, pixels, if it should differ from the generator's own.

    Returns:
        a StableDiffusionPipeline or StableDiffusionXLPipeline.

    Raises:
        UserError: the model is missing, incomplete, of another kind, or cannot draw at this resolution.
    """
    family = _family(source)
    with readable(f"Generator '{source}'", _remedy(source)):
        pipeline = FAMILIES[family].from_pretrained(
            source,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            variant=find_variant(source, WEIGHTS[family]),
            **SAFE,
            **BESIDE[family],
        )
    if getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise UserError(
            f"The autoencoder of '{source}' shifts its latents (latents_mean), which is not supported.",
            "choose another generator.",
        )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    pipeline.unet.to(memory_format=torch.channels_last)
    if device != "cpu":
        pipeline.vae.to(memory_format=torch.channels_last)
    _set_side(pipeline, source, resolution)
    return pipeline


def bare_unet(source: str) -> Any:
    """Return the generator's denoiser without weights, to compare shapes with; nothing but its config.json is read.

    Raises:
        UserError: the generator is missing or of another kind.
    """
    _family(source)
    with readable(f"Generator '{source}'", _remedy(source)), torch.device("meta"):
        return diffusers.UNet2DConditionModel.from_config(
            diffusers.UNet2DConditionModel.load_config(
                source, subfolder="unet", local_files_only=True
            )
        )


def count_cut(source: str, prompts: Sequence[str]) -> int:
    """Return how many prompts are longer than a text encoder of the generator reads: their ends do not count.

    Args:
        source: as for `load`; its tokenizers alone are read.

    Raises:
        UserError: the generator is missing or of another kind.
    """
    parts = ("tokenizer", "tokenizer_2") if "XL" in _family(source) else ("tokenizer",)
    # By its place: for a hub id transformers would look for files that a tokenizer need not have, and ask the network.
    folder = local_folder(source, "model_index.json") or Path(source)
    cut: set[str] = set()
    for part in parts:
        with readable(f"Generator '{source}'", _remedy(source)):
            tokenizer = AutoTokenizer.from_pretrained(folder / part, **OFFLINE)
        distinct = list(dict.fromkeys(prompts))
        for start in range(0, len(distinct), 1024):
            texts = distinct[start : start + 1024]
            read = tokenizer(texts, verbose=False).input_ids
            cut |= {
                text
                for text, ids in zip(texts, read, strict=True)
                if len(ids) > tokenizer.model_max_length
            }
    return sum(prompt in cut for prompt in prompts)


def _family(source: str) -> str:
    """The pipeline's class, one of `FAMILIES`."""
    folder = Path(source)
    with readable(f"Generator '{source}'", _remedy(source)):
        index = description(source, "model_index.json")
    if index is None and folder.exists():
        raise UserError(
            f"Generator folder {folder} has no model_index.json.",
            "point to a folder written by a diffusers pipeline's save_pretrained.",
        )
    if index is None:
        raise UserError(
            f"Generator '{source}' could not be loaded: it is neither a folder nor in the local cache.",
            _remedy(source),
        )
    family = str(index.get("_class_name"))
    if family not in FAMILIES:
        raise UserError(
            f"Generator {source} holds a {family}.",
            f"give one of class {' or '.join(FAMILIES)}.",
        )
    if folder.exists() and (missing := [part for part in PARTS if not (folder / part).is_dir()]):
        raise UserError(
            f"Generator folder {folder} lacks {', '.join(missing)}.", "copy the whole folder again."
        )
    return family


def _remedy(source: str) -> str:
    meaning = f"a diffusers {' or '.join(FAMILIES)} with safetensors weights"
    return download(source, "generator_adaptation.generator", meaning)


def _set_side(pipeline: Generator, source: str, resolution: int | None) -> None:
    latent = pipeline.unet.config.sample_size
    if resolution is not None:
        latent, remnant = divmod(resolution, pipeline.vae_scale_factor)
        if remnant or not latent:
            raise UserError(
                f"'{source}' cannot draw {resolution} pixels.",
                f"choose a resolution that is a multiple of {pipeline.vae_scale_factor}.",
            )
        pipeline.unet.register_to_config(sample_size=latent)
    if not isinstance(latent, int):
        raise UserError(f"Generator '{source}' names no square size of its own.", "set resolution.")


def side(pipeline: Generator) -> int:
    """Return the side of the generator's square images, in pixels."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


CLASSES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmsolver": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "lcm": "LCMScheduler",
}


def solver(scheduler: Any, name: Solver) -> Any:
    """Return a new scheduler of the kind `name` with the configuration of `scheduler`: betas, prediction type, spacing.

    Solvers keep state from step to step, so every batch needs one of its own.
    """
    kind = type(scheduler) if name == "as_downloaded" else getattr(diffusers, CLASSES[name])
    return kind.from_config(scheduler.config)
