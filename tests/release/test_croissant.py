"""The set's Croissant file passes MLCommons' own validator, opens the set, and repeats the certificate's figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release.test_release import spent
from releases import PATTERN, STATED, released
from tckr.release.certificate import Certificate
from tckr.release.croissant import CONFORMS_TO, croissant
from tckr.release.manifest import sha256_of
from tckr.release.publication import Publication


def written(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "croissant.json").read_text()))


def test_mlcommons_validator_accepts_it_and_reads_the_images(tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    released(tmp_path)
    dataset = mlc.Dataset(str(tmp_path / "croissant.json"))

    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    assert dataset.metadata.ctx.is_v1_1()
    rows = list(dataset.records("train"))
    assert [row["train/class_name"] for row in rows] == [b"bag", b"bag", b"boot"]
    assert [row["train/canary"] for row in rows] == [False, True, False]
    assert np.asarray(rows[0]["train/soft_label"]).tolist() == [0.75, 0.25]
    assert np.array_equal(np.asarray(rows[0]["train/image"]), PATTERN[0, 0])
    assert [row["classes/name"] for row in dataset.records("classes")] == ["bag", "boot"]


def test_an_unstated_publication_is_valid_too(tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    released(tmp_path, Publication())
    issues = mlc.Dataset(str(tmp_path / "croissant.json")).metadata.ctx.issues

    assert not issues.errors
    assert not issues.warnings


def test_it_says_where_images_and_labels_come_from_and_what_was_measured(tmp_path: Path) -> None:
    certificate = released(tmp_path)
    found = written(tmp_path)

    assert found["conformsTo"] == CONFORMS_TO
    assert found["license"] == "https://spdx.org/licenses/CC-BY-4.0"
    assert "TrainedAlgorithmicMedia" in found["digitalSourceType"]
    (file,) = found["distribution"]
    assert file["sha256"] == sha256_of(tmp_path / file["contentUrl"])
    (train,) = [one for one in found["recordSet"] if one["@id"] == "train"]
    by = {one["name"]: one["prov:wasGeneratedBy"]["prov:label"] for one in train["field"]}
    assert "generator" in by["image"]
    assert by["soft_label"] == "labelling by a teacher that was trained on the private images"
    assert found["tckr:formalGuarantee"] is False
    assert "tckr:epsilon" not in found
    row = certificate.identifiability.rows["released"]
    assert [one["name"] for one in found["tckr:attack"]] == [one.label for one in row.attacks]
    (record,) = [one for one in found["tckr:attack"] if one["tckr:ofRecord"]]
    assert record["tckr:aucHigh"] == row.primary.auc.high


def test_a_guarantee_is_in_it(tmp_path: Path) -> None:
    proven = released(tmp_path, ledger=spent()).proven
    assert proven is not None
    found = written(tmp_path)

    assert found["tckr:formalGuarantee"] is True
    assert (found["tckr:epsilon"], found["tckr:delta"]) == (proven.epsilon, proven.delta)
    label = found["recordSet"][1]["field"][-2]
    assert label["prov:wasGeneratedBy"]["prov:label"].endswith("under differential privacy")


def test_every_word_of_our_namespace_is_documented(tmp_path: Path) -> None:
    released(tmp_path, ledger=spent())
    text = (tmp_path / "croissant.json").read_text()
    documented = (Path(__file__).parents[2] / "docs/release.md").read_text()
    words = {part.partition('"')[0] for part in text.split('"tckr:')[1:]}

    assert {"epsilon", "attack", "aucHigh"} < words
    assert not [word for word in words if f"`{word}`" not in documented.replace("tckr:", "")]


def test_a_release_without_a_set_has_none(tmp_path: Path) -> None:
    certificate = released(tmp_path)
    context = certificate.context.model_copy(update={"things": ("student",)})
    alone: Certificate = certificate.model_copy(update={"context": context})

    assert not croissant(tmp_path, alone, STATED)
