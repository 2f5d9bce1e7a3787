"""Names that come from users (of classes, of files), made safe for the place where they are written."""

import re
import unicodedata
from collections.abc import Sequence

MARKDOWN = re.compile(
    r"([\\`*\[\]<>#|~$&!]|(?<![^\W_])_|_(?![^\W_]))"
)  # not the _ inside of a word
# What no file system, or not every one, has in a name, and what Windows keeps for itself.
FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# A folder with such a word in its name is a split, not a class, to `datasets` (data_files.SPLIT_KEYWORDS).
SPLIT_WORD = re.compile(
    r"(?<![^-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?![^-._ 0-9])",
    re.IGNORECASE,
)
BYTE = re.compile("[\udc80-\udcff]")  # of a file's name that is not UTF-8, as Python holds it
LONGEST = 100  # bytes of a folder's name; file systems end at 255
DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    r"""Return the text with an escape in place of each character that UTF-8 cannot hold (names of files may have some).

    >>> printable("caf\udce9.png")
    'caf\\xe9.png'
    """
    as_bytes = BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    return as_bytes.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    r"""Return the text in one line that can be printed or drawn: blanks are single, control characters are escaped.

    >>> one_line(" hand\n\tleft\x00 ")
    'hand left\\x00'
    """
    text = " ".join(printable(text).split())
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) == "Cc" or char in DIRECTION
        else char
        for char in text
    )


def markdown(text: str) -> str:
    r"""Return the text as Markdown shows it, in one line, also in a cell of a table.

    >>> print(markdown("a|b <b>`c`</b>"))
    a\|b \<b\>\`c\`\</b\>
    """
    return MARKDOWN.sub(r"\\\1", one_line(text))


def metric_name(text: str) -> str:
    """Return the text as a part of a metric's name in MLflow: letters, digits, blanks and a few signs.

    >>> metric_name("T-shirt/top"), metric_name("café (à gauche)")
    ('T-shirt/top', 'caf_ __ gauche_')
    """
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", one_line(text))


def spreadsheet(text: str) -> str:
    """Return the text as a cell that no spreadsheet takes for a formula: with an apostrophe before =, +, - and @.

    >>> spreadsheet("=HYPERLINK(1)"), spreadsheet("a-b")
    ("'=HYPERLINK(1)", 'a-b')
    """
    text = one_line(text)
    return f"'{text}" if text[:1] in tuple("=+-@") else text


def folder_names(names: Sequence[str]) -> list[str]:
    """Return a name for the folder of each class: safe on every file system, of a class and not of a split, distinct.

    >>> folder_names(["Cat", "cat", "a/b", "test", "nul", ".."])
    ['Cat', 'cat_2', 'a_b', 'tests', 'nul_', 'class_5']
    """
    found: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names):
        base = _folder_name(name) or f"class_{number}"
        chosen, copy = base, 1
        while _folded(chosen) in taken:
            copy += 1
            chosen = f"{base}_{copy}"
        taken.add(_folded(chosen))
        found.append(chosen)
    return found


def _folder_name(name: str) -> str:
    safe = FORBIDDEN.sub("_", one_line(unicodedata.normalize("NFC", name)))
    safe = SPLIT_WORD.sub(r"\1s", safe)
    while len(safe.encode()) > LONGEST:
        safe = safe[:-1]
    safe = safe.rstrip(". ").lstrip(". ")
    safe = re.sub(r"^_{2,}", "_", safe)  # `datasets` skips folders that begin with two
    if safe == "_":  # a number behind it would make two of one
        return ""
    return f"{safe}_" if RESERVED.fullmatch(safe) else safe


def _folded(name: str) -> str:
    """Return what two names have in common that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())
