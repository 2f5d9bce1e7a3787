import io
from pathlib import Path

import numpy as np
import pytest

from tckr.errors import UserError
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.pixels import Scale, Scales
from tckr.images.prepare import BadImageError, decode

pydicom = pytest.importorskip("pydicom")

NAME = "Doe^Jane^4711"


def dicom(pixels, bits=12, signed=False, photometric="MONOCHROME2", **header):
    """A DICOM file of these pixels, with a patient's name."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a test"])
    one = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    one.PatientName, one.PatientID = NAME, "4711"
    one.Rows, one.Columns = pixels.shape[:2]
    one.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        one.PlanarConfiguration = 0
    one.PhotometricInterpretation = photometric
    one.BitsAllocated = 8 * pixels.dtype.itemsize
    one.BitsStored, one.HighBit = bits, bits - 1
    one.PixelRepresentation = int(signed)
    for key, value in header.items():
        setattr(one, key, value)
    one.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def shown(content, **options):
    image, original = decode(content, 10**6, 64, **options)
    return np.asarray(image), original


def ramp(low, high, dtype=np.uint16):
    return np.linspace(low, high, 256).astype(dtype).reshape(16, 16)


def test_a_window_of_the_header_is_applied_after_the_modalitys_rescaling():
    stored = ramp(0, 2047)
    pixels, original = shown(
        dicom(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    )
    units = stored.astype(int) - 1024
    assert original == "DICOM 16x16"
    assert (pixels[units <= 40 - 200] == 0).all()
    assert (pixels[units >= 40 + 200] == 255).all()
    inside = (units > -150) & (units < 230)
    assert np.abs(pixels[inside] - (units[inside] + 160) * 255 / 399).max() < 2


def test_several_windows_give_the_first():
    two = shown(dicom(ramp(0, 4095), WindowCenter=[500, 3000], WindowWidth=[100, 100]))[0]
    one = shown(dicom(ramp(0, 4095), WindowCenter=500, WindowWidth=100))[0]
    assert (two == one).all()


def test_monochrome1_is_turned_round():
    plain = shown(dicom(ramp(0, 4095), WindowCenter=2048, WindowWidth=4096))[0]
    turned = shown(
        dicom(ramp(0, 4095), photometric="MONOCHROME1", WindowCenter=2048, WindowWidth=4096)
    )[0]
    assert (turned == 255 - plain).all()


def test_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (shown(dicom(pixels, bits=8, photometric="RGB"))[0] == pixels).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(128) + b"DICM" + bytes(100), "DICOM"),
        (lambda: dicom(ramp(0, 4095))[:-100], "cannot be decoded"),
        (lambda: dicom(np.zeros((2, 8, 8), np.uint16)[0], NumberOfFrames=2), "2 frames"),
        (lambda: dicom(np.zeros((1100, 1000), np.uint16)), "too large"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_few_words(content, words):
    with pytest.raises(BadImageError, match=words):
        shown(content() if callable(content) else content)


def write_set(root, n=20, **header):
    for name, low in (("ill", 1000), ("well", 0)):
        (root / name).mkdir()
        for number in range(n):
            noise = np.random.default_rng(low + number).integers(0, 500, (16, 16))
            noise[0, :2] = 0, 2000
            content = dicom((noise + low).astype(np.uint16), **header)
            (root / name / (f"{number}.dcm" if number % 2 else f"{number}")).write_bytes(content)
    return root


def test_a_set_without_windows_is_read_by_its_own_depth_and_nothing_of_the_header_stays(tmp_path):
    table, report = ingest(write_set(tmp_path), IngestionOptions(size=16), 0)
    assert report["original_modes"] == {"DICOM": 40}
    assert report["pixels"]["read_as_black_and_white"] == {"integers": "0..4095"}
    assert report["pixels"]["grey_levels"] == [0, round(3000 * 255 / 4095)]
    kept = repr(report) + repr(table["image"].tolist())
    assert "4711" not in kept
    assert "Doe" not in kept


def test_units_of_ct_need_a_window(tmp_path):
    write_set(tmp_path, RescaleSlope=1, RescaleIntercept=-1024)
    with pytest.raises(UserError, match=r"from -1024 to 1976.*ingestion\.range"):
        ingest(tmp_path, IngestionOptions(size=16), 0)
    report = ingest(tmp_path, IngestionOptions(size=16, range="-1024..1000"), 0)[1]
    assert report["pixels"]["grey_levels"] == [0, 255]


def test_pydicoms_own_images():
    from pydicom.data import get_testdata_file

    units = Scales({"integers": Scale(-1024, 1500)})
    for name, size in (("CT_small.dcm", (128, 128)), ("MR_small.dcm", (64, 64))):
        pixels, original = shown(Path(get_testdata_file(name)), scales=units)
        assert original == f"DICOM {size[1]}x{size[0]}"
        assert pixels.shape == size
        assert pixels.std() > 10
