import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tckr.errors import UserError
from tckr.images.layout import find_levels
from tckr.images.places import given_split, inside, scan, split_word


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("TRAIN", "train"),
        ("Training", "train"),
        ("training_set", "train"),
        ("test_set", "test"),
        ("PublicTest", "test"),
        ("t10k", "test"),
        ("emnist-letters-test", "test"),
        ("eval", "test"),
        ("Validation", "val"),
        ("seg_train", "train"),
        ("train-00000-of-00002", "train"),
        ("latest", None),
        ("contest", None),
        ("cat", None),
        ("invalid", None),
    ],
)
def test_words_for_splits(name, expected):
    assert split_word(name) == expected


def test_unknown_splits_are_named_and_refused():
    assert given_split("", None, "x") == given_split(float("nan"), None, "x") == "pool"
    assert given_split(b"test", None, "x") == "test"
    with pytest.raises(UserError, match=r"x\.csv has the split 'fold 3'.*ingestion\.test_split"):
        given_split("fold 3", None, "x.csv")
    assert given_split("fold 3", "fold 3", "x") == "test"
    assert given_split("test", "fold 3", "x") == "pool"


def test_what_is_seen_of_a_folder(tmp_path, encoded):
    for name in ("a/1.png", "a/no_suffix", "a/broken.png", "b/x.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(0))
    for name in (
        "a/1.json",
        "a/1.txt",
        "a/Thumbs.db",
        "README.md",
        "a/BM",
        "a/.DS_Store",
        "a/._1.png",
    ):
        (tmp_path / name).write_text("BM is not enough")
    (tmp_path / "__MACOSX" / "a").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "a" / "1.png").write_bytes(encoded(0))
    (tmp_path / "empty").mkdir()
    tree = scan(tmp_path)
    names = [file.relative_to(tmp_path).as_posix() for file in tree.images]
    assert names == ["a/1.png", "a/broken.png", "a/no_suffix", "b/x.dcm"]
    assert tree.left_out == ["empty, an empty folder"]
    assert tree.sidecars() == "files that are no images: 1 .db, 1 .json, 1 .md, 1 .txt, 1 no suffix"


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path, encoded):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "1.png").write_bytes(encoded(0))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    tree = scan(tmp_path / "set")
    assert [file.relative_to(tmp_path / "set").as_posix() for file in tree.images] == ["cat/1.png"]
    assert tree.left_out == ["again, a link to a folder above it"]


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert scan(tmp_path).images == []


def test_paths_of_a_list_stay_inside_its_folder(tmp_path):
    assert inside(tmp_path, "a/../b.png", False, "x") == tmp_path / "b.png"
    assert inside(tmp_path, str(tmp_path / "b.png"), False, "x") == tmp_path / "b.png"
    for outside in ("../b.png", "/etc/passwd", "a/../../b.png", f"{tmp_path}2/b.png"):
        with pytest.raises(UserError, match=r"x names the file .* outside .*allow_outside"):
            inside(tmp_path, outside, False, "x")
    assert inside(tmp_path, "../b.png", True, "x") == tmp_path.parent / "b.png"


def folders(*paths):
    return [tuple(path.split("/")) if path else () for path in paths]


@pytest.mark.parametrize(
    ("paths", "levels"),
    [
        (["cat", "dog"], "class"),
        (["cat", "dog/puppies", "dog"], "class"),
        (["cat/a", "dog/b"], "class"),
        (["train", "car"], "class"),
        (["test tube", "flask"], "class"),
        (["train/cat", "train/dog", "test/cat", "test/dog"], "split/class"),
        (["Training_Set/cat", "Training_Set/dog", "val/cat", "PublicTest/dog"], "split/class"),
        (["train/cat", "train/dog", "test"], "split/class"),
        (["x/train/cat", "x/train/dog", "x/test/cat"], "-/split/class"),
        (["x/y/cat", "x/y/dog"], "-/-/class"),
        (["train/images/cat", "train/images/dog", "test/images/cat"], "split/-/class"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "class/split"),
        (["train/cat", "train/dog"], "-/class"),
        (["cat"], "class"),
        (["", "cat", "dog"], "class"),
    ],
)
def test_what_levels_mean(paths, levels):
    assert "/".join(find_levels(folders(*paths), "set")) == levels


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["train", "test"], ("train", "called like splits", "no class folders")),
        (["train/cat", "train/dog", "test/cat", "more/cat"], ("more", "ingestion.folders")),
        (["train/cat", "test/cat", "x/train/cat", "x/test/cat"], ("x", "called like splits")),
        (["train", "test", "car"], ("car", "called like splits")),
        (["NORMAL", "PNEUMONIA", "test"], ("NORMAL, PNEUMONIA", "called like splits")),
        (["p1/0", "p1/1", "p2/0", "p2/1", "p3/1"], ("p1, p2, p3", "group/class", "(1, 0)")),
        (["cat/images", "cat/masks", "dog/images", "dog/masks"], ("images, masks", "-/class")),
        (["s1/p1/0", "s1/p1/1", "s2/p2/0", "s2/p2/1"], ("0, 1", "group/class")),
        (["train/p1/0", "train/p2/0", "test/p3/0", "test/p4/0"], ("split/group/class",)),
    ],
)
def test_levels_that_are_uncertain_are_refused_with_the_parameter_that_decides(paths, words):
    with pytest.raises(UserError) as caught:
        find_levels(folders(*paths), "set")
    for word in (*words, "ingestion.folders", "set: the folders"):
        assert word in str(caught.value)


NAMES = st.sampled_from(["cat", "dog", "train", "test", "p1", "p2", "0", "1", "x"])


@given(st.lists(st.lists(NAMES, max_size=4).map(tuple), min_size=1, max_size=12))
def test_any_tree_has_levels_with_one_class_or_is_refused(paths):
    levels, refusal = ("class",), "ingestion.folders"
    try:
        levels = find_levels(paths, "set")
    except UserError as error:
        refusal = str(error)
    assert "ingestion.folders" in refusal
    assert levels.count("class") == 1
    assert levels.count("split") <= 1
