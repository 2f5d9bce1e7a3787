"""Whatever users call their classes and files, it can be written everywhere."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tckr.images.names import folder_names, markdown, one_line, printable, spreadsheet

ANY = st.text(st.characters(), max_size=20)
WITH_SURROGATES = st.text(st.characters(exclude_categories=()), max_size=20)


@given(WITH_SURROGATES)
def test_every_name_can_be_written_in_one_line_of_utf8(name: str) -> None:
    printable(name).encode("utf-8")
    line = one_line(name)
    assert len(line.encode("utf-8").decode().splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f\u202e]", line)


def test_what_needs_no_escape_stays() -> None:
    for name in ("cat", "ねこ", "café", "\U0001f41d", "A: B", "50% off"):
        assert printable(name) == one_line(name) == name


@given(WITH_SURROGATES)
def test_a_name_fills_one_cell_of_a_markdown_table(name: str) -> None:
    cell = markdown(name)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`]", cell)
    assert "\n" not in cell


def test_a_line_inside_a_word_is_no_emphasis() -> None:
    assert markdown("species_a _x_") == r"species_a \_x\_"


@given(WITH_SURROGATES)
def test_no_name_is_a_formula(name: str) -> None:
    assert not spreadsheet(name).startswith(("=", "+", "-", "@", "\t"))


@given(st.lists(WITH_SURROGATES, max_size=6))
@example(["_", "_"])
def test_folders_are_distinct_and_can_be_made_anywhere(names: list[str]) -> None:
    folders = folder_names(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert 0 < len(os.fsencode(folder)) < 120
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', folder)
        assert not folder.startswith((".", "__"))
        assert not folder.endswith((".", " "))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["Cat", "cat", "CAT"], ["Cat", "cat_2", "CAT_3"]),
        (["a/b", "a\\b", "a_b"], ["a_b", "a_b_2", "a_b_3"]),
        (["con", "NUL.txt", "com1"], ["con_", "NUL.txt_", "com1_"]),
        (
            ["crash test dummy", "train", "Validation-2"],
            ["crash tests dummy", "trains", "Validations-2"],
        ),
        (["contest", "devil"], ["contest", "devil"]),
        (["..", ".hidden", "__init__", ""], ["class_0", "hidden", "_init__", "class_3"]),
        (["caf\udce9", "cafe\u0301", "caf\u00e9"], ["caf_xe9", "café", "café_2"]),
        (["=1+1", "two\nlines"], ["=1+1", "two lines"]),
    ],
)
def test_folders_by_example(names: list[str], wanted: list[str], tmp_path: Path) -> None:
    assert folder_names(names) == wanted
    for name in wanted:
        (tmp_path / name).mkdir()


def test_a_long_name_is_cut_at_a_character() -> None:
    (folder,) = folder_names(["é" * 200])
    assert folder == "é" * 50
