"""One reading of pixel values: which of them become black and white, judged over a whole set."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from tckr.errors import UserError
from tckr.images.options import IngestionOptions
from tckr.images.raw import in_batches

Kind = Literal["8 bits", "integers", "floats"]

# White of the depths in use: only 0 and 1, then 8, 10, 12, 14 and 16 bits.
TOPS = (1, 255, 1023, 4095, 16383, 65535)
SMALL_PART = 8
"""A set that uses less than one eighth of its range is refused."""
OVERSHOOT = 0.02
FEW = 0.05
"""Share of a set from which images on another scale are no accident."""


@dataclass(frozen=True)
class Scale:
    """The source values that become 0 and 255."""

    low: float
    high: float

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return values as uint8, clipped at both ends.

        >>> Scale(0, 4095).apply(np.array([0, 2048, 4095, 5000])).tolist()
        [0, 128, 255, 255]
        """
        scaled = (values.astype(np.float32) - self.low) * (255 / (self.high - self.low))
        return np.clip(np.round(scaled), 0, 255).astype(np.uint8)

    def __str__(self) -> str:
        """Return the two numbers, as `ingestion.range` takes them."""
        return f"{self.low:g}..{self.high:g}"


FULL: dict[Kind, Scale] = {
    "8 bits": Scale(0, 255),
    "integers": Scale(0, 65535),
    "floats": Scale(0, 1),
}


