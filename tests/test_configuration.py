"""Configuration is read once, and each reader gets its own."""

from pathlib import Path

from tckr.configuration import ConfigLoader


def loader(folder: Path) -> ConfigLoader:
    (folder / "base").mkdir()
    (folder / "local").mkdir()
    (folder / "base/globals.yml").write_text("data: ~/data\n")
    (folder / "base/parameters.yml").write_text("place: ${globals:data}/images\nsizes: [1, 2]\n")
    return ConfigLoader(str(folder), base_env="base", default_run_env="local")


def test_what_a_reader_changes_no_other_reads(tmp_path: Path) -> None:
    found = loader(tmp_path)
    found["parameters"]["sizes"].append(3)
    (tmp_path / "base/parameters.yml").write_text("sizes: [4]\n")  # too late for this run

    assert found["parameters"] == {"place": str(Path.home() / "data/images"), "sizes": [1, 2]}


def test_what_is_set_takes_the_place_of_files(tmp_path: Path) -> None:
    found = loader(tmp_path)
    assert found["parameters"]["sizes"] == [1, 2]
    found["parameters"] = {"place": "~/other"}

    assert found["parameters"] == {"place": str(Path.home() / "other")}
