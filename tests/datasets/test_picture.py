import base64
import io
import os

import numpy as np
import pytest
from kedro.io import DatasetError
from kedro.io.core import Version
from PIL import Image

from tckr.datasets.picture import PictureDataset


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


@pytest.fixture
def dataset(tmp_path) -> PictureDataset:
    return PictureDataset(filepath=str(tmp_path / "sheet.png"), version=Version(None, None))


def test_the_preview_is_the_picture(dataset, picture):
    dataset.save(picture)
    shown = Image.open(io.BytesIO(base64.b64decode(dataset.preview())))
    assert (np.asarray(shown) == np.asarray(picture)).all()


def test_a_failed_save_leaves_nothing(dataset, tmp_path):
    with pytest.raises(DatasetError):
        dataset.save(Image.new("CMYK", (4, 4)))  # no mode of a PNG
    assert not dataset.exists()
    assert sum(len(files) for _, _, files in os.walk(tmp_path)) == 0
