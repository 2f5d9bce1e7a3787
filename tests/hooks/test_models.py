"""A model that is missing, incomplete or of another kind is refused before anything runs."""

import json
from pathlib import Path

import pytest

from tckr.classifiers.options import ClassifierOptions
from tckr.errors import UserError
from tckr.hooks.models import KINDS, check_model, models_of
from tckr.synthesizers.unadapted import Unadapted


def describe(parameter: str, folder: Path, value: str | None = None) -> None:
    """Write what a model of the right kind says of itself."""
    kind = KINDS[parameter]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / kind.file).write_text(json.dumps({kind.key: value or kind.value}))


def add_weights(parameter: str, folder: Path) -> None:
    for part in KINDS[parameter].weights:
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "model-00001-of-00002.safetensors").touch()


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
    next((tmp_path / "vae").iterdir()).unlink()

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
