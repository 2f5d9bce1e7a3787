"""Real images: ten members among three hundred that are copied into a release are found; a release of strangers finds none."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from conftest import ROOT
from tckr.audit import tables
from tckr.audit.extraction import SPACES, extract
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.images.tables import images_and_labels
from tckr.images.tensors import to_png, to_tensor

ENCODER = "data/06_models/foundation/clip"
RAW = "data/01_raw/fashion_mnist"
COUNT = 300
OPTIONS = AuditOptions(release=ReleaseThreat(encoder=ENCODER))


@pytest.fixture(scope="module")
def photos() -> pd.DataFrame:
    """1,200 photos of clothes: members, holdout, reference and strangers, all of one source."""
    (file,) = (ROOT / RAW).glob("*.parquet")
    table = pd.read_parquet(file).sample(4 * COUNT, random_state=0)
    images = table["image"].str["bytes"].to_numpy()
    names = np.repeat(["members", "holdout", "validation", "strangers"], COUNT)
    return pd.DataFrame({"split": names, "label": pd.factorize(table["label"])[0], "image": images})


def released(photos: pd.DataFrame, copies: int, noise: float = 8.0) -> pd.DataFrame:
    """Strangers, as a perfect generator would draw; the first of them are members, with some noise of the grey levels."""
    release = photos[photos["split"] == "strangers"].reset_index(drop=True)
    if copies:
        members = photos[photos["split"] == "members"].iloc[:copies]
        pixels = to_tensor(members["image"])
        torch.manual_seed(0)
        noisy = pixels + noise * torch.randn(pixels.shape)
        copied = to_png(noisy.round().clamp(0, 255).to(torch.uint8))
        release.loc[: copies - 1, "image"] = pd.Series(list(copied))
        release.loc[: copies - 1, "label"] = members["label"].to_numpy()
    return release


def near(photos: pd.DataFrame, release: pd.DataFrame) -> dict[str, NDArray]:
    reference = photos[photos["split"] == "validation"]
    sides = (tables.audited_images(photos), release, reference)
    return tables.pixel_proximity(*map(images_and_labels, sides), 1)


@pytest.mark.parametrize("copies", [0, 10])
def test_copies_of_members_are_found_in_pixels(photos: pd.DataFrame, copies: int) -> None:
    inside = tables.is_member(tables.audited_images(photos))
    every, percent = extract(near(photos, released(photos, copies)), inside, OPTIONS)
    assert (every.space, every.share, percent.share) == ("pixels", 0.0, 0.01)
    assert (every.near_holdout, percent.near_holdout) == (0, 3)
    assert (every.n_members, every.n_holdout) == (COUNT, COUNT)
    if copies:
        assert 10 <= every.near_members < 14
        assert 1 <= every.at_least <= 10
        assert every.released_of_members >= 10
    else:
        assert every.at_least == percent.at_least == 0
        assert every.p_value > 0.05


def test_people_are_counted(photos: pd.DataFrame) -> None:
    """Ten copies of images of one and the same person are one."""
    audited = tables.audited_images(photos)
    inside = tables.is_member(audited)
    people = np.where(np.arange(2 * COUNT) < 10, 0, np.arange(2 * COUNT))
    every, _ = extract(near(photos, released(photos, 10)), inside, OPTIONS, people)
    assert every.n_members == COUNT - 9
    assert every.at_least == 0


def test_what_is_not_there_is_not_counted() -> None:
    ratio = np.arange(40.0)
    assert extract({}, ratio > 20, OPTIONS) == ()
    assert set(SPACES) == {"pixels", "encoder"}
    space = {"density_ratio": ratio, "nearest_index": np.arange(40)}
    (one,) = extract(
        space, ratio > 20, OPTIONS
    )  # a hundredth of 21 images is none, as the first share
    assert (one.share, one.needed) == (0.0, 4)
    (alone,) = extract(space, ratio > 20, OPTIONS.model_copy(update={"confidence": 0.99}))
    assert alone.needed > one.needed
    with pytest.raises(ValueError, match="shares of the holdout"):
        ReleaseThreat(encoder="none", extraction=(0.6,))
