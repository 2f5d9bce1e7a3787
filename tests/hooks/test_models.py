"""A model that is missing, incomplete or of another kind is refused before anything runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from miniatures import save_captioner, save_generator
from tckr.classifiers.options import ClassifierOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.pipeline import load
from tckr.engine.weights import DIFFUSERS, TRANSFORMERS, find_variant
from tckr.errors import UserError
from tckr.hooks.models import KINDS, check_adapter, check_model, models_of
from tckr.options import Schedule
from tckr.synthesizers.unadapted import Unadapted
from tckr.text.captioner import load as load_captioner

SCHEDULE = Schedule(steps=1, batch_size=1, learning_rate=1e-3)


PARTS = {"generator": {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}}


def describe(parameter: str, folder: Path, value: str | None = None) -> None:
    """Write what a model of the right kind says of itself, and all of it but the weights."""
    kind = KINDS[parameter]
    folder.mkdir(parents=True, exist_ok=True)
    for names in kind.beside:
        (folder / names[0]).write_text("{}")
    if parameter == "generator":
        for part in ("unet", "vae", "text_encoder"):
            (folder / part).mkdir(exist_ok=True)
            (folder / part / "config.json").write_text("{}")
        for part, file in {"tokenizer": "vocab.json", "scheduler": "scheduler_config.json"}.items():
            (folder / part).mkdir(exist_ok=True)
            (folder / part / file).write_text("{}")
    (folder / kind.file).write_text(json.dumps({kind.key: value or kind.value}))


def add_weights(parameter: str, folder: Path, variant: str = "") -> None:
    for part, stem in PARTS.get(parameter, {".": TRANSFORMERS}).items():
        save_file({"a": np.zeros(1)}, folder / part / f"{stem}{variant}.safetensors")


@pytest.mark.parametrize("parameter", KINDS)
def test_the_right_kind_passes(parameter: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path)
    add_weights(parameter, tmp_path)

    check_model("a.b", parameter, str(tmp_path))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("captioner", "blip"),
        ("generator", "StableDiffusionXLPipeline"),
        ("classifier", "vit"),
    ],
)
def test_so_do_its_relatives(parameter: str, value: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path, value)
    add_weights(parameter, tmp_path)

    check_model("a.b", parameter, str(tmp_path))


def test_every_option_that_names_a_model_is_found() -> None:
    unadapted = Unadapted.model_validate({"knowledge_recycling": {"generator": "a/b"}})
    classifier = ClassifierOptions(architecture="c/d", optimiser="adamw")

    found = [*models_of("unadapted", unadapted), *models_of("classifier", classifier)]
    assert found == [
        ("unadapted.knowledge_recycling.generator", "generator", "a/b", True),
        ("classifier.architecture", "classifier", "c/d", False),
    ]
    assert not [*models_of("seed", 0)]


def test_our_own_classifier_is_no_folder() -> None:
    check_model("classifier.architecture", "classifier", "resnet")


@pytest.mark.parametrize("parameter", KINDS)
@pytest.mark.parametrize(
    "content", [None, "{}", "[]", "no json", '{"_class_name": "Flux", "model_type": "t5"}']
)
def test_anything_else_is_refused(parameter: str, content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / KINDS[parameter].file).write_text(content)

    with pytest.raises(UserError, match=r"give a\.b a folder of"):
        check_model("a.b", parameter, str(tmp_path))


@pytest.mark.parametrize("parameter", KINDS)
def test_a_description_without_weights_is_refused(parameter: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path)

    with pytest.raises(UserError, match=r"has no weights \(\*\.safetensors\)"):
        check_model("a.b", parameter, str(tmp_path))
    check_model("a.b", parameter, str(tmp_path), weights=False)


def test_a_generator_whose_weights_came_in_part_names_the_rest(tmp_path: Path) -> None:
    describe("generator", tmp_path)
    add_weights("generator", tmp_path)
    next((tmp_path / "vae").glob("*.safetensors")).unlink()

    with pytest.raises(UserError, match="in vae"):
        check_model("generator_adaptation.generator", "generator", str(tmp_path))


@pytest.mark.parametrize(
    "source", ["/nowhere", "nobody/nothing-of-that-name", "data/06_models/none", ""]
)
def test_what_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(UserError):
        check_model("captioning.captioner", "captioner", source)


def test_a_hub_model_is_found_in_the_cache_and_its_download_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    parameter, source = "classifier", "microsoft/resnet-50"
    with pytest.raises(UserError, match="hf download microsoft/resnet-50"):
        check_model("classifier.architecture", parameter, source)
    cache = tmp_path / "models--microsoft--resnet-50"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("abc")
    describe(parameter, cache / "snapshots/abc")
    with pytest.raises(UserError, match=r"no weights.*hf download microsoft/resnet-50"):
        check_model("classifier.architecture", parameter, source)
    add_weights(parameter, cache / "snapshots/abc")
    check_model("classifier.architecture", parameter, source)


@pytest.mark.parametrize("parameter", KINDS)
def test_a_variant_alone_will_do(parameter: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path)
    add_weights(parameter, tmp_path, ".fp16")

    check_model("a.b", parameter, str(tmp_path))
    assert find_variant(tmp_path, PARTS.get(parameter, (".",))) == "fp16"


def test_a_part_without_the_variant_is_taken_plain_and_one_without_either_is_named(
    tmp_path: Path,
) -> None:
    describe("generator", tmp_path)
    add_weights("generator", tmp_path, ".fp16")
    vae = tmp_path / "vae" / f"{DIFFUSERS}.fp16.safetensors"
    vae = vae.rename(vae.with_name(f"{DIFFUSERS}.safetensors"))
    check_model("a.b", "generator", str(tmp_path))
    assert find_variant(tmp_path, PARTS["generator"]) == "fp16"

    vae.rename(vae.with_name(f"{DIFFUSERS}.ema.safetensors"))
    with pytest.raises(UserError, match=r"no variant in common: unet has fp16; vae has ema"):
        check_model("a.b", "generator", str(tmp_path))


def shard(folder: Path, *names: str) -> None:
    index = {"metadata": {}, "weight_map": {name: name for name in names}}
    (folder / f"{DIFFUSERS}.safetensors.index.json").write_text(json.dumps(index))
    for name in names:
        save_file({"a": np.zeros(1)}, folder / name)


def test_sharded_weights_are_counted(tmp_path: Path) -> None:
    describe("generator", tmp_path)
    add_weights("generator", tmp_path)
    (tmp_path / "unet" / f"{DIFFUSERS}.safetensors").unlink()
    names = [f"{DIFFUSERS}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    shard(tmp_path / "unet", *names)
    check_model("a.b", "generator", str(tmp_path))

    (tmp_path / "unet" / names[1]).unlink()
    with pytest.raises(UserError, match=r"lacks 1 of 2 files of weights in unet: .*-00002-of"):
        check_model("a.b", "generator", str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", None])
def test_a_pointer_or_half_a_file_holds_no_weights(content: bytes | None, tmp_path: Path) -> None:
    describe("captioner", tmp_path)
    add_weights("captioner", tmp_path)
    file = tmp_path / f"{TRANSFORMERS}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)

    with pytest.raises(UserError, match=r"model\.safetensors holds no whole weights"):
        check_model("a.b", "captioner", str(tmp_path))


@pytest.mark.parametrize("part", ["tokenizer", "scheduler", "unet", "text_encoder_2"])
def test_every_part_that_the_index_names_is_looked_for(part: str, tmp_path: Path) -> None:
    describe("generator", tmp_path, "StableDiffusionXLPipeline")
    add_weights("generator", tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index |= {"image_encoder": [None, None], "tokenizer_2": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(tmp_path / "text_encoder", tmp_path / "text_encoder_2")
    check_model("a.b", "generator", str(tmp_path))

    shutil.rmtree(tmp_path / part)
    with pytest.raises(UserError, match=f"in {part}"):
        check_model("a.b", "generator", str(tmp_path))


@pytest.mark.parametrize("parameter", ["captioner", "encoder"])
def test_a_model_that_cannot_read_its_input_is_refused(parameter: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path)
    add_weights(parameter, tmp_path)
    (tmp_path / KINDS[parameter].beside[0][0]).unlink()

    with pytest.raises(
        UserError, match=r"has no preprocessor_config\.json or processor_config\.json"
    ):
        check_model("a.b", parameter, str(tmp_path))


def test_an_adapter_is_read_and_fitted_before_a_run(tmp_path: Path) -> None:
    generator = save_generator(tmp_path / "generator")
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    unet = load(str(generator)).unet.get_submodule(layer)
    options = {"generator": str(generator), "schedule": SCHEDULE}

    def given(rank: int, inputs: int) -> AdaptationOptions:
        shapes = {"lora_A": (rank, inputs), "lora_B": (unet.out_features, rank)}
        weights = {f"unet.{layer}.{f}.weight": torch.ones(s) for f, s in shapes.items()}
        file = tmp_path / f"{inputs}.safetensors"
        save_torch(weights, file)
        return AdaptationOptions(**options, adapter=str(file))

    check_adapter("generator_adaptation", given(2, unet.in_features))
    check_adapter("generator_adaptation", AdaptationOptions(**options))
    with pytest.raises(UserError, match="do not fit the generator"):
        check_adapter("generator_adaptation", given(2, unet.in_features + 1))
    missing = AdaptationOptions(**options, adapter=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"generator_adaptation\.adapter = .* does not exist"):
        check_adapter("generator_adaptation", missing)


def test_every_kind_loads_from_half_precision_variants(tmp_path: Path) -> None:
    """`hf download --include "*.fp16.safetensors"`, as people have models on disk."""
    source, target = save_generator(tmp_path / "plain"), tmp_path / "fp16"
    shutil.copytree(source, target)
    captioner = save_captioner(tmp_path / "captioner")
    for folder in (target, captioner):
        for file in folder.rglob("*.safetensors"):
            file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))

    both = load(str(source)).unet.state_dict(), load(str(target)).unet.state_dict()
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    assert load_captioner(str(captioner)).model


@pytest.mark.parametrize("file", ["None.py", "unet/evil.py", "vae/deeper/code.py"])
@pytest.mark.parametrize("parameter", KINDS)
def test_code_in_a_folder_is_refused(parameter: str, file: str, tmp_path: Path) -> None:
    describe(parameter, tmp_path)
    add_weights(parameter, tmp_path)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()

    with pytest.raises(UserError, match=rf"{file} is Python code in the folder of a model"):
        check_model("a.b", parameter, str(tmp_path))


@pytest.mark.parametrize(
    ("part", "value", "fine"),
    [
        ("vae", ["diffusers", "AutoencoderKL"], True),
        ("safety_checker", ["stable_diffusion", "StableDiffusionSafetyChecker"], True),
        ("safety_checker", [None, None], True),
        ("unet", ["evil", "Model"], False),
        ("unet", ["os", "system"], False),
        ("_class_name", ["pipeline", "StableDiffusionPipeline"], False),
    ],
)
def test_a_generator_has_parts_of_two_libraries(
    part: str, value: list[str], fine: bool, tmp_path: Path
) -> None:
    describe("generator", tmp_path)
    index = {"_class_name": "StableDiffusionPipeline", part: value}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    add_weights("generator", tmp_path)

    if fine:
        check_model("a.b", "generator", str(tmp_path))
        return
    with pytest.raises(UserError, match=f"asks for {part} from {value[0]}"):
        check_model("a.b", "generator", str(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt"])
def test_pickled_weights_alone_are_refused_and_beside_others_left_unread(
    name: str, tmp_path: Path
) -> None:
    describe("captioner", tmp_path)
    (tmp_path / name).touch()

    with pytest.raises(UserError, match=rf"{name} holds pickled weights.*safetensors"):
        check_model("a.b", "captioner", str(tmp_path))
    add_weights("captioner", tmp_path)
    check_model("a.b", "captioner", str(tmp_path))
