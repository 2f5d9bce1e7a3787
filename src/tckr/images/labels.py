"""One reading of labels, whatever format they come from."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from decimal import Decimal
from math import isfinite
from typing import Any, Literal

import numpy as np

from tckr.errors import UserError

Kind = Literal["names", "numbers", "text"]

WHOLE = re.compile(r"(-?\d+)\.0*")
# Joins and marks that nobody sees and that change no letter: zero-width blanks, soft hyphens, marks of direction.
UNSEEN = frozenset("\u00ad\u200b\u200e\u200f\u2060\ufeff")
MISSING = frozenset({"", "-1", "nan", "NaN", "<NA>"})


class Labels:
    """How one part of a source (file, split, array) writes its labels; call it with a value to get the class.

    Attributes:
        where: The part, for messages.
        names: Names of the integer labels 0, 1, ...; None where the part has none.
        kind: "names" if it names its integers, else "numbers" or "text"; None if that is not known beforehand.

    >>> labels = Labels("train.parquet", ["ant", "bee"])
    >>> labels(1), labels(0.0), labels(-1), labels(None)
    ('bee', 'ant', None, None)
    """

    def __init__(
        self, where: str, names: Sequence[Any] | None = None, kind: Kind | None = None
    ) -> None:
        self.where = where
        self.names = None if names is None else _distinct(names, where)
        self.kind: Kind | None = kind if names is None else "names"

    def __call__(self, value: Any) -> str | None:
        """Return the class that a label stands for; None for no label.

        Bytes are decoded, whole floats are integers; None, NaN, -1 and blank text are no label.

        Raises:
            UserError: Several labels, a number without a name where numbers have names, or bytes that are no UTF-8.
        """
        value = _plain(value, self.where)
        if value is None:
            return None
        text = _text(value, self.where) if isinstance(value, str) else str(value)
        if text is None or self.names is None:
            return text
        counted = isinstance(value, int) and not isinstance(value, bool)
        if (
            not counted and text in self.names
        ):  # the number 1 is the second name, even if the first reads "1"
            return text
        if text.isdecimal() and int(text) < len(self.names):
            return self.names[int(text)]
        raise UserError(
            f"{self.where} has the label {text[:40]}, but names the classes 0 to {len(self.names) - 1} "
            f"({_some(self.names)}).",
            "count labels from 0 and name every class, or write names instead of numbers.",
        )


def reconciled(parts: Sequence[Labels]) -> tuple[str, ...] | None:
    """Return the classes of all parts in the order in which the parts name them; None if none does.

    Raises:
        UserError: One part numbers its classes and another names them, so that nothing tells which is which.

    >>> reconciled([Labels("a", ["ant", "bee"]), Labels("b", ["bee", "cat"])])
    ('ant', 'bee', 'cat')
    """
    numbers = [part for part in parts if part.kind == "numbers"]
    others = [part for part in parts if part.kind in ("names", "text")]
    if numbers and others:
        raise UserError(
            f"{others[0].where} names its classes, but {numbers[0].where} has numbers only.",
            "write the same kind of labels into every part of the set.",
        )
    named = [name for part in parts for name in part.names or ()]
    return tuple(dict.fromkeys(named)) or None


def group_name(value: Any, where: str) -> str | None:
    """Return the name of a group, in the same form whatever column, file or folder it comes from; None for none.

    Bytes are decoded and whole floats are integers, which a column with gaps turns them into: otherwise one person's
    images in two files would be two people's.

    Raises:
        UserError: Several values, or bytes that are no UTF-8.

    >>> group_name(12.0, ""), group_name(" 12 ", ""), group_name(float("nan"), ""), group_name(-1, "")
    ('12', '12', None, '-1')
    """
    plain = -1 if isinstance(value, int | np.integer) and value == -1 else _plain(value, where)
    text = "" if plain is None else _cleaned(str(plain), where)
    whole = WHOLE.fullmatch(text)
    text = whole[1] if whole else text
    return None if text in MISSING - {"-1"} else text


def folder_label(name: str, where: str) -> str:
    """Return the class that a folder stands for.

    Raises:
        UserError: The name is blank, or no UTF-8.
    """
    label = _cleaned(name, where)
    if not label:
        raise UserError(f"{where}: a class folder has the blank name {name!r}.", "rename it.")
    return label


def class_names(
    found: Collection[str],
    own: Sequence[str] | None,
    wanted: Sequence[str] | None,
    where: str,
) -> dict[str, str]:
    """Return the name of each label that has images, in the order of the classes.

    That order is the source's own, else numbers by size before text. Labels without images are left out, so that the
    classes are 0..C-1 without gaps.

    Args:
        found: Labels of the images.
        own: Classes that the source names.
        wanted: `ingestion.class_names`.
        where: The source, for messages.

    Raises:
        UserError: Fewer than two classes, or names that do not fit the labels.

    >>> class_names({"10", "2"}, None, None, "x.npz")
    {'2': '2', '10': '10'}
    """
    labels = [label for label in own or () if label in found]
    rest = set(found) - set(labels)
    labels += sorted(rest, key=lambda one: (not one.isdecimal(), _number(one), one))
    if len(labels) < 2:
        raise UserError(
            f"{where} has a single class ({', '.join(labels) or 'none'}), but a classifier needs two.",
            "add images of another class, or check the label column or the class folders (-1 is no label).",
        )
    _refuse_joined(labels, where)
    if wanted is None:
        return {label: label for label in labels}
    if own is not None:
        raise UserError(
            f"{where} names its own classes ({_some(own)}), and ingestion.class_names names others.",
            "leave class_names out.",
        )
    last = len(wanted) - 1
    wrong = [label for label in labels if not label.isdecimal() or int(label) > last]
    if wrong:
        from_one = {str(number + 1) for number in range(len(wanted))} == set(labels)
        raise UserError(
            f"ingestion.class_names names the labels 0 to {last}, but {where} has {wrong[0]!r}.",
            "its labels count from 1: put a name for 0 before the others."
            if from_one
            else "name every integer label in order, or leave class_names out.",
        )
    return {label: wanted[int(label)] for label in labels}


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT.

    >>> is_missing(float("nan")), is_missing("nan")
    (True, False)
    """
    return value is None or bool(value != value)  # noqa: PLR0124 - so are NaN and NaT


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of classes whose names differ only in upper and lower case, or in zeros before a number.

    >>> alike(["Cat", "dog", "cat", "01", "1"])
    [('Cat', 'cat'), ('01', '1')]
    """
    first: dict[str, str] = {}
    keys = ((name, str(int(name)) if name.isdecimal() else name.casefold()) for name in names)
    return [(first[key], name) for name, key in keys if first.setdefault(key, name) != name]


def _plain(value: Any, where: str) -> bool | int | float | str | None:
    """Return a value as one of Python's plain types; None if it is missing."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.void):
        value = value.item()
    if isinstance(value, list | tuple | set | dict | np.ndarray):
        shown = str(value) if len(str(value)) < 40 else str(value)[:37] + "..."
        raise UserError(
            f"{where} has several labels per image ({shown}).", "keep one label per image."
        )
    if isinstance(value, np.datetime64):  # of nanoseconds, `item` makes a number
        value = None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where} has the label {value!r}, which is no UTF-8.", "write labels in UTF-8."
            ) from error
    if is_missing(value):
        return None
    if isinstance(value, float | Decimal) and not isfinite(value):
        raise UserError(f"{where} has the label {value}.", "write a class, or nothing.")
    if isinstance(value, float | Decimal):
        value = int(value) if float(value).is_integer() else float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value == -1 else value
    return str(value) if isinstance(value, date) or not isinstance(value, bool | float) else value


