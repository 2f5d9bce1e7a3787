import json

import pytest

from tckr.errors import UserError
from tckr.images.options import IngestionOptions
from tckr.images.readers import read


def listed(path, **options):
    table = read(path, IngestionOptions(**options))
    return table, [(image.content, image.label, image.split, image.group) for image in table.images]


def refused(path, *words, **options):
    with pytest.raises(UserError) as caught:
        list(read(path, IngestionOptions(**options)).images)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.fixture
def pictures(tmp_path, encoded):
    """Write images at these paths below the temporary folder."""

    def write(*names):
        for number, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(encoded(number))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "path,label\n1.png,a\n2.png,b\n",
        "path,label\n1.png,a,\n2.png,b,\n",
        "path,label,\n1.png,a,\n2.png,b,\n",
        "path,label\n1.png,a,\n2.png,b\n",
        "path,label,note\n1.png,a\n2.png,b\n",
        "sep=;\npath;label\n1.png;a\n2.png;b\n",
        "\ufeffpath;label\r\n1.png;a\r\n2.png;b\r\n",
        'path, label\n"1.png", "a"\n2.png , b \n',
        "path\tlabel\n1.png\ta\n\n2.png\tb\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_flavours_of_csv(pictures, text, encoding):
    root = pictures("1.png", "2.png")
    (root / "set.csv").write_text(text, encoding=encoding)
    table, rows = listed(root)
    assert rows == [(root / "1.png", "a", "pool", None), (root / "2.png", "b", "pool", None)]
    assert table.format == "CSV of paths and labels"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,label\n1.png,a,b\n", "row 1 has 3 cells"),
        (b"path,label\n1.png,caf\xe9\n", "UTF-8"),
        (b'path,label\n"1.png,a\n', "cannot be read"),
        (b"path,label\n1.png,\x00\n\x00\n", ""),
        (b"path,label\n", "no rows"),
        (b"", "no rows"),
    ],
)
def test_csv_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "set.csv").write_bytes(content)
    if words:
        refused(tmp_path / "set.csv", words, "set.csv")


def test_names_of_files_as_people_write_them(pictures):
    root = pictures("img/a/1.png", "part_1/ISIC_01.jpg", "part_2/ISIC_02.jpg", "x/deep.name.png")
    names = ["img\\a\\1.png", "./img/a/1.png", "img/a/1", "ISIC_01", "ISIC_02.jpg", "deep.name"]
    lines = "\n".join(f"{name},{label}" for name, label in zip(names, "abcdef", strict=True))
    (root / "set.csv").write_text(f"image_id,dx\n{lines}\n")
    _, rows = listed(root, image_column="image_id", label_column="dx")
    assert [content.relative_to(root).as_posix() for content, *_ in rows] == [
        "img/a/1.png",
        "img/a/1.png",
        "img/a/1.png",
        "part_1/ISIC_01.jpg",
        "part_2/ISIC_02.jpg",
        "x/deep.name.png",
    ]
    # Without the names of columns: what a column holds shows that this is a list, but not which column is the class.
    refused(root, "Labels are missing", "ingestion.label_column", "ingestion.folders")


def test_a_name_that_may_be_two_files_is_refused(pictures):
    root = pictures("one/1.png", "two/1.png")
    (root / "set.csv").write_text("path,label\n1,a\n")
    refused(root, "one/1.png", "two/1.png")
    (root / "set.csv").write_text("path,label\nmissing.png,a\n")
    assert not listed(root)[1][0][0].exists()


def test_lists_that_leave_their_folder(pictures):
    root = pictures("in/1.png", "2.png")
    for name in ("../2.png", str(root / "2.png"), "..\\2.png"):
        (root / "in" / "set.csv").write_text(f"path,label\n1.png,a\n{name},b\n")
        if "\\" not in name:
            refused(root / "in" / "set.csv", "outside", "ingestion.allow_outside")
            _, rows = listed(root / "in" / "set.csv", allow_outside=True)
            assert rows[1][0] == root / "2.png"
        else:
            refused(root / "in" / "set.csv", "outside")


