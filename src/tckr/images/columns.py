"""Which column holds the images, the labels and the split."""

from collections.abc import Sequence

from tckr.errors import UserError

IMAGE = (
    "image",
    "img",
    "images",
    "png",
    "path",
    "image_path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "pixels",
)
LABEL = ("label", "labels", "class", "class_name", "target", "category", "y", "diagnosis")
SPLIT = ("split", "partition", "subset")


def image_column(columns: Sequence[str], wanted: str | None, source: str) -> str:
    """Name of the column of images or paths.

    Raises:
        UserError: There is none, or not the wanted one.
    """
    found = _find(columns, wanted, IMAGE, "image_column", source)
    if found is None:
        raise UserError(
            f"{source} has no column of images (columns: {', '.join(columns)}).",
            "name it with ingestion.image_column.",
        )
    return found


def label_column(columns: Sequence[str], wanted: str | None, source: str) -> str:
    """Name of the column of labels.

    Raises:
        UserError: There is none, or not the wanted one.
    """
    found = _find(columns, wanted, LABEL, "label_column", source)
    if found is None:
        raise UserError(
            f"Labels are missing: {source} has no label column (columns: {', '.join(columns)}).",
            "name it with ingestion.label_column, or add one.",
        )
    return found


def split_column(columns: Sequence[str], wanted: str | None, source: str) -> str | None:
    """Name of the column of splits, None if the source has none.

    Raises:
        UserError: The wanted one is not there.
    """
    return _find(columns, wanted, SPLIT, "split_column", source)


def _find(
    columns: Sequence[str], wanted: str | None, usual: Sequence[str], option: str, source: str
) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise UserError(
                f"{source} has no column {wanted!r} (columns: {', '.join(columns)}).",
                f"put one of them into ingestion.{option}.",
            )
        return wanted
    by_lower = {name.strip().lower(): name for name in reversed(columns)}
    return next((by_lower[name] for name in usual if name in by_lower), None)
