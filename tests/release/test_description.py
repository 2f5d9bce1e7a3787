"""Cards and metadata follow from the certificate: they are the same in two runs, and what differs from it is found."""

import json
from pathlib import Path

import pytest

from release.test_release import forged, refusal, spent
from releases import released
from tckr.release.bundle import files_below
from tckr.release.verify import verify
from tckr.reporting.certificate import write_certificate

FILES = ("croissant.json", "deployment.yml", "student/README.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    released(tmp_path, ledger=spent())
    return tmp_path


def test_an_untouched_release_passes_and_its_manifest_says_what_each_file_is(folder: Path) -> None:
    found = verify(folder, write_certificate)
    files = json.loads((folder / "manifest.json").read_text())["files"]

    assert "cards" in " ".join(found.recomputed)
    assert all(files[path]["what"] for path in FILES)
    assert "| `croissant.json` |" in (folder / "README.md").read_text()


def test_two_equal_releases_are_equal_in_every_byte(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    released(again, ledger=spent())
    same = {
        path: (folder / path).read_bytes() == (again / path).read_bytes()
        for path in files_below(again, again)
    }

    assert set(FILES) < set(same)
    timed = {"certificate.json", "certificate.html", "ledger.json", "manifest.json"}
    assert {path for path, equal in same.items() if not equal} <= timed  # when a mechanism was run


@pytest.mark.parametrize(
    ("path", "said", "instead"),
    [
        ("croissant.json", '"tckr:epsilon": 3.9', '"tckr:epsilon": 0.9'),
        ("deployment.yml", "epsilon: 3.9", "epsilon: 0.9"),
        ("student/README.md", "80.0 %", "99.0 %"),
    ],
)
def test_an_edited_figure_is_named_even_if_the_manifest_is_made_to_agree(
    folder: Path, path: str, said: str, instead: str
) -> None:
    text = (folder / path).read_text()
    assert said in text
    (folder / path).write_text(text.replace(said, instead))
    forged(folder, path)

    assert f"{path} does not say what certificate.json says" in refusal(folder)


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_was_taken_out_of_the_manifest_too_is_named(folder: Path, path: str) -> None:
    (folder / path).unlink()
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    del content["files"][path]
    file.write_text(json.dumps(content))

    assert f"{path} does not say what certificate.json says" in refusal(folder)
