"""What the levels of a tree of folders mean: splits, people, classes; found out by structure, or refused."""

from collections import Counter
from collections.abc import Collection, Iterable

from tckr.errors import UserError
from tckr.images.places import is_split_name, shown, split_word

Levels = tuple[str, ...]
"""From the top: "split", "group", "class", or "-" for a level of no meaning."""

Folder = tuple[str, ...]
"""Names from the top down to a folder that holds images; () is the top itself."""


def find_levels(folders: Collection[Folder], root: str) -> Levels:
    """Find out what the levels mean, by rules:

    - a single top folder that holds nothing but folders is a wrapper;
    - top folders that are all called like splits are splits, if class folders lie inside;
    - class folders that hold nothing but folders called like splits are classes above splits;
    - otherwise the top folders are the classes, provided that no sub-folder's name comes again under another of them.

    Raises:
        UserError: More than one reading is possible.

    >>> find_levels([("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")], "pets")
    ('split', 'class')
    """
    return _levels(set(folders), root, ())


def splits_above(folders: Collection[Folder], root: str) -> Levels:
    """Return ("split",) if all images lie in folders called like splits, () if none does; the rest has no meaning.

    Raises:
        UserError: Some do, and others lie beside them.

    >>> splits_above([("train",), ("test",)], "pets"), splits_above([(), ("part 1",)], "pets")
    (('split',), ())
    """
    called = {folder[:1] for folder in folders if folder and split_word(folder[0])}
    others = {folder[:1] for folder in folders} - called
    if called and others:
        beside = shown(folder[0] if folder else "images in no folder" for folder in sorted(others))
        raise UserError(
            f"{root}: the folders {shown(name for (name,) in sorted(called))} are called like splits, but beside them lie "
            f"{beside}.",
            "move or rename those (train..., val..., test...).",
        )
    return ("split",) if called else ()


def parts_of(folder: Folder, levels: Levels) -> dict[str, str]:
    """Return what the names of a folder say: its "split", "group" and "class", as far as it is deep enough.

    >>> parts_of(("train", "cat", "more"), ("split", "class"))
    {'split': 'train', 'class': 'cat'}
    """
    return {level: name for level, name in zip(levels, folder, strict=False) if level != "-"}


def _levels(folders: set[Folder], root: str, above: Levels) -> Levels:
    tops = sorted({folder[0] for folder in folders if folder})
    bare = {folder[0] for folder in folders if len(folder) == 1}
    if len(tops) == 1 and not bare and () not in folders:
        return _levels({folder[1:] for folder in folders}, root, (*above, "-"))
    inner = {
        top: {folder[1] for folder in folders if len(folder) > 1 and folder[0] == top}
        for top in tops
    }
    called = [top for top in tops if split_word(top)]
    if called and "split" not in above:
        if len(called) == len(tops) and any(inner.values()):
            below = {folder[1:] for folder in folders if len(folder) > 1}
            return _levels(below, root, (*above, "split"))
        _refuse_half_splits(called, tops, inner, root, above)
    if "split" not in above and not bare and _all_splits(inner.values()):
        return (*above, "class", "split")
    _refuse_repeated(folders, bare, root, above)
    return (*above, "class")


def _all_splits(inner: Iterable[set[str]]) -> bool:
    words = [{split_word(name) for name in names} for names in inner]
    return (
        bool(words) and all(None not in found for found in words) and len(set().union(*words)) > 1
    )


def _refuse_half_splits(
    called: list[str], tops: list[str], inner: dict[str, set[str]], root: str, above: Levels
) -> None:
    """Refuse folders of which some are called like splits, unless that is plainly a class's name (train, test tube)."""
    words = {split_word(top) for top in called}
    others = [top for top in tops if top not in called]
    plainly = words == {"train"} or not any(is_split_name(top) for top in called)
    if others and len(words) == 1 and plainly and not any(inner[top] for top in called):
        return
    as_classes = "/".join((*above, "class"))
    if not others:
        raise UserError(
            f"{root}: the folders {shown(called)} are called like splits, but no class folders lie in them.",
            f"put class folders into them, list the images in a CSV with the columns path and label, or set "
            f"ingestion.folders to {as_classes} if they are the classes.",
        )
    raise UserError(
        f"{root}: the folders {shown(called)} are called like splits, but beside them lie {shown(others)}.",
        f"move or rename those (train..., val..., test...), or set ingestion.folders to {as_classes} if all of them are "
        "classes.",
    )


def _refuse_repeated(folders: set[Folder], bare: set[str], root: str, above: Levels) -> None:
    """Refuse top folders that hold sub-folders of the same names: those may be the classes, and these people."""
    tops_of: dict[str, set[str]] = {}
    for folder in folders:
        for name in folder[1:]:
            tops_of.setdefault(name, set()).add(folder[0])
    shared = Counter({name: len(tops) for name, tops in tops_of.items() if len(tops) > 1})
    if not shared:
        return
    nested = sorted({folder[0] for folder in folders if len(folder) > 1 and folder[0] not in bare})
    if len(nested) < 2:
        return
    prefix = "/".join((*above, ""))
    raise UserError(
        f"{root}: the folders {shown(nested)} hold sub-folders of the same names "
        f"({shown(sorted(shared, key=lambda name: (-shared[name], name)))}), so that either may be the classes.",
        f"say what the levels mean with ingestion.folders: {prefix}group/class (people above classes), {prefix}-/class, "
        f"{prefix}class/group (classes above people) or {prefix}class.",
    )
