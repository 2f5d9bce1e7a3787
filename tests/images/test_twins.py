import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from tckr.errors import UserError
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.prepare import thumbnail
from tckr.images.twins import to_drop, twins


def picture(seed, side=64):
    """A blurred random picture, as smooth as a photograph."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(side / 16))
    return ImageEnhance.Contrast(blurred).enhance(6)


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CHANGES = {
    "JPEG": lambda image: jpeg(image, 60),
    "smaller": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_twins_and_other_pictures_are_not(change):
    originals = [picture(seed) for seed in range(30)]
    changed = [CHANGES[change](one) for one in originals[:10]]
    pairs = twins([thumbnail(one) for one in (*originals, *changed)])
    assert pairs.tolist() == [[number, 30 + number] for number in range(10)]


def test_flat_pictures_and_few_pictures_have_no_twins():
    flat = [bytes([grey]) * 256 for grey in (0, 0, 3, 255)]
    assert len(twins(flat)) == len(twins(flat[:1])) == len(twins([])) == 0


def test_one_of_each_is_kept_that_of_the_test_split_first():
    pairs = np.array([[0, 1], [0, 2], [1, 2], [3, 4]])
    dropped = to_drop(pairs, np.array([False, False, True, False, False, False]))
    assert dropped.tolist() == [True, True, False, False, True, False]


def variants(root, n=30):
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for number in range(n):
            image = picture(1000 * (name == "bee") + number)
            image.save(root / name / f"{number}_a.png")
            image.save(root / name / f"{number}_b.jpg", quality=90)
            CHANGES["mirrored"](image).save(root / name / f"{number}_c.png")
    return root


def test_near_duplicates_across_splits_are_counted_or_dropped(tmp_path):
    root = variants(tmp_path)
    table, report = ingest(root, IngestionOptions(size=16), 0)
    near = report["near_duplicates"]
    assert near["pairs"] == 180
    splits = table.set_index("image_id")["split"]
    assert 0 < near["pairs_across_splits"] < 180
    assert all(splits[one] != splits[other] for one, other in near["examples"])
    table, report = ingest(root, IngestionOptions(size=16, near_duplicates="drop"), 0)
    assert report["near_duplicates"]["dropped"] == 120
    assert report["near_duplicates"]["pairs_across_splits"] == 0
    assert len(table) == 60
    table, report = ingest(root, IngestionOptions(size=16, group_pattern=r"(\w+/\d+)_"), 0)
    assert report["near_duplicates"]["pairs_across_splits"] == 0
    assert len(table) == 180


# Exact copies


def test_copies_with_different_labels_go_whatever_their_order(tmp_path, class_folders, encoded):
    reports = []
    for first, second in (("a", "b"), ("b", "a")):
        root = tmp_path / first
        class_folders(root, {"a": 20, "b": 20})
        (root / first / "0_first.png").write_bytes(encoded(500))
        (root / second / "z_last.png").write_bytes(encoded(500))
        table, report = ingest(root, IngestionOptions(size=16), 0)
        assert report["duplicates"]["with_conflicting_labels"] == 1
        assert report["duplicates"]["removed"] == 2
        assert len(table) == 40
        reports.append(report["data_hash"])
    assert reports[0] == reports[1]


def test_many_images_with_several_labels_are_refused(tmp_path, class_folders, encoded):
    class_folders(tmp_path, {"a": 20, "b": 20})
    for number in range(8):
        (tmp_path / "b" / f"again{number}.png").write_bytes(encoded(number))
    with pytest.raises(UserError, match=r"8 of 40 images .* several labels; .*: a, b"):
        ingest(tmp_path, IngestionOptions(size=16), 0)


def test_a_set_of_copies_of_one_picture_is_called_that(tmp_path, class_folders, encoded):
    class_folders(tmp_path, {"a": 6, "b": 6})
    for number in range(40):
        (tmp_path / "a" / f"again{number}.png").write_bytes(encoded(0))
    with pytest.raises(UserError, match=r"41 of 52 images .* are the same picture"):
        ingest(tmp_path, IngestionOptions(size=16), 0)