def _text(value: str, where: str) -> str | None:
    text = _cleaned(value, where)
    if text[:1] + text[-1:] in ("[]", "{}"):
        raise UserError(
            f"{where} has several labels per image ({text[:40]}).", "keep one label per image."
        )
    whole = WHOLE.fullmatch(text)
    text = whole[1] if whole else text
    return None if text in MISSING else text


def _cleaned(name: str, where: str) -> str:
    """Return text in its composed form (NFC), on one line, without blanks around it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(
            f"{where}: the class {shown!r} has a name that is no UTF-8.", "rename it in UTF-8."
        ) from error
    kept = (" " if unicodedata.category(one) == "Cc" else one for one in name if one not in UNSEEN)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _distinct(names: Sequence[Any], where: str) -> tuple[str, ...]:
    cleaned = [] if isinstance(names, str) else [_cleaned(str(name), where) for name in names]
    if not cleaned or len(set(cleaned)) < len(cleaned) or "" in cleaned:
        raise UserError(
            f"{where} names its classes {_some(list(names))}, which are not distinct names.",
            "give every class a name of its own.",
        )
    return tuple(cleaned)


def _refuse_joined(labels: Sequence[str], where: str) -> None:
    """Refuse `a|b` beside `a` and `b`: several labels in one text."""
    known = set(labels)
    for label in labels:
        for separator in "|;,":
            parts = [part.strip() for part in label.split(separator)]
            if len(parts) > 1 and known.issuperset(parts):
                raise UserError(
                    f"{where} has several labels per image: {label!r} beside {parts[0]!r} and {parts[1]!r}.",
                    "keep one label per image.",
                )


def _number(label: str) -> int:
    return int(label) if label.isdecimal() else 0


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)})"
