from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.labels import Labels, class_names, folder_label, reconciled

label = Labels("set")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cat", "cat"),
        (b"cat", "cat"),
        (np.bytes_(b"cat"), "cat"),
        (np.str_("cat"), "cat"),
        ("cafe\u0301", "caf\u00e9"),
        (" two\nlines\t", "two lines"),
        ("\ufeffcat", "cat"),
        (3, "3"),
        (3.0, "3"),
        ("3.0", "3"),
        ("3.", "3"),
        (np.float32(3), "3"),
        (np.uint8(3), "3"),
        (Decimal("3.00"), "3"),
        (np.array(3), "3"),
        (0.5, "0.5"),
        ("01", "01"),
        ("NA", "NA"),
        ("None", "None"),
        (True, "True"),
        (np.bool_(False), "False"),
    ],
)
def test_a_label_reads_the_same_whatever_its_type(value, expected):
    assert label(value) == expected


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float32("nan"), pd.NaT, -1, -1.0, "-1", "", "  ", "nan", "<NA>", b""],
)
def test_no_label(value):
    assert label(value) is None
    assert Labels("set", ["ant", "bee"])(value) is None


@pytest.mark.parametrize(
    "value", [[0], [0, 2], (1,), np.array([0, 1]), {"x": 1}, "[0, 2]", "['cat']"]
)
def test_several_labels_are_refused(value):
    with pytest.raises(UserError, match="set has several labels per image"):
        label(value)


def test_numbers_count_names_even_where_these_are_numbers_too():
    """`ClassLabel(names=["1", "2", "3"])` stores 0, 1, 2."""
    grades = Labels("x.parquet", ["1", "2", "3"])
    assert [grades(value) for value in (0, 1, 2.0, np.int64(1))] == ["1", "2", "3", "2"]
    assert [grades(value) for value in ("1", "3", b"2")] == ["1", "3", "2"]
    with pytest.raises(UserError, match="has the label 3"):
        grades(3)


def test_a_number_outside_the_names_is_refused():
    named = Labels("x.parquet", ["ant", "bee", "cat"])
    assert [named(value) for value in (0, 2.0, np.int8(1), "bee", "2")] == [
        "ant",
        "cat",
        "bee",
        "bee",
        "cat",
    ]
    for wrong in (3, -2, 1.5, True, "dog"):
        with pytest.raises(UserError, match=r"x\.parquet has the label .*ant, bee, cat"):
            named(wrong)


@pytest.mark.parametrize("names", [["x", "x"], ["x", " x "], ["", "y"], "xyz", []])
def test_names_that_are_not_distinct_are_refused(names):
    with pytest.raises(UserError, match="not distinct"):
        Labels("x.parquet", names)


def test_names_that_are_no_utf8_are_refused_in_one_line():
    for read in (label, lambda name: folder_label(name, "set")):
        with pytest.raises(UserError, match=r"caf\\\\xe9.*no UTF-8") as caught:
            read("caf\udce9")
        str(caught.value).encode("utf-8")
    with pytest.raises(UserError, match="no UTF-8"):
        label(b"caf\xe9")
    with pytest.raises(UserError, match="blank"):
        folder_label("  ", "set")


def test_parts_are_joined_by_name_and_refused_where_one_has_numbers():
    train, test = Labels("train", ["ant", "bee"]), Labels("test", ["bee", "ant", "cat"])
    assert reconciled([train, test]) == ("ant", "bee", "cat")
    assert test(0) == train(1) == "bee"
    assert reconciled([Labels("a", kind="text"), Labels("b", kind="text")]) is None
    with pytest.raises(UserError, match="train names its classes, but b has numbers only"):
        reconciled([train, Labels("b", kind="numbers")])
    with pytest.raises(UserError, match="a names its classes, but b has numbers only"):
        reconciled([Labels("a", kind="text"), Labels("b", kind="numbers")])


def test_classes_are_in_the_order_of_the_source_then_by_number_then_by_name():
    assert list(class_names({"a", "c"}, ["c", "b", "a"], None, "set")) == ["c", "a"]
    assert list(class_names({"a", "new"}, ["a"], None, "set")) == ["a", "new"]
    assert list(class_names({"10", "9", "x"}, None, None, "set")) == ["9", "10", "x"]


def test_class_names_that_do_not_fit():
    assert class_names({"0", "1"}, None, ["ant", "bee"], "set") == {"0": "ant", "1": "bee"}
    for found, own, wanted, words in (
        ({"a"}, None, None, "single class"),
        ({"1", "2"}, None, ["ant", "bee"], "count from 1"),
        ({"0", "x"}, None, ["ant", "bee"], "has 'x'"),
        ({"a", "b"}, ["a", "b"], ["c", "d"], "names its own classes"),
        ({"a", "b", "a|b"}, None, None, "several labels per image"),
    ):
        with pytest.raises(UserError, match=words):
            class_names(found, own, wanted, "set")


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.binary(), st.booleans()))
def test_any_value_gives_a_clean_label_none_or_one_line(value):
    found, refusal = None, ""
    try:
        found = label(value)
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert found is None or found == " ".join(found.split())
    assert found is None or label(found) == found
