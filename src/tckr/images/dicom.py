"""Decode one DICOM image; nothing of its header but what the pixels need is looked at, and nothing of it is kept."""

import io
from typing import Any

import numpy as np


class UnreadableDicomError(Exception):
    """This DICOM file gives no 2-D image; the message says why in a few words."""


def is_dicom(content: bytes) -> bool:
    """Whether bytes begin like a DICOM file.

    >>> is_dicom(bytes(128) + b"DICM")
    True
    """
    return content[128:132] == b"DICM"


def decode_dicom(content: bytes, max_pixels: int, window: bool) -> np.ndarray:
    """Return the pixels of a DICOM file as they are meant to be seen.

    Args:
        content: The file.
        max_pixels: Rows x columns above which it is refused undecoded.
        window: Apply the header's window (or VOI table) and return uint8; without it, or where the header has none, the
            values after the modality's rescaling (Hounsfield units in CT) are returned.

    Returns:
        (H, W) or (H, W, 3); MONOCHROME1, in which large values are dark, is inverted.

    Raises:
        UnreadableDicomError: pydicom is not installed, or the file is damaged, compressed in a way that is not
            installed, or no 2-D image.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
    except ImportError as error:
        raise UnreadableDicomError("DICOM needs pydicom: pip install 'tckr[dicom]'") from error
    try:
        header = pydicom.dcmread(io.BytesIO(content))
        rows, columns = int(header.get("Rows", 0)), int(header.get("Columns", 0))
        frames = int(header.get("NumberOfFrames", 1) or 1)
        if rows * columns == 0:
            raise UnreadableDicomError("a DICOM file without an image")
        if frames != 1:
            raise UnreadableDicomError(f"a DICOM file of {frames} frames: save each as a file")
        if rows * columns > max_pixels:
            raise UnreadableDicomError(
                f"too large: {columns} x {rows}, over max_pixels = {max_pixels:,}"
            )
        pixels = pixel_array(header)
        if pixels.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
            return _as_bytes(pixels, header)
        values = apply_modality_lut(pixels, header)
        if window and ("WindowWidth" in header or "VOILUTSequence" in header):
            return _windowed(apply_voi_lut(values, header), header)
    except UnreadableDicomError:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly every type on a damaged file
        problem = " ".join(str(error).split())[:100]
        raise UnreadableDicomError(f"DICOM that cannot be decoded ({problem})") from error
    return _compact(_inverted(values, header))


def _windowed(values: np.ndarray, header: Any) -> np.ndarray:
    """Scale what the window lets through to 0..255."""
    sequence = header.get("VOILUTSequence")
    if sequence:
        low, high = 0.0, float(2 ** int(sequence[0].LUTDescriptor[2]) - 1)
    else:
        # A window's output spans the stored range, rescaled; see part 3 of the standard, C.11.2.1.2.
        low, high = _output_range(header)
    scaled = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)
    scaled = 1 - scaled if header.PhotometricInterpretation == "MONOCHROME1" else scaled
    return np.round(255 * scaled).astype(np.uint8)


def _output_range(header: Any) -> tuple[float, float]:
    tables = header.get("ModalityLUTSequence")
    if tables:
        return 0.0, float(2 ** int(tables[0].LUTDescriptor[2]) - 1)
    bits = int(header.BitsStored)
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if header.PixelRepresentation
        else (0, 2**bits - 1)
    )
    slope, intercept = (
        float(header.get("RescaleSlope", 1)),
        float(header.get("RescaleIntercept", 0)),
    )
    return low * slope + intercept, high * slope + intercept


def _inverted(values: np.ndarray, header: Any) -> np.ndarray:
    if header.PhotometricInterpretation != "MONOCHROME1":
        return values
    low, high = _output_range(header)
    return low + high - values


def _compact(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers: rescaling makes floats even of those."""
    if (
        values.dtype.kind == "f"
        and np.isfinite(values).all()
        and (values == np.round(values)).all()
    ):
        values = values.astype(np.int32)
    fits = values.dtype.kind == "i" and values.min() >= 0 and values.max() <= 65535
    return values.astype(np.uint16) if fits else values


def _as_bytes(pixels: np.ndarray, header: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
    if pixels.dtype == np.uint8:
        return pixels
    bits = 16 if header.PhotometricInterpretation == "PALETTE COLOR" else int(header.BitsStored)
    return (pixels.astype(np.uint32) * 255 // (2**bits - 1)).astype(np.uint8)
