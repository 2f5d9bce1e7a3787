"""The column of images in a table: encoded bytes that stay in their files until they are read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import (
    ExtensionArray,
    ExtensionDtype,
    register_extension_dtype,
    take,
)
from pandas.api.indexers import check_array_indexer

from tckr.images.stores import Held, ParquetImages, Store

MISSING = -1
BLOCK, BLOCK_BYTES = 32, 16 << 20  # images that are read at once when all are read in turn, at most


@register_extension_dtype
class EncodedType(ExtensionDtype):
    """The type of such a column; its values are bytes, or None where there is no image."""

    name = "encoded image"
    kind = "O"
    na_value = None

    @property
    def type(self) -> type:
        """Return the type of a value."""
        return bytes

    @classmethod
    def construct_array_type(cls) -> Any:
        """Return the class of the column."""
        return EncodedImages


class EncodedImages(ExtensionArray):
    """Encoded images (PNG) of a table, 12 bytes of memory for each, read from where they lie whenever they are used.

    Selecting, sorting, merging and joining tables moves these references alone, and a column is pickled as the paths of
    its files, not as its images. Reading all in turn (`for png in column`) holds few at a time; `tolist()` holds all.

    >>> images = pd.Series(EncodedImages.held([b"first", b"second", b"third"]))
    >>> images[images.index > 0].iloc[0]
    b'second'
    >>> pd.concat([images.head(1), images.tail(1)]).tolist()
    [b'first', b'third']
    """

    __hash__ = ExtensionArray.__hash__  # a column has none

    def __init__(
        self, stores: Sequence[Store], store: NDArray[np.int32], row: NDArray[np.int64]
    ) -> None:
        """Refer to images.

        Args:
            stores: where they lie.
            store: int32 (N,), the number of each one's store, -1 where there is no image.
            row: int64 (N,), the row of each in its store.
        """
        self._stores = tuple(stores)
        self._store = store
        self._row = row

    @classmethod
    def held(cls, images: Iterable[bytes | None]) -> Self:
        """Return a column of images in memory.

        Raises:
            TypeError: one of them is neither bytes nor None.
        """
        values = list(images)
        for number, value in enumerate(values):
            if value is not None and not isinstance(value, bytes):
                raise TypeError(
                    f"Row {number} has a {type(value).__name__}, but encoded images (bytes) are needed."
                )
        store = np.array([MISSING if value is None else 0 for value in values], np.int32)
        return cls([Held([value or b"" for value in values])], store, np.arange(len(values)))

    @classmethod
    def of(cls, store: Store, count: int) -> Self:
        """Return the column of the first `count` images of a store."""
        return cls([store], np.zeros(count, np.int32), np.arange(count))

    @property
    def files(self) -> tuple[Path, ...]:
        """The Parquet files that its images lie in.

        Raises:
            ValueError: some lie elsewhere.
        """
        if not all(isinstance(store, ParquetImages) for store in self._stores):
            raise ValueError("some of the images do not lie in Parquet files")
        return tuple(store.path for store in self._stores if isinstance(store, ParquetImages))

    @property
    def named(self) -> bool:
        """Whether other processes can read all of its images where they lie."""
        return all(store.named for store in self._stores)

    def in_order(self) -> NDArray[np.int64]:
        """Return the rows, int64 (N,), in the order in which the images lie in their stores, which is the fastest."""
        return np.lexsort((self._row, self._store))

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[bytes | None]:
        start, several = 0, 1
        while start < len(self):
            images = self._read(slice(start, start + several))
            yield from images
            start += several
            largest = max(len(image) for image in images if image is not None) if any(images) else 0
            several = max(1, min(BLOCK, BLOCK_BYTES // max(1, largest)))

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, tuple):
            (item,) = (part for part in item if part is not Ellipsis)
        if isinstance(item, int | np.integer):
            place = range(len(self))[int(item)]
            return self._read(slice(place, place + 1))[0]
        item = check_array_indexer(self, item)
        return type(self)(self._stores, self._store[item], self._row[item])

    def __setitem__(self, key: Any, value: Any) -> None:
        if getattr(self, "_readonly", False):  # of pandas 3
            raise ValueError("Cannot modify a read-only array.")
        key = check_array_indexer(self, key)
        alone = value is None or isinstance(value, bytes)
        new = self._from_sequence([value] if alone else value)
        both = self._concat_same_type([self, new])
        self._stores, store, row = both._stores, both._store, both._row
        # Not in place: another column may share the references.
        self._store, self._row = store[: len(self)].copy(), row[: len(self)].copy()
        many = len(new) > 1 or not alone
        self._store[key] = store[-len(new) :] if many else store[-1]
        self._row[key] = row[-len(new) :] if many else row[-1]

    def __eq__(self, other: object) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        if other is None or isinstance(other, bytes):
            return np.array([one is not None and one == other for one in self], dtype=bool)
        values = list(other)  # type: ignore[call-overload]
        if len(values) != len(self):
            raise ValueError(f"{len(self)} images cannot be compared with {len(values)}.")
        pairs = zip(self, values, strict=True)
        return np.array([one is not None and one == two for one, two in pairs], dtype=bool)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = np.empty(len(self), dtype=object)
        values[:] = list(self)
        return values if dtype is None else values.astype(dtype, copy=False)

    def __arrow_array__(self, type: pa.DataType | None = None) -> Any:
        return pa.array(list(self), type or pa.large_binary())

    def __reduce__(self) -> tuple[Any, ...]:
        stores, row = list(self._stores), self._row.copy()
        used, store = np.unique(self._store[self._store >= 0], return_inverse=True)
        numbers = np.full(len(self), MISSING, np.int32)
        numbers[self._store >= 0] = store
        kept: list[Store] = []
        for number in used.tolist():
            if not stores[number].named:
                own = self._store == number
                rows, row[own] = np.unique(row[own], return_inverse=True)
                kept.append(Held(stores[number].read(rows)))
            else:
                kept.append(stores[number])
        return type(self), (kept, numbers, row)

    def __deepcopy__(self, memo: Any) -> Self:
        return self.copy()

    @property
    def dtype(self) -> EncodedType:
        """The type of the column."""
        return EncodedType()

    @property
    def nbytes(self) -> int:
        """Bytes of the references."""
        return int(self._store.nbytes + self._row.nbytes)

    def isna(self) -> NDArray[np.bool_]:
        """Return True where there is no image."""
        return self._store == MISSING

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        """Return the images of these rows; with `allow_fill`, none for -1."""
        fill = {"allow_fill": allow_fill, "fill_value": MISSING if allow_fill else None}
        store, row = (take(part, indices, **fill) for part in (self._store, self._row))
        return type(self)(self._stores, store, row)

    def copy(self) -> Self:
        """Return the same images, in references of their own."""
        return type(self)(self._stores, self._store.copy(), self._row.copy())

    def tolist(self) -> list[bytes | None]:
        """Return all images, in memory."""
        return list(self)

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Self:
        if isinstance(scalars, cls):
            return scalars.copy() if copy else scalars
        return cls.held(scalars)

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Self]) -> Self:
        numbers: dict[int, int] = {}
        stores: list[Store] = []
        parts = []
        for one in to_concat:
            for store in one._stores:
                if numbers.setdefault(id(store), len(stores)) == len(stores):
                    stores.append(store)
            renumbered = np.array([numbers[id(s)] for s in one._stores] + [MISSING], np.int32)
            parts.append(renumbered[one._store])  # -1 reads the last
        rows = [one._row for one in to_concat]
        return cls(stores, np.concatenate(parts), np.concatenate(rows))

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str]:
        return lambda one: "none" if one is None else f"<{len(one):,} bytes>"

    def _read(self, rows: slice) -> list[bytes | None]:
        store, row = self._store[rows], self._row[rows]
        found: list[bytes | None] = [None] * len(store)
        for number in np.unique(store[store >= 0]).tolist():
            places = np.flatnonzero(store == number)
            images = self._stores[number].read(row[places])
            for place, image in zip(places.tolist(), images, strict=True):
                found[place] = image
        return found


def encoded(images: "pd.Series | Iterable[bytes]") -> EncodedImages:
    """Return a column of images, wherever they are, as references.

    Raises:
        TypeError: one of them is not bytes.
    """
    values = images.array if isinstance(images, pd.Series) else images
    return values if isinstance(values, EncodedImages) else EncodedImages.held(values)
