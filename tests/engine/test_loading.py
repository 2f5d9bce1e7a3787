"""What cannot be loaded is said in one line with the remedy."""

import json
from pathlib import Path

import pytest

from tckr.engine.loading import check_kind, description, download, readable
from tckr.errors import UserError


def test_a_hub_model_that_is_missing_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    hub = download("Salesforce/blip2-opt-2.7b", "captioning.captioner", "a BLIP-2 model")
    assert "`hf download Salesforce/blip2-opt-2.7b --local-dir blip2-opt-2.7b`" in hub
    assert "captioning.captioner" in hub
    assert (
        download(str(tmp_path), "captioning.captioner", "x")
        == "give captioning.captioner a folder of x."
    )


def test_the_kind_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["A", "B"]}))
    assert description(tmp_path) == {"architectures": ["A", "B"]}
    check_kind(tmp_path, "architectures", ["B"], "r")
    with pytest.raises(UserError, match=r"holds A, B\. Remedy: r"):
        check_kind(tmp_path, "architectures", ["C"], "r")
    with pytest.raises(UserError, match="holds no model"):
        check_kind(tmp_path, "model_type", ["C"], "r")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_description(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is not readable"):
        check_kind(tmp_path, "model_type", ["C"], "r")


def test_only_the_first_line_of_the_reason_is_kept() -> None:
    with (
        pytest.raises(UserError, match="model could not be loaded: first Remedy: r") as caught,
        readable("model", "r"),
    ):
        raise OSError("first\nsecond")
    assert "second" not in str(caught.value)
    with pytest.raises(UserError, match="own") as caught, readable("model", "r"):
        raise UserError("own", "remedy")
    assert caught.value.remedy == "remedy"
