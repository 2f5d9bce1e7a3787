"""Adapters in the formats of other tools: diffusers (current and older), PEFT, Kohya."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diffusers import StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tckr.errors import UserError

FILE = "pytorch_lora_weights.safetensors"  # diffusers
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = (
    "lora_adapter_metadata"  # where diffusers keeps the ranks and alphas, in the file's header
)
TEXT_ENCODER = ("lora_te_", "lora_te1_", "lora_te2_", "text_encoder.", "text_encoder_2.")
FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")
SGM = SimpleNamespace(layers_per_block=2)  # of every SDXL, whose blocks Kohya counts in its own way


@dataclass(frozen=True)
class Adapter:
    """LoRA weights of a denoiser: an update of layer L is `L.lora_B.weight @ L.lora_A.weight`, of scale 1.

    Attributes:
        weights: float32, by diffusers' name of the layer in the UNet; A is (rank, in[, kh, kw]), B (out, rank[, 1, 1]).
    """

    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `pytorch_lora_weights.safetensors`, as `pipeline.load_lora_weights(folder)` reads it."""
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=self.weights)

    @staticmethod
    def load(source: Path | str) -> "Adapter":
        """Read an adapter, ours or one made elsewhere; a scale (alpha / rank) is folded into the second factors.

        Args:
            source: a safetensors file, or a folder with one, in the naming of diffusers (current, or the older one of
                attention processors), PEFT or Kohya.

        Raises:
            UserError: there is none, it is broken, or it holds something else than LoRA of a denoiser.
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
        """Check that every update has its layer, of the right shape.

        Raises:
            UserError: names the first that does not fit.
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
        """Merge the updates into the pipeline's own weights, which sampling then reads at no extra cost.

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
        """Layer and both factors of every update."""
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
    """Numbers going in (pixels of a kernel included) and coming out."""
    return first[0].numel(), second.shape[0]


def _file(source: Path) -> Path:
    """The file itself, or the one that a folder holds."""
    if not source.is_dir():
        return source
    named = [source / name for name in (FILE, PEFT_FILE) if (source / name).is_file()]
    others = sorted(source.glob("*.safetensors"))
    return (named or (others if len(others) == 1 else []) or [source / FILE])[0]


def _config(file: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """What is said of ranks and alphas beside the weights: PEFT's file, or diffusers' header."""
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
    """Weights of any known naming in ours, with scale 1."""

    def refuse(name: str, why: str) -> UserError:
        return UserError(f"Adapter {file}: {name} {why}.", "give a LoRA of the denoiser alone.")

    for name in weights:
        if name.startswith(TEXT_ENCODER):
            raise refuse(name, "changes a text encoder, which is not supported")
    weights = _without_alphas(weights)
    try:
        weights, _ = StableDiffusionPipeline.lora_state_dict(weights, unet_config=SGM)  # Kohya
    except (ValueError, KeyError) as error:
        raise UserError(
            f"Adapter {file} is of no known naming: {str(error).splitlines()[0]}",
            "save it as diffusers, PEFT or Kohya do.",
        ) from error
    weights = {
        name.removeprefix("base_model.model.").removeprefix("unet."): tensor
        for name, tensor in weights.items()
    }
    renamed = convert_unet_state_dict_to_peft(weights)
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in renamed.items():
        match = FACTOR.fullmatch(name)
        if not match or config.get("use_dora"):
            raise refuse(name, "is not a factor of a LoRA")
        found.setdefault(match[1], {})[match[2]] = tensor
    for layer, factors in found.items():
        if len(factors) != 2:
            raise refuse(layer, "has one factor only")
        factors["B"] = factors["B"] * _scale(layer, len(factors["A"]), config)
    return {
        f"{layer}.lora_{factor}.weight": factors[factor].contiguous()
        for layer, factors in found.items()
        for factor in ("A", "B")
    }


def _without_alphas(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with each layer's own `alpha` (Kohya) multiplied into its second factor as alpha / rank."""
    plain = {name: tensor for name, tensor in weights.items() if not name.endswith(".alpha")}
    for name in weights.keys() - plain.keys():
        layer = name.removesuffix(".alpha")
        for first, second in (("lora_down", "lora_up"), ("lora.down", "lora.up")):
            if f"{layer}.{first}.weight" in plain:
                rank = len(plain[f"{layer}.{first}.weight"])
                plain[f"{layer}.{second}.weight"] = plain[f"{layer}.{second}.weight"] * (
                    weights[name].item() / rank
                )
    return plain


def _scale(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    """PEFT's scale of one layer; 1 where nothing is said."""
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns.keys(), layer), config.get("lora_alpha"))
    if alpha is None:
        return 1.0
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