@dataclass(frozen=True)
class Scales:
    """How the pixel values of a set are read.

    Attributes:
        of_kind: Scale of each kind of values; a kind that is missing uses everything that its type can hold.
        background: What transparent images are laid on.
        window: Show DICOM images through the window that their header names.
        notes: What a person should know about it.
    """

    of_kind: dict[Kind, Scale] = field(default_factory=dict)
    background: Literal["white", "black"] = "white"
    window: bool = True
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, str]:
        """Return the scale of each kind in words."""
        return {kind: str(scale) for kind, scale in self.of_kind.items()}

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return the values of one image as uint8.

        Raises:
            ValueError: No scale is known, and the values lie outside what their type is usually used for.
        """
        kind = kind_of(values)
        scale = self.of_kind.get(kind) if kind else Scale(0, 1)
        if scale is None:
            if kind == "8 bits":
                return values
            if kind == "floats" and not np.isfinite(values).all():
                raise ValueError("pixels that are no numbers (NaN or infinite)")
            scale = usual_scale(values)
            if not (values.min() >= scale.low and values.max() <= scale.high):  # refuses NaN too
                raise ValueError(f"{values.dtype} pixels outside {scale}")
        elif kind == "floats" and not np.isfinite(values).all():
            raise ValueError("pixels that are no numbers (NaN or infinite)")
        return values if kind == "8 bits" and scale == Scale(0, 255) else scale.apply(values)


@dataclass(frozen=True)
class Measured:
    """What one image says about the scale of its set.

    Attributes:
        kind: Of its values.
        low, high: Its smallest and largest value; NaN where 8 bits were not decoded.
        bright: Value that 99.9 % of its pixels do not exceed.
        contrast_on_white, contrast_on_black: Of a transparent image; None for any other.
        upper_bits: The decoder gives only the upper 8 of 16 bits.
    """

    kind: Kind
    low: float
    high: float
    bright: float
    contrast_on_white: int | None = None
    contrast_on_black: int | None = None
    upper_bits: bool = False


def kind_of(values: np.ndarray) -> Kind | None:
    """Return the kind of pixel values; None for booleans."""
    if values.dtype == np.uint8:
        return "8 bits"
    return {"u": "integers", "i": "integers", "f": "floats", "b": None}[values.dtype.kind]


def usual_scale(values: np.ndarray) -> Scale:
    """Return the range that is usual for a type: 0..65535 for uint16, 0..1 for floats, else 0..255."""
    if values.dtype == np.uint16:
        return Scale(0, 65535)
    return Scale(0, 1) if values.dtype.kind == "f" else Scale(0, 255)


def measure(values: np.ndarray) -> Measured | None:
    """Measure one image; None for booleans, and for pixels that are no numbers."""
    kind = kind_of(values)
    if kind is None or values.size == 0 or not np.isfinite(values).all():
        return None
    bright = float(
        np.partition(values.ravel(), -(1 + values.size // 1000))[-(1 + values.size // 1000)]
    )
    return Measured(kind, float(values.min()), float(values.max()), bright)


def judge(raw: Any, options: IngestionOptions, where: str) -> Scales:
    """Look at a whole set once, and decide how its pixel values are read.

    Images of 8 bits are only opened, not decoded, once they are seen to use their range.

    Args:
        raw: A `tckr.images.raw.RawTable`.
        options: `range` and `background`.
        where: The source, for messages.

    Raises:
        UserError: The set uses a small part of its range, or images of different scales.
    """
    judge_ = _Judge(options, where)
    for measured in _measured(raw.images, options, judge_):
        judge_.add(measured)
        if raw.eight_bits and judge_.settled:
            break
    return judge_.verdict()


class _Judge:
    """Collects what images say, and says which scale they are on."""

    def __init__(self, options: IngestionOptions, where: str) -> None:
        self._range, self._background, self._where = options.range, options.background, where
        self._kinds: Counter[Kind] = Counter()
        self._seen: dict[Kind, list[tuple[float, float, float]]] = {}
        self._on_white: list[int] = []
        self._on_black: list[int] = []
        self._upper_bits = 0
        self._low, self._high = 255.0, 0.0

    @property
    def settled(self) -> bool:
        """Whether 8 bits are seen to use their range, so that no more images of 8 bits have to be decoded."""
        if self._range == "set":
            return False
        return self._range != "auto" or self._high - self._low >= 256 / SMALL_PART

    def add(self, one: Measured) -> None:
        """Take in one image."""
        self._kinds[one.kind] += 1
        if not math.isnan(one.low):
            self._seen.setdefault(one.kind, []).append((one.low, one.high, one.bright))
        if one.kind == "8 bits" and not math.isnan(one.low):
            self._low, self._high = min(self._low, one.low), max(self._high, one.high)
            self._upper_bits += one.upper_bits
        if one.contrast_on_white is not None and one.contrast_on_black is not None:
            self._on_white.append(one.contrast_on_white)
            self._on_black.append(one.contrast_on_black)

    def verdict(self) -> Scales:
        """Return the scale of every kind of values."""
        notes: list[str] = []
        scales = {
            kind: self._scale(kind, np.array(seen), notes) for kind, seen in self._seen.items()
        }
        scales |= {kind: FULL[kind] for kind in self._kinds if kind not in scales}
        if len(scales) > 1:
            kinds = ", ".join(
                f"{count:,} of {kind} read as {scales[kind]}" for kind, count in self._kinds.items()
            )
            notes.append(f"the set mixes kinds of pixels: {kinds}")
        return Scales(scales, self._laid_on(notes), self._range == "auto", tuple(notes))

    def _scale(self, kind: Kind, seen: np.ndarray, notes: list[str]) -> Scale:
        low, high = float(seen[:, 0].min()), float(seen[:, 1].max())
        if isinstance(self._range, tuple):
            scale = Scale(*self._range)
            if low < scale.low or high > scale.high:
                notes.append(
                    f"{kind} from {low:g} to {high:g} are cut off at ingestion.range = {scale}"
                )
            return scale
        if low == high:
            return FULL[kind]
        if self._range == "set":
            return Scale(low, high)
        if self._range == "full":
            return self._full(kind, low, high)
        scale = self._standard(kind, low, high)
        if kind == "8 bits":
            self._check_eight_bits(scale, low, high)
        else:
            self._check_use(kind, scale, seen, notes)
        if kind == "integers" or scale.high == 1:
            notes.append(f"{kind} from {low:g} to {high:g} are read as {scale} (ingestion.range)")
        return scale

    def _full(self, kind: Kind, low: float, high: float) -> Scale:
        scale = FULL[kind]
        if low < scale.low or high > scale.high:
            self._refuse(f"has {kind} from {low:g} to {high:g}, outside {scale}, the full range")
        return scale

    def _standard(self, kind: Kind, low: float, high: float) -> Scale:
        """Return the smallest of the usual scales that holds all values."""
        if kind == "8 bits":
            return Scale(0, 1 if high <= 1 else 255)
        if kind == "floats":
            # Resizing overshoots a little at edges; the rest is cut off.
            usual = (Scale(0, 1), Scale(-1, 1), Scale(0, 255))
            slack = {scale: OVERSHOOT * (scale.high - scale.low) for scale in usual}
            for scale in usual if high <= 2 or high > usual[-1].high / SMALL_PART else ():
                if low >= scale.low - slack[scale] and high <= scale.high + slack[scale]:
                    return scale
        top = next((top for top in TOPS if high <= top), None)
        if kind == "floats" or low < 0 or top is None:
            self._refuse(f"has {kind} from {low:g} to {high:g}, which is no usual range")
        return Scale(0, top)  # type: ignore[arg-type]

    def _check_eight_bits(self, scale: Scale, low: float, high: float) -> None:
        if scale.high == 1 or high - low >= 256 / SMALL_PART:
            return
        why = (
            " (the decoder gives the upper 8 of 16 bits of colour images: save these as 8 bits, or grey)"
            if self._upper_bits
            else ""
        )
        self._refuse(f"uses only the grey levels {low:g} to {high:g} of 8 bits{why}")

    def _check_use(self, kind: Kind, scale: Scale, seen: np.ndarray, notes: list[str]) -> None:
        """Refuse sets that use little of a scale, or whose images are on two scales."""
        part = (scale.high - scale.low) / SMALL_PART
        low, high, bright = seen.T
        if high.max() - low.min() < part or np.median(bright) - scale.low < part:
            self._refuse(
                f"has {kind} from {low.min():g} to {high.max():g}, but half of the images stay below "
                f"{np.median(bright):g} in nearly all pixels: a small part of {scale}"
            )
        if scale.low < 0 and low.min() > scale.low / 2:
            self._refuse(
                f"has floats from {low.min():g} to {high.max():g}: neither 0..1 nor {scale}"
            )
        if scale.low < 0:
            smaller = float((low >= 0).mean())
        elif kind == "floats" and scale.high == 255:
            smaller = float((high <= 1).mean())
        else:
            smaller = 0.0
        if smaller > FEW:
            self._refuse(
                f"has {kind} from {low.min():g} to {high.max():g}, but {smaller:.0%} of the images lie in 0..1: two scales "
                "in one set"
            )
        dim = int((bright - scale.low < part).sum())
        if dim > FEW * len(seen):
            notes.append(
                f"{dim:,} of {len(seen):,} images of {kind} use less than 1/{SMALL_PART} of {scale}"
            )

    def _laid_on(self, notes: list[str]) -> Literal["white", "black"]:
        if self._background != "auto":
            return self._background
        lost_on = {
            "white": sum(contrast < 256 / SMALL_PART for contrast in self._on_white),
            "black": sum(contrast < 256 / SMALL_PART for contrast in self._on_black),
        }
        if lost_on["white"] <= lost_on["black"]:
            if lost_on["white"]:
                notes.append(f"{lost_on['white']:,} transparent images vanish on white")
            return "white"
        notes.append(
            f"transparent images are laid on black, as {lost_on['white']:,} of {len(self._on_white):,} vanish on white "
            "(ingestion.background)"
        )
        return "black"

    def _refuse(self, seen: str) -> None:
        raise UserError(
            f"{self._where} {seen}.",
            "say with ingestion.range which values are black and white: two numbers as in 0..4095, set (the smallest and "
            "largest of the set) or full.",
        )


def refuse_two_scales(
    levels: Iterable[tuple[int, int]], options: IngestionOptions, where: str
) -> int:
    """Return how many images hold only 0 and 1 of 8 bits, beside others.

    Args:
        levels: Smallest and largest grey level of every image.
        options: `range`.
        where: The source, for messages.

    Raises:
        UserError: They are too many to be an accident, and no range is given.
    """
    seen = list(levels)
    masks = sum(one == (0, 1) for one in seen)
    if options.range == "auto" and masks > FEW * len(seen):
        raise UserError(
            f"{where} has {masks:,} images of the grey levels 0 and 1 among {len(seen):,}: two scales in one set.",
            "bring them to one scale, or set ingestion.range to full if they are meant to be black.",
        )
    return masks


def _measured(
    images: Iterable[Any], options: IngestionOptions, judge_: _Judge
) -> Iterator[Measured]:
    """Measure images in threads, a round at a time."""
    from tckr.images.prepare import look

    def some(batch: list[Any]) -> list[Measured | None]:
        return [look(image.content, options, judge_.settled) for image in batch]

    rest, workers = (image for image in images if image.label is not None), os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        batches = in_batches(rest)
        while some_batches := list(islice(batches, workers)):
            for done in pool.map(some, some_batches):
                yield from (one for one in done if one is not None)
