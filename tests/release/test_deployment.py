"""A private release's record has what the registry's schema asks for, and the ledger's figures."""

from pathlib import Path
from typing import Any

import yaml

from release.test_release import spent
from releases import released
from tckr.release.publication import Publication

# Required fields, and words that the registry's schema allows (opendp/deployments-registry-data, schemas/).
REQUIRED = {
    "basic": (
        *("name", "data_curators", "description", "intended_use"),
        *("data_product_type", "data_product_region", "publication_date"),
    ),
    "administrative": ("status", "registry_authors", "tier"),
}
FIELDS = {
    "basic": {*REQUIRED["basic"], "data_product_sector"},
    "dp_variant": {"variant_name", "data_domain", "unprotected_quantities"},
    "privacy_loss": {
        *("privacy_unit", "privacy_unit_details", "number_of_privacy_units"),
        *("privacy_parameters", "privacy_parameters_details"),
    },
    "deployment_model": {
        *("model_name", "model_name_details", "trust_assumptions", "actors", "release_type"),
        *("release_type_details", "data_source_type", "data_source_type_details"),
        *("access_type", "access_type_details"),
    },
    "implementation": {
        *("preprocessing_and_hyperparameter_tuning", "mechanisms", "composition"),
        *("post_processing", "justification", "utility", "additional_information"),
    },
    "administrative": {*REQUIRED["administrative"], "evidence_sources"},
}
WORDS = {
    ("basic", "data_product_type"): {
        *("Summary statistics", "Machine learning model", "Dataset"),
        *("Synthetic data", "Interactive API", "SQL queries"),
    },
    ("basic", "data_product_sector"): {
        *("Technology", "Healthcare", "Education", "Government", "Energy", "Finance"),
    },
    ("dp_variant", "variant_name"): {
        *("Pure DP", "Approximate DP", "Zero-concentrated DP", "Renyi DP", "Custom"),
    },
    ("deployment_model", "model_name"): {"Local", "Central", "Shuffle", "Federated", "Varies"},
    ("deployment_model", "release_type"): {"One release", "Many releases"},
    ("deployment_model", "data_source_type"): {"Static", "Dynamic"},
    ("deployment_model", "access_type"): {"Interactive", "Non-interactive"},
}


def record(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "deployment.yml").read_text()))


def test_it_has_the_fields_and_words_of_the_registry(tmp_path: Path) -> None:
    released(tmp_path, ledger=spent())
    found = record(tmp_path)

    assert set(found) == {"url_slug", "deployment"}
    assert found["url_slug"] == "bags-boots-2026-01-02t00-00-00-000z"
    groups = found["deployment"]
    assert set(groups) == set(FIELDS)
    for group, fields in FIELDS.items():
        assert set(groups[group]) <= fields
        assert set(REQUIRED.get(group, ())) <= set(groups[group])
    for (group, name), words in WORDS.items():
        assert groups[group][name] in words
    (curator,) = groups["basic"]["data_curators"]
    assert curator == {"data_curator_name": "Clinic of Boots", "data_curator_type": "Nonprofit"}
    assert "To be filled in" not in (tmp_path / "deployment.yml").read_text()


def test_its_figures_are_the_ledgers(tmp_path: Path) -> None:
    proven = released(tmp_path, ledger=spent()).proven
    assert proven is not None
    groups = record(tmp_path)["deployment"]

    assert groups["privacy_loss"]["privacy_parameters"] == {
        "epsilon": proven.epsilon,
        "delta": proven.delta,
    }
    assert groups["privacy_loss"]["number_of_privacy_units"] == 3000
    assert "without noise" in groups["dp_variant"]["unprotected_quantities"]
    assert "teacher: gaussian" in groups["implementation"]["mechanisms"]
    assert "80.0 %" in groups["implementation"]["utility"]
    assert "f" * 64 not in (tmp_path / "deployment.yml").read_text()  # the private set's hash


def test_what_the_owner_has_to_fill_in_is_named(tmp_path: Path) -> None:
    released(tmp_path, Publication(creator="Clinic"), ledger=spent())
    text = (tmp_path / "deployment.yml").read_text()

    assert "# To be filled in before it is sent: data_curator_type, intended_use," in text
    assert "data_curator_name" not in text.partition("\nurl_slug")[0]


def test_a_release_without_a_guarantee_has_none(tmp_path: Path) -> None:
    released(tmp_path)

    assert not (tmp_path / "deployment.yml").exists()
