"""LoRA adapters: merged into a generator, saved for diffusers, read in the formats of diffusers, PEFT and Kohya."""

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_unet_state_dict_to_peft
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tckr.errors import UserError

logger = logging.getLogger(__name__)

FILE = "pytorch_lora_weights.safetensors"  # diffusers
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = (
    "lora_adapter_metadata"  # key of the file's header in which diffusers keeps ranks and alphas
)
TEXT_ENCODER = ("lora_te_", "lora_te1_", "lora_te2_", "text_encoder.", "text_encoder_2.")
# The two factors of a layer and its alpha, in the namings of diffusers (now and before), PEFT and Kohya.
FACTOR = re.compile(r"(.+?)[._]lora[._](A|B|down|up)(?:\.\w+)?\.weight")
ALPHA = re.compile(r"(.+?)(?:[._]lora)?[._](?:network_|lora_)?alpha")
FACTORS = {"A": "A", "down": "A", "B": "B", "up": "B"}
# Keys of PEFT's configuration that would make more of the weights than B @ A, and the values that do not.
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "eva"),  # others change the base weights
    "modules_to_save": (None, []),
    "layer_replication": (None,),
}
LOST = 0.1  # share of an update that may be lost in rounding before a warning says so
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
        weights, header = read_weights(file)
        return Adapter(_canonical(file, weights, _config(file, header)))

    def check(self, unet: Any) -> None:
        """Check that the generator has a layer of the right shape for every update.

        Raises:
            UserError: an update does not fit; the message names the first.
        """
        for layer, first, second in self.factors():
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
        merge(self._products(pipeline.unet))
        return pipeline

    def _products(self, unet: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every weight with its update."""
        for layer, first, second in self.factors():
            weight = unet.get_submodule(layer).weight.data
            update = second.to(weight.device).flatten(1) @ first.to(weight.device).flatten(1)
            yield weight, update.view(weight.shape)

    def factors(self) -> list[tuple[str, Tensor, Tensor]]:
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


def merge(updates: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add updates to weights, in place; warn if much of them is lost in rounding.

    Args:
        updates: pairs of a weight, of any dtype, and what is added to it, float32 of the same shape.
    """
    wanted, kept, rounded = 0.0, 0.0, torch.float32
    for weight, update in updates:
        before, added = weight.float(), update.to(weight.device)
        weight.copy_(before + added)
        if weight.dtype != torch.float32:
            rounded = weight.dtype
            kept += float(((weight.float() - before) * added).sum())
            wanted += float(added.square().sum())
    if wanted and (lost := 1 - kept / wanted) > LOST:
        logger.warning(
            "%.0f %% of the adapter's update is too small for weights in %s and is lost.",
            100 * lost,
            str(rounded).removeprefix("torch."),
        )


def _ends(first: Tensor, second: Tensor) -> tuple[int, int]:
    """Return the numbers of inputs, kernel pixels included, and of outputs."""
    return first[0].numel(), second.shape[0]


def _file(source: Path) -> Path:
    """Return the file itself, or the one in a folder."""
    if not source.is_dir():
        return source
    named = [source / name for name in (FILE, PEFT_FILE) if (source / name).is_file()]
    others = sorted(source.glob("*.safetensors"))
    if len(others) > 1 and not named:
        raise UserError(
            f"Folder {source} holds {len(others)} files of weights: {', '.join(file.name for file in others[:5])}.",
            "give the adapter's file itself as generator_adaptation.adapter.",
        )
    return (named or others or [source / FILE])[0]


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file in float32, and its header.

    Raises:
        UserError: it is not there, is no safetensors file or is damaged, or a number in it is not finite.
    """
    remedy = "give a LoRA as a safetensors file, or run generator_adaptation again."
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"Adapter {file} cannot be read: {error}.", remedy) from error
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"Adapter {file}: {name} has values that are not finite, so its training overflowed.",
                "give an earlier checkpoint, or train it again with a lower learning rate.",
            )
    return weights, header


def _config(file: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """Return the ranks and alphas stored with the weights: in PEFT's file, or in diffusers' header.

    Raises:
        UserError: they cannot be read, or say that the weights are more than a LoRA.
    """
    beside = file.with_name(PEFT_CONFIG)
    alone = len(list(file.parent.glob("*.safetensors"))) == 1
    try:
        if beside.is_file() and (file.name == PEFT_FILE or alone):
            config = dict(json.loads(beside.read_text(encoding="utf-8")))
        else:
            beside, entries = file, dict(json.loads(header.get(METADATA, "{}")))
            config = {
                name.removeprefix("unet."): value
                for name, value in entries.items()
                if not name.startswith(TEXT_ENCODER)
            }
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{beside} does not say the adapter's scale: {error}.", "copy the adapter again."
        ) from error
    for key, plain in PLAIN.items():
        if config.get(key, plain[0]) not in plain:
            raise UserError(
                f"Adapter {file} was made with {key} = {config[key]!r} ({beside.name}), which is not supported.",
                "give a plain LoRA, or merge this one into the generator with PEFT first.",
            )
    return config


def _canonical(
    file: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return weights of any known naming in ours, each scale folded into the second factor.

    diffusers renames the factors. What it leaves to a loaded pipeline, or leaves out (the scales), is done here, so that
    an adapter can be read, hashed and checked without a generator, and every tensor of the file is used or refused.
    """
    layers, alphas = _sorted(file, weights)
    names = _in_our_naming(file, [name for pair in layers.values() for name in pair.values()])
    found: dict[str, Tensor] = {}
    for given, pair in layers.items():
        first, second = (weights[pair[factor]] for factor in "AB")
        layer = names[pair["A"]].rpartition(".lora_A")[0]
        rank = len(first) if first.ndim else 0
        if {first.ndim, second.ndim} - {2, 4} or not rank or second[0].numel() != rank:
            raise _refusal(
                file,
                given,
                f"has factors of shapes {tuple(first.shape)} and {tuple(second.shape)}, which do not fit each other",
            )
        scale = _scale(layer, rank, config)
        if given in alphas:
            own = float(weights[alphas[given]]) / rank
            if scale is not None and not math.isclose(own, scale, rel_tol=1e-3):
                raise _refusal(
                    file, alphas[given], f"says scale {own:g}, but its configuration {scale:g}"
                )
            scale = own
        found[f"{layer}.lora_A.weight"] = first.contiguous()
        found[f"{layer}.lora_B.weight"] = (second * (1.0 if scale is None else scale)).contiguous()
    return found


def _sorted(
    file: Path, weights: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the names of each layer's two factors, by A and B, and of its alpha, all by the file's own name of the layer.

    Raises:
        UserError: a tensor is neither, a layer is incomplete, or there is none.
    """
    layers: dict[str, dict[str, str]] = {}
    alphas: dict[str, str] = {}
    for name, tensor in weights.items():
        if name.startswith(TEXT_ENCODER):
            raise _refusal(file, name, "changes a text encoder, which is not supported")
        if re.search("dora_scale|magnitude_vector", name):
            raise _refusal(file, name, "belongs to a DoRA, whose scales are not supported")
        if (match := FACTOR.fullmatch(name)) is not None:
            pair = layers.setdefault(match[1], {})
            if FACTORS[match[2]] in pair:
                raise _refusal(file, match[1], "has a factor twice, of two adapters in one file")
            pair[FACTORS[match[2]]] = name
        elif (match := ALPHA.fullmatch(name)) is not None and tensor.numel() == 1:
            alphas[match[1]] = name
        else:
            raise _refusal(file, name, "is not a factor of a LoRA")
    if not layers:
        raise UserError(f"Adapter {file} changes no layer.", "give a LoRA of the denoiser.")
    half = next((layer for layer, pair in layers.items() if len(pair) != 2), None)
    if half is not None:
        raise _refusal(file, half, "has one factor only")
    for layer, name in alphas.items():
        if layer not in layers:
            raise _refusal(file, name, "scales a layer that has no factors")
        if not weights[name] > 0:
            raise _refusal(file, name, f"is {float(weights[name]):g}, which leaves no update")
    return layers, alphas


def _in_our_naming(file: Path, names: Sequence[str]) -> dict[str, str]:
    """Return `<layer in diffusers' UNet>.lora_A.weight` and so on for each name of a factor, renamed by diffusers.

    Raises:
        UserError: diffusers does not know a name, or takes two for one.
    """
    given = {_kohya_or_peft(name): name for name in names}
    try:
        renamed, _ = StableDiffusionPipeline.lora_state_dict(dict(given), unet_config=SGM)  # Kohya
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"Adapter {file} is of no known naming: {str(error).splitlines()[0]}",
            "save it as diffusers, PEFT or Kohya do.",
        ) from error
    bare = {
        name.removeprefix("base_model.model.").removeprefix("unet."): value
        for name, value in renamed.items()
    }
    ours = {
        original: re.sub(r"\.lora_([AB])\.\w+\.weight$", r".lora_\1.weight", name)
        for name, original in convert_unet_state_dict_to_peft(bare).items()
    }
    if len(bare) < len(renamed) or len(set(ours.values())) < len(ours):
        raise _refusal(file, names[0], "or another factor is there twice, under two names")
    for name in names:
        if not re.search(r"\.lora_[AB]\.weight$", ours.get(name, "")):
            raise _refusal(
                file, name, "is not a factor of a LoRA in a naming of diffusers, PEFT or Kohya"
            )
    return ours


def _kohya_or_peft(name: str) -> str:
    """Return the name of a factor as its own naming has it: Kohya's prefix goes with down and up, the others with A and B.

    >>> _kohya_or_peft("lora_unet_mid_block_attentions_0_proj_in.lora_A.weight")
    'lora_unet_mid_block_attentions_0_proj_in.lora_down.weight'
    """
    if name.startswith("lora_unet_"):
        return name.replace(".lora_A.", ".lora_down.").replace(".lora_B.", ".lora_up.")
    return name.replace(".lora_down.", ".lora_A.").replace(".lora_up.", ".lora_B.")


def _refusal(file: Path, name: str, why: str) -> UserError:
    return UserError(f"Adapter {file}: {name} {why}.", "give a LoRA of the denoiser alone.")


def _scale(layer: str, rank: int, config: Mapping[str, Any]) -> float | None:
    """Return the scale of one layer: alpha / rank, or alpha / sqrt(rank) if rank-stabilized; None without an alpha."""
    alpha = config.get("lora_alpha")
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", layer):  # as PEFT matches them
            alpha = value
            break
    if alpha is None:
        return None
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))
