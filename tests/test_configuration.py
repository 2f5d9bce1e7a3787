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


def test_a_mixture_carries_the_parameters_of_the_arms_that_it_names(tmp_path: Path) -> None:
    loader(tmp_path)
    (tmp_path / "base/parameters.yml").write_text(
        "knowledge_recycling: {mixture: [{arm: unadapted}, {seed: 1}]}\n"
        "unadapted: {knowledge_recycling: {generator: ~/model, cardinality: 2}}\n"
    )
    given = {"unadapted": {"knowledge_recycling": {"resolution": 8}}}
    found = ConfigLoader(
        str(tmp_path), base_env="base", default_run_env="local", runtime_params=given
    )
    (other, again) = found["parameters"]["knowledge_recycling"]["mixture"]

    carried = {"generator": str(Path.home() / "model"), "resolution": 8}
    assert other == {"arm": "unadapted", "parameters": {"knowledge_recycling": carried}}
    assert again == {"seed": 1}


def test_what_is_set_takes_the_place_of_files(tmp_path: Path) -> None:
    found = loader(tmp_path)
    assert found["parameters"]["sizes"] == [1, 2]
    found["parameters"] = {"place": "~/other"}

    assert found["parameters"] == {"place": str(Path.home() / "other")}
