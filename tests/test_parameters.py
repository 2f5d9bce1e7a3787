"""What the command line gives arrives as it was meant."""

from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.framework.cli.utils import _split_params

from tckr.errors import UserError
from tckr.parameters import parse

PLAIN = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.from_regex("[a-z/._-]{1,9}", fullmatch=True),
)


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}\.[a-z]{1,5}", fullmatch=True), PLAIN, min_size=1))
def test_plain_values_are_read_as_kedro_reads_them(values: dict[str, Any]) -> None:
    text = ",".join(f"{key}={value}" for key, value in values.items())
    context = click.Context(click.Command("run"))

    assert parse(text) == _split_params(context, click.Option(["--params"]), text)


@settings(deadline=None)
@given(st.lists(st.from_regex("x[a-z' ]{1,5}x", fullmatch=True), min_size=1))
def test_lists_and_texts_with_commas(names: list[str]) -> None:
    joined = ", ".join(names)
    found = parse(f'a.names=[{joined}],images="/x, {joined}",seed=1')

    assert found["a"]["names"] == names
    assert found["images"] == f"/x, {joined}"
    assert found["seed"] == 1


def test_brackets_and_quotes_inside_a_value_are_part_of_it() -> None:
    assert parse("images=/it's[1,seed=2") == {"images": "/it's[1", "seed": 2}


@pytest.mark.parametrize("text", ["seed", "a=1,b", "=1", "a=[1", "a='b", "images=/scans, 2024"])
def test_what_cannot_be_read_is_said_in_one_line_with_the_way(text: str) -> None:
    with pytest.raises(
        UserError, match=r"--params cannot read.*conf/local/parameters.yml"
    ) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_the_home_folder_is_meant_wherever_a_text_begins_with_it() -> None:
    found = parse(
        "images=~/pictures,generator_adaptation.adapter=~/lora.safetensors,captioning.prompt=a ~ b"
    )

    assert found["images"] == str(Path.home() / "pictures")
    assert found["generator_adaptation"]["adapter"] == str(Path.home() / "lora.safetensors")
    assert found["captioning"]["prompt"] == "a ~ b"
