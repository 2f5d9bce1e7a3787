"""A release under differential privacy as a record of OpenDP's deployments registry.

The record follows `schemas/deployments-schema.yaml` of github.com/opendp/deployments-registry-data as of 2026 (research by Ghazi,
Nanayakkara and Vadhan, arXiv 2509.13509). It is a draft: the owner fills in what no run can know (`publication` of the parameters
does so) and sends it as a pull request. A release without a guarantee has no record: the registry is of private ones.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tckr.audit.proven import Guarantee
from tckr.release.certificate import Certificate
from tckr.release.policy import TITLES
from tckr.release.publication import NOT_STATED, Publication

FILE = "deployment.yml"
HEAD = """\
# Draft of a record for the Differential Privacy Deployments Registry (github.com/opendp/deployments-registry-data).
"""
MISSING = """\
# To be filled in before it is sent: {what}.
"""


def deployment(
    folder: Path, certificate: Certificate, publication: Publication
) -> dict[str, tuple[str, str]]:
    """Return `deployment.yml` of a release with a formal guarantee, and what it is, by its path; nothing without one.

    Args:
        folder: of the release; not read.
        certificate: of the release.
        publication: who hands it out.
    """
    del folder
    proven = certificate.proven
    if proven is None:
        return {}
    record = {
        "url_slug": _slug(publication, certificate),
        "deployment": {
            "basic": _basic(certificate, publication),
            "dp_variant": _variant(proven),
            "privacy_loss": _loss(proven),
            "deployment_model": _model(publication),
            "implementation": _implementation(certificate, proven),
            "administrative": {
                "status": "Draft",
                "registry_authors": [publication.creator or NOT_STATED],
                "tier": 3,
            },
        },
    }
    missing = list(_missing(publication))
    head = HEAD + (MISSING.format(what=", ".join(missing)) if missing else "")
    text = yaml.dump(record, Dumper=_Lines, sort_keys=False, allow_unicode=True, width=10_000)
    return {FILE: (head + text, "draft of a record for OpenDP's registry of deployments")}


def _missing(publication: Publication) -> Iterator[str]:
    """Yield the registry's names of what the publication does not say."""
    for field, name in {
        "creator": "data_curator_name",
        "creator_type": "data_curator_type",
        "intended_use": "intended_use",
        "region": "data_product_region",
        "sector": "data_product_sector",
    }.items():
        if getattr(publication, field) is None:
            yield name


def _slug(publication: Publication, certificate: Certificate) -> str:
    name = f"{publication.title or 'tckr'} {certificate.governance.made.release}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _basic(certificate: Certificate, publication: Publication) -> dict[str, Any]:
    made, data = certificate.governance.made, certificate.data
    curator = {"data_curator_name": publication.creator or NOT_STATED}
    if publication.creator_type:
        curator["data_curator_type"] = publication.creator_type
    things = certificate.context.things
    draws = "recycled_set" in things
    found = {
        "name": publication.title or f"Release {made.release}",
        "data_curators": [curator],
        "description": f"Stands for {data.members:,} private images of {len(data.classes)} classes, which do not go:"
        f" {', '.join(TITLES[thing] for thing in things)}."
        + (f" The set has {data.images:,} synthetic images." if draws else ""),
        "intended_use": publication.intended_use or NOT_STATED,
        "data_product_type": "Synthetic data" if draws else "Machine learning model",
        "data_product_region": publication.region or NOT_STATED,
    }
    if publication.sector:
        found["data_product_sector"] = publication.sector
    return {**found, "publication_date": made.made[:10]}


def _variant(proven: Guarantee) -> dict[str, str]:
    public = [f"{each.what}: {each.why}" for each in proven.declarations if each.how == "public"]
    return {
        "variant_name": "Approximate DP",
        "data_domain": "Finite sets of labelled images of the classes that the release names.",
        "unprotected_quantities": _list(
            [
                f"the number of private images, {proven.n:,}",
                "accuracies and attacks in the certificate, which were counted on private images without noise",
                *public,
            ]
        ),
    }


def _loss(proven: Guarantee) -> dict[str, Any]:
    return {
        "privacy_unit": "image",
        "privacy_unit_details": f"Neighbouring private sets: {proven.adjacency}. A person with several images is protected for"
        " each of them alone.",
        "number_of_privacy_units": proven.n,
        "privacy_parameters": {"epsilon": proven.epsilon, "delta": proven.delta},
        "privacy_parameters_details": f"Of all mechanisms together, as private as a Gaussian mechanism with mu {proven.mu:.4g}:"
        f" no test for one image has an AUC above {proven.auc:.4f}. The budget asked for was epsilon {proven.total_epsilon:g}.",
    }


def _model(publication: Publication) -> dict[str, str]:
    return {
        "model_name": "Central",
        "actors": _list(
            [
                f"{publication.creator or 'whoever hands it out'}: holds the private images and ran everything that read them",
                "whoever gets the release: holds all of it, and is taken to know every private image but one",
            ]
        ),
        "release_type": "One release",
        "release_type_details": "Another release made of the same private images adds to the privacy loss.",
        "data_source_type": "Static",
        "access_type": "Non-interactive",
    }


def _implementation(certificate: Certificate, proven: Guarantee) -> dict[str, str]:
    made, share = certificate.governance.made, certificate.use.accuracy
    absent = [f"{each.what}: {each.why}" for each in proven.declarations if each.how == "absent"]
    utility = (
        "not measured"
        if share is None or share.value is None
        else f"Accuracy {100 * share.value:.1f} % on {certificate.use.n_test:,} private test images of a classifier that was"
        " trained on the synthetic images alone."
    )
    return {
        "preprocessing_and_hyperparameter_tuning": _list(
            absent or ["no decision that read private images is part of the release uncharged"]
        ),
        "mechanisms": _list(
            [
                f"{each.name}: {each.mechanism}, noise multiplier {each.noise_multiplier:.4g}, sampling rate"
                f" {each.sampling_rate:.4g}, {each.steps:,} steps, L2 sensitivity {each.sensitivity:.4g} ({each.why})"
                for each in proven.entries
            ]
            + [
                f"tckr {made.versions.get('tckr', '')}, commit {made.commit}; noise from the operating system's entropy"
            ]
        ),
        "composition": "Exact for Gaussians (mu adds up as squares, Dong, Roth and Su, arXiv 1905.02383), by privacy loss"
        " distributions for subsampled ones (Google's dp-accounting, Doroshenko et al., arXiv 2207.04380).",
        "post_processing": "Drawing the images, choosing among them and labelling them read what the mechanisms made, and no"
        " private image.",
        "justification": "Membership inference was run against everything that goes; no measured lower bound of epsilon may"
        " exceed the proven epsilon, or the release is refused.",
        "utility": utility,
        "additional_information": "certificate.json and ledger.json of the release; kedro run --pipeline=verify_release"
        " computes the guarantee again from them.",
    }


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


class _Lines(yaml.SafeDumper):
    """Writes a text of several lines as lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Lines.add_representer(str, _text)
