"""Measure the foundation models on images that they never saw: do captions tell images apart, is the autoencoder exact?

    python scripts/evaluate_foundation.py --out foundation.json
    python scripts/evaluate_foundation.py --train-held-out --held-out /tmp/held_out_clip --device cuda

The second command first trains another CLIP to judge the captions: with another width and seed, its own tokenizer, and a
random half of the public images, it shares no weight with any shipped model and has no part in making captions. (The
shipped models were trained on both halves; no model has seen the images measured here.) `floor` repeats every
measurement with the captions exchanged within each class: it must be at chance.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from caption_retrieval import clip_similarity, retrieval, shuffled_within, word_similarity
from diffusers import StableDiffusionPipeline
from kedro.config import OmegaConfigLoader
from torch import Tensor

from tckr.diffusion import pipeline as generator
from tckr.diffusion.frames import to_bytes, to_frame
from tckr.diffusion.latents import to_latents
from tckr.engine.seeds import derive
from tckr.foundation.attributes import describe
from tckr.foundation.captioner import ClipShape
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tensors import to_signed, to_tensor
from tckr.pipelines.foundation import nodes
from tckr.pipelines.foundation.nodes import FoundationOptions
from tckr.settings import CONFIG_LOADER_ARGS
from tckr.text import captioner
from tckr.text.clip import load_clip
from tckr.text.options import CaptionOptions

ROOT = Path(__file__).parents[1]
HELD_OUT = ClipShape(vision_width=96, text_width=96, projection=96)

logger = logging.getLogger(__name__)


def main() -> None:
    """Train the second CLIP if requested, measure, and write one JSON file."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parameters = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)[
        "parameters"
    ]
    if arguments.train_held_out:
        options = FoundationOptions(**parameters["foundation"])
        train_held_out(options, arguments.held_out, arguments.device, arguments.seed)
    images, classes = draw(
        arguments.images,
        IngestionOptions(**parameters["ingestion"]),
        arguments.per_class,
        arguments.seed,
    )
    length = parameters["captioning"]["max_new_tokens"]
    figures = measure(arguments, images, classes, length)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(f"{text}\n")
    if arguments.out:
        arguments.out.write_text(f"{text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=ROOT / "data/06_models/foundation",
        help="folder with captioner/, clip/ and generator/",
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=ROOT / "data/01_raw/fashion_mnist",
        help="labelled images of any accepted kind, not used in training the models",
    )
    parser.add_argument("--held-out", type=Path, help="folder of a CLIP that judges too")
    parser.add_argument(
        "--train-held-out", action="store_true", help="train that CLIP first, into --held-out"
    )
    parser.add_argument("--per-class", type=int, default=100, help="images of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.train_held_out and not arguments.held_out:
        parser.error("--train-held-out needs --held-out")
    return arguments


def draw(
    source: Path, options: IngestionOptions, per_class: int, seed: int
) -> tuple[Tensor, np.ndarray]:
    """Return up to `per_class` members of each class: uint8 (N, C, H, W) and class names (N,)."""
    table, _ = ingest(source, options, seed)
    members = table[table.split == "members"].groupby("class_name").head(per_class)
    return to_tensor(members.image), members.class_name.to_numpy(dtype=str)


def measure(
    arguments: argparse.Namespace, images: Tensor, classes: np.ndarray, length: int
) -> dict[str, Any]:
    """Return all figures of the models on these images."""
    models, device = arguments.models, arguments.device
    writer = captioner.load(str(models / "captioner"), device)
    options = CaptionOptions(
        captioner=str(models / "captioner"), max_new_tokens=length, batch_size=250
    )
    captions = captioner.caption(writer, images, options)
    judges = {"clip": models / "clip", "held_out_clip": arguments.held_out}
    similarities = {
        name: clip_similarity(load_clip(folder, device), images, captions)
        for name, folder in judges.items()
        if folder
    }
    similarities["words"] = word_similarity(describe(images.expand(-1, 3, -1, -1)), captions)
    exchanged = shuffled_within(classes, arguments.seed)
    return {
        "images": len(images),
        "distinct_captions": len(set(captions)),
        "distinct_captions_per_class": pd.Series(captions).groupby(classes).nunique().to_dict(),
        "retrieval": {
            name: {
                "captions": retrieval(scores, classes, seed=arguments.seed),
                "floor": retrieval(scores[:, exchanged], classes, seed=arguments.seed),
            }
            for name, scores in similarities.items()
        },
        "autoencoder_psnr_db": psnr(generator.load(str(models / "generator"), device), images),
    }


@torch.inference_mode()
def psnr(pipeline: StableDiffusionPipeline, images: Tensor) -> dict[str, float]:
    """Return the peak signal-to-noise ratio, dB, of uint8 images after encoding (the latent's mean) and decoding.

    `pooled` is that of the mean squared error of all pixels, `median` that of the median image.
    """
    frames = to_frame(images, generator.side(pipeline))
    vae = pipeline.vae
    errors = []
    for part in frames.split(250):
        latents = to_latents(pipeline, to_signed(part)) / vae.config.scaling_factor
        rebuilt = to_bytes(vae.decode(latents).sample.cpu())
        errors.append(((rebuilt.float() - part.float()) ** 2).mean((1, 2, 3)))
    error = torch.cat(errors).double().clamp(min=1e-9)
    ratio = {"pooled": error.mean(), "median": error.median()}
    return {name: float(10 * torch.log10(255**2 / value)) for name, value in ratio.items()}


def train_held_out(options: FoundationOptions, folder: Path, device: str, seed: int) -> None:
    """Train the second CLIP on half of the public images and save it to `folder`."""
    seed = derive(seed, "held-out CLIP")
    options = options.model_copy(
        update={
            "device": device,
            "seeing": options.seeing.model_copy(update={"clip": HELD_OUT}),
        }
    )
    public = nodes.collect_public(options)
    half = public.sample(frac=0.5, random_state=seed).reset_index(drop=True)
    images, texts = nodes.compose_public(half, options, seed)
    tokenizer = nodes.make_tokenizer(texts, options)
    parts, losses = nodes.make_clip(images, nodes.word(texts, tokenizer), tokenizer, options, seed)
    for part in parts:
        part.save_pretrained(folder)
    logger.info("%s: held-out CLIP, last loss %.3f", folder, losses["clip"]["loss"][-1])


if __name__ == "__main__":
    main()
