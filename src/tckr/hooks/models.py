"""Look at the folder of a foundation model before a run, without loading it."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from tckr.classifiers.options import OURS, SCATTERING
from tckr.engine.loading import description, download
from tckr.engine.untrusted import check_no_code, only_pickled
from tckr.engine.weights import (
    HERE,
    PROCESSOR,
    TOKENIZER,
    check_one_of,
    check_parts,
    check_weights,
    local_folder,
)
from tckr.errors import UserError
from tckr.options import ModelSource


class Kind(NamedTuple):
    """What a model's folder must say of itself, and what must lie in it beside the weights."""

    file: str
    key: str
    value: str
    meaning: str
    others: Callable[[], Collection[str]] = tuple  # values that will do as well
    beside: tuple[tuple[str, ...], ...] = ()  # of each tuple one file must lie beside the weights
    own: tuple[str, ...] = ()  # values of the parameter that name no folder


def _captioners() -> Collection[str]:
    from tckr.text.captioner import kinds

    return kinds()


def _language_models() -> Collection[str]:
    from tckr.text.sources.causal import kinds

    return kinds()


def _classifiers() -> Collection[str]:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN,
    )

    return set(KNOWN)


KINDS = {
    "captioner": Kind(
        "config.json",
        "model_type",
        "blip-2",
        "a transformers image-text-to-text model, such as BLIP-2",
        _captioners,
        (PROCESSOR, TOKENIZER),
    ),
    "generator": Kind(
        "model_index.json",
        "_class_name",
        "StableDiffusionPipeline",
        "a diffusers StableDiffusionPipeline or StableDiffusionXLPipeline",
        lambda: ("StableDiffusionXLPipeline",),
    ),
    "classifier": Kind(
        "config.json",
        "model_type",
        "resnet",
        "a transformers image classifier",
        _classifiers,
        own=(OURS, SCATTERING),
    ),
    "encoder": Kind(
        "config.json",
        "model_type",
        "clip",
        "a transformers CLIPModel",
        beside=(PROCESSOR, TOKENIZER),
    ),
    "language model": Kind(
        "config.json",
        "model_type",
        "bert",
        "a transformers BertForMaskedLM or causal language model",
        _language_models,
        (TOKENIZER,),
    ),
}


def models_of(group: str, options: Any) -> Iterator[tuple[str, str, str, bool]]:
    """Yield the arguments of `check_model` for every pretrained model that a parameter group names.

    Args:
        group: name of the group.
        options: its typed options; anything else names no model.
    """
    if isinstance(options, tuple):
        for number, each in enumerate(options):
            yield from models_of(f"{group}.{number}", each)
    if not isinstance(options, BaseModel):
        return
    for name, field in type(options).model_fields.items():
        value, key = getattr(options, name), f"{group}.{name}"
        marks = (mark.kind for mark in field.metadata if isinstance(mark, ModelSource))
        kinds = [kind for kind in marks if kind in KINDS]
        if kinds and value is not None:
            # A classifier that starts from fresh weights takes the description alone.
            yield key, kinds[0], value, getattr(options, "pretrained", True)
        else:
            yield from models_of(key, value)


def check_model(parameter: str, kind_name: str, source: str, weights: bool = True) -> None:
    """Check that `source`, the value of `parameter`, is a model of the right kind.

    Args:
        parameter: its name, for messages.
        kind_name: a key of `KINDS`.
        source: a folder, or a hub id that is already in the local cache.
        weights: whether safetensors weights must be there too.

    Raises:
        UserError: nothing is there, or something else, or its weights are missing.
    """
    kind = KINDS[kind_name]
    if source in kind.own:
        return
    remedy = download(source, parameter, kind.meaning)
    folder = local_folder(source, kind.file)
    if folder is None:
        raise UserError(
            f"{parameter} = {source} is neither a folder nor a model in the local cache.", remedy
        )
    try:
        described = description(folder, kind.file)
    except ValueError:
        raise UserError(f"{folder / kind.file} is not readable.", remedy) from None
    if described is None:
        raise UserError(f"{source} has no {kind.file}.", remedy)
    check_no_code(folder, described if kind.file == "model_index.json" else None)
    found = described.get(kind.key)
    if found != kind.value and found not in kind.others():
        raise UserError(
            f"{source} holds {found or 'an unknown model'}, not {kind.meaning}.", remedy
        )
    if weights and (pickled := only_pickled(folder)) is not None:
        raise UserError(
            f"{pickled} holds pickled weights, which can run code and are never read.",
            "save the model as safetensors (save_pretrained of a recent diffusers or transformers does).",
        )
    parts: Collection[str] = (HERE,)
    if kind.file == "model_index.json":
        parts = check_parts(folder, source, remedy, described)
    for files in kind.beside:
        check_one_of(folder, files, source, remedy)
    if weights:
        check_weights(folder, source, remedy, parts)


def check_adapter(group: str, options: Any) -> None:
    """Check that an adapter made elsewhere can be read and fits the generator that it will be used with.

    Args:
        group: name of the parameter group.
        options: its typed options; anything without `adapter` and `generator` names none.

    Raises:
        UserError: it cannot be read, is no LoRA, or does not fit.
    """
    source = getattr(options, "adapter", None)
    if source is None or not isinstance(options, BaseModel):
        return
    if not Path(source).exists():
        raise UserError(
            f"{group}.adapter = {source} does not exist.",
            "give a LoRA as a safetensors file, or a folder with one.",
        )
    from tckr.diffusion.adapter import Adapter
    from tckr.diffusion.pipeline import bare_unet

    adapter = Adapter.load(source)
    generator = getattr(options, "generator", None)
    if generator is not None:
        adapter.check(bare_unet(generator))
