"""LoRA adapters: merged into a generator, saved for diffusers, read in the formats of diffusers, PEFT and Kohya."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_unet_state_dict_to_peft
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tckr.errors import UserError

FILE = "pytorch_lora_weights.safetensors"  # diffusers
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = (
    "lora_adapter_metadata"  # key of the file's header in which diffusers keeps ranks and alphas
)
TEXT_ENCODER = ("lora_te_", "lora_te1_", "lora_te2_", "text_encoder.", "text_encoder_2.")
FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")
SGM = SimpleNamespace(
    layers_per_block=2
)  # of every SDXL UNet, whose blocks Kohya numbers differently


@dataclass(frozen=True)
class Adapter:
    """LoRA weights of a denoiser: layer L is updated by `L.lora_B.weight @ L.lora_A.weight`, with scale 1.

    Attributes:
        weights: float32, named by the layer in diffusers' UNet; A is (rank, in[, kh, kw]), B (out, rank[, 1, 1]).
    """

    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `pytorch_lora_weights.safetensors`, which `pipeline.load_lora_weights(folder)` reads."""
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=self.weights)

    @staticmethod
    def load(source: Path | str) -> "Adapter":
        """Read an adapter, ours or one made elsewhere; its scale (alpha / rank) is folded into the B factors.

        Args:
            source: a safetensors file, or a folder with one, in the naming of diffusers (current, or the
                older one of attention processors), PEFT or Kohya.

        Raises:
            UserError: there is none, it is broken, or it holds something other than LoRA of a denoiser.
        """
        file = _file(Path(source))
        try:
            with safe_open(file, "pt") as opened:
                header = opened.metadata() or {}
                weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"Adapter {file} cannot be read: {error}.",
                "give a LoRA as a safetensors file, or run generator_adaptation again.",
            ) from error
        return Adapter(_canonical(file, weights, _config(file, header)))

    def check(self, unet: Any) -> None:
        """Check that the generator has a layer of the right shape for every update.

        Raises:
            UserError: an update does not fit; the message names the first.
        """
        for layer, first, second in self._updates():
            try:
                weight = unet.get_submodule(layer).weight
            except AttributeError as error:
                raise UserError(
                    f"The adapter changes {layer}, which the generator does not have.",
                    "use the generator that the adapter was made for.",
                ) from error
            wanted, given = _ends(weight, weight), _ends(first, second)
            if wanted != given or first.shape[0] != second.shape[1]:
                shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
                raise UserError(
                    f"The adapter's factors of {layer} have shapes {shapes}, which do not fit the generator's "
                    f"{tuple(weight.shape)}.",
                    "use the generator that the adapter was made for.",
                )

    def apply(self, pipeline: Any) -> Any:
        """Merge the updates into the pipeline's weights, so that sampling costs no more; return the pipeline.

        Raises:
            UserError: an update does not fit; nothing was changed.
        """
        self.check(pipeline.unet)
        for layer, first, second in self._updates():
            weight = pipeline.unet.get_submodule(layer).weight.data
            update = second.to(weight.device).flatten(1) @ first.to(weight.device).flatten(1)
            weight.copy_(weight.float() + update.view(weight.shape))
        return pipeline

    def _updates(self) -> list[tuple[str, Tensor, Tensor]]:
        """Return layer, A and B of every update."""
        layers = dict.fromkeys(name.rsplit(".lora_", 1)[0] for name in self.weights)
        return [
            (
                layer,
                self.weights[f"{layer}.lora_A.weight"],
                self.weights[f"{layer}.lora_B.weight"],
            )
            for layer in layers
        ]


def _ends(first: Tensor, second: Tensor) -> tuple[int, int]:
    """Return the numbers of inputs, kernel pixels included, and of outputs."""
    return first[0].numel(), second.shape[0]


def _file(source: Path) -> Path:
    """Return the file itself, or the one in a folder."""
    if not source.is_dir():
        return source
    named = [source / name for name in (FILE, PEFT_FILE) if (source / name).is_file()]
    others = sorted(source.glob("*.safetensors"))
    return (named or (others if len(others) == 1 else []) or [source / FILE])[0]


def _config(file: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """Return the ranks and alphas stored with the weights: in PEFT's file, or in diffusers' header."""
    beside = file.parent / PEFT_CONFIG
    if file.name == PEFT_FILE and beside.is_file():
        return dict(json.loads(beside.read_text(encoding="utf-8")))
    entries = json.loads(header.get(METADATA, "{}"))
    return {
        name.removeprefix("unet."): value
        for name, value in entries.items()
        if not name.startswith(TEXT_ENCODER)
    }


def _canonical(
    file: Path, weights: dict[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return weights of any known naming in ours, each scale folded into the second factor.

    diffusers renames them; what it leaves to a loaded pipeline (PEFT's prefix, the scales) is done
    here, so that an adapter can be read, hashed and checked without a generator.
    """

    def refuse(name: str, why: str) -> UserError:
        return UserError(f"Adapter {file}: {name} {why}.", "give a LoRA of the denoiser alone.")

    for name in weights:
        if name.startswith(TEXT_ENCODER):
            raise refuse(name, "changes a text encoder, which is not supported")
    try:
        weights, alphas = StableDiffusionPipeline.lora_state_dict(weights, unet_config=SGM)  # Kohya
    except (ValueError, KeyError) as error:
        raise UserError(
            f"Adapter {file} is of no known naming: {str(error).splitlines()[0]}",
            "save it as diffusers, PEFT or Kohya do.",
        ) from error
    alpha_of = {
        name.removesuffix(".alpha").split(".lora_A")[0]: alpha
        for name, alpha in _in_peft_naming(alphas or {}).items()
    }
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _in_peft_naming(weights).items():
        match = FACTOR.fullmatch(name)
        if not match or config.get("use_dora"):
            raise refuse(name, "is not a factor of a LoRA")
        found.setdefault(match[1], {})[match[2]] = tensor
    for layer, factors in found.items():
        if len(factors) != 2:
            raise refuse(layer, "has one factor only")
        rank = len(factors["A"])
        scale = alpha_of[layer] / rank if layer in alpha_of else _scale(layer, rank, config)
        factors["B"] = factors["B"] * scale
    return {
        f"{layer}.lora_{factor}.weight": factors[factor].contiguous()
        for layer, factors in found.items()
        for factor in ("A", "B")
    }


def _in_peft_naming(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the entries of a UNet: `<layer>.lora_A.weight`, without the prefix of PEFT or diffusers."""
    bare = {n.removeprefix("base_model.model.").removeprefix("unet."): v for n, v in values.items()}
    return dict(convert_unet_state_dict_to_peft(bare))


def _scale(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return the scale of one layer: alpha / rank, or alpha / sqrt(rank) if rank-stabilized; 1 without an alpha."""
    alpha = config.get("lora_alpha")
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", layer):  # as PEFT matches them
            alpha = value
            break
    if alpha is None:
        return 1.0
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
