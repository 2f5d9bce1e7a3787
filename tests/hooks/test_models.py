"""A model of another kind is refused before anything runs."""

import json
from pathlib import Path

import pytest

from tckr.errors import UserError
from tckr.hooks.models import KINDS, check_model


@pytest.mark.parametrize("parameter", KINDS)
def test_the_right_kind_passes(parameter: str, tmp_path: Path) -> None:
    kind = KINDS[parameter]
    (tmp_path / kind.file).write_text(json.dumps({kind.key: kind.value}))

    check_model(parameter, str(tmp_path))


@pytest.mark.parametrize("parameter", KINDS)
@pytest.mark.parametrize(
    "content", [None, "{}", "[]", "no json", '{"_class_name": "Flux", "model_type": "t5"}']
)
def test_anything_else_is_refused(parameter: str, content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / KINDS[parameter].file).write_text(content)

    with pytest.raises(UserError, match=f"give {parameter} a folder of"):
        check_model(parameter, str(tmp_path))


@pytest.mark.parametrize(
    "source", ["/nowhere", "nobody/nothing-of-that-name", "data/06_models/none", ""]
)
def test_what_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(UserError):
        check_model("captioning.captioner", source)