def test_columns_of_splits_and_people(pictures):
    root = pictures("1.png", "2.png", "3.png")
    (root / "set.csv").write_text(
        "path,label,Usage,patient\n1.png,a,Training,x\n2.png,b,PublicTest,y\n3.png,b,PrivateTest,\n"
    )
    _, rows = listed(root, split_column="Usage", group_column="patient")
    assert [row[2:] for row in rows] == [("pool", "x"), ("test", "y"), ("test", None)]
    _, rows = listed(root, split_column="Usage", test_split="PrivateTest")
    assert [row[2] for row in rows] == ["pool", "pool", "test"]
    (root / "set.csv").write_text("path,label,split\n1.png,a,0\n2.png,b,1\n")
    refused(root, "the split '0'", "ingestion.test_split")
    assert [row[2] for row in listed(root, test_split="1")[1]] == ["pool", "test"]
    refused(root, "no column 'patient'", "group_column", group_column="patient", test_split="1")


def test_a_csv_that_lists_no_images_does_not_hide_the_class_folders(pictures):
    root = pictures("ant/1.png", "bee/2.png")
    (root / "classes.csv").write_text("id,name\n0,ant\n1,bee\n")
    (root / "broken.csv").write_bytes(b"\xff\xff\x00")
    table, rows = listed(root)
    assert [row[1] for row in rows] == ["ant", "bee"]
    assert table.left_out == ("files that are no images: 2 .csv",)


def test_a_list_wins_over_folders_unless_these_are_said_to_be_the_classes(pictures):
    root = pictures("images_1/1.png", "images_2/2.png", "images_2/3.png")
    (root / "set.csv").write_text("path,label\nimages_1/1.png,a\nimages_2/2.png,b\n")
    table, rows = listed(root)
    assert [row[1] for row in rows] == ["a", "b"]
    assert table.left_out == ("files that are no images: 1 .csv", "images that no list names: 1")
    assert [row[1] for row in listed(root, folders="class")[1]] == [
        "images_1",
        "images_2",
        "images_2",
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_metadata_beside_the_images_of_each_split(pictures, suffix):
    root = pictures("train/1.png", "train/2.png", "test/3.png")
    for split, rows in {
        "train": [("1.png", "cat"), ("2.png", "dog")],
        "test": [("3.png", "cat")],
    }.items():
        if suffix == "csv":
            text = "file_name,label\n" + "\n".join(",".join(row) for row in rows)
        else:
            text = "\n".join(json.dumps({"file_name": one, "label": label}) for one, label in rows)
        (root / split / f"metadata.{suffix}").write_text(text)
    _, rows = listed(root)
    assert sorted(rows) == [
        (root / "test/3.png", "cat", "test", None),
        (root / "train/1.png", "cat", "pool", None),
        (root / "train/2.png", "dog", "pool", None),
    ]
    _, wrapped = listed(root.parent) if len(list(root.parent.iterdir())) == 1 else (None, rows)
    assert len(wrapped) == 3


def test_lists_of_splits_by_their_names(pictures):
    root = pictures("1.png", "2.png", "3.png")
    (root / "train.csv").write_text("path,label\n1.png,a\n2.png,b\n")
    (root / "test.csv").write_text("path,label\n3.png,a\n")
    assert sorted(row[2] for row in listed(root)[1]) == ["pool", "pool", "test"]
    (root / "test.csv").write_text("path\n3.png\n")
    assert [row[2] for row in listed(root)[1]] == ["pool", "pool"]
    (root / "test.csv").write_text("path,label\n3.png,0\n")
    refused(root, "numbers only")


def test_dataset_json_of_stylegan(pictures):
    root = pictures("00000/1.png", "00000/2.png", "00001/3.png")
    entries = [["00000/1.png", 0], ["00000/2.png", 1], ["00001/3.png", 0]]
    for labels in (entries, dict(entries)):
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
        table, rows = listed(root)
        assert (table.format, [row[1] for row in rows]) == ("dataset.json", ["0", "1", "0"])
    (root / "dataset.json").write_text(json.dumps({"labels": None}))
    refused(root, "Labels are missing", "dataset.json", "ingestion.folders")
    (root / "dataset.json").write_text(json.dumps({"labels": [["../x.png", 0]]}))
    refused(root, "outside")


def test_several_labels_in_one_cell(pictures):
    root = pictures("1.png", "2.png")
    (root / "set.csv").write_text('path,label\n1.png,"[0, 2]"\n2.png,[0]\n')
    refused(root, "several labels per image")
