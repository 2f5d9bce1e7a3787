"""Files that are named after their content, so that no cache takes one set for another.

`datasets.load_dataset(folder)` keeps what it has read by the folder's name and the patterns of files in its card, whatever
the files hold. Two sets with the same names would answer for each other; a digest in every name keeps them apart.
"""

import hashlib
from pathlib import Path

DIGITS = 16


def name_by_content(folder: Path) -> str:
    """Add a digest of all files of a folder to each of their names: `train-00000-of-00001-0f3a...c2.parquet`.

    The digest is that of all files together, their names included: a set that differs in any shard has other names
    throughout, as `push_to_hub` names the shards of one upload.

    Args:
        folder: of files `<split>-<shard>-of-<shards>.parquet`, which are renamed.

    Returns:
        The digest, 16 hexadecimal digits, of SHA-256.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "train-00000-of-00001.parquet").write_bytes(b"images")
    >>> digest = name_by_content(folder)
    >>> [file.name for file in folder.iterdir()] == [f"train-00000-of-00001-{digest}.parquet"]
    True
    """
    files = sorted(folder.iterdir())
    content = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            own = hashlib.file_digest(stream, "sha256").hexdigest()
        content.update(f"{file.name} {own}\n".encode())
    digest = content.hexdigest()[:DIGITS]
    for file in files:
        file.rename(file.with_stem(f"{file.stem}-{digest}"))
    return digest


def pattern(split: str, digest: str) -> str:
    """Return the pattern of the files of a split, for the card of the set.

    >>> pattern("train", "0f3a5b7c9d1e2f40")
    'data/train-*-0f3a5b7c9d1e2f40.parquet'
    """
    return f"data/{split}-*-{digest}.parquet"


def shard(split: str, number: int = 0, count: int = 1) -> str:
    """Return the name of a shard before its content is known.

    >>> shard("train")
    'train-00000-of-00001.parquet'
    """
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def split_of(file: Path) -> str:
    """Return the split that a file holds, also one of a set whose files bear the split's name alone.

    >>> split_of(Path("holdout-00000-of-00001-0f3a5b7c9d1e2f40.parquet")), split_of(Path("train.parquet"))
    ('holdout', 'train')
    """
    return file.stem.partition("-")[0]
