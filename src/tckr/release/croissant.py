"""The recycled set in Croissant 1.1 (mlcommons.org/croissant/1.1): what dataset search and loaders read.

`croissant.json` lies beside the set, not in it: the set stays byte for byte the folder that was attacked. The file says how the
Parquet files are read, in PROV-O where images and labels come from, and, in a namespace of its own, what is proven and measured:

| `tckr:` property of the dataset | what it is |
| --- | --- |
| `formalGuarantee` | whether differential privacy is proven |
| `epsilon`, `delta`, `mu`, `adjacency`, `largestAuc` | the guarantee of everything that goes; only with one |
| `privacyUnit`, `members` | whose membership was attacked, and how many private images are behind the set |
| `attack` | one `tckr:Attack` for each attack on the set, see `_attack` |
| `certificate` | the file of the release that has all of this and more |
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tckr.release.certificate import Certificate
from tckr.release.policy import ATTACKED, Kind
from tckr.release.publication import NOT_STATED, Publication
from tckr.release.rows import Attack, Row

FILE = "croissant.json"
SET: Kind = "recycled_set"
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
NAMESPACE = "urn:tckr:privacy:"  # documented in docs/release.md
PARQUET = "application/x-parquet"
# The context that Croissant 1.1 recommends (its appendix 1), PROV-O, and our own words.
CR = [
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
]
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{word: f"cr:{word}" for word in CR},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "tckr": NAMESPACE,
}
SYNTHETIC = "https://schema.org/TrainedAlgorithmicMediaDigitalSource"  # C2PA's and IPTC's trainedAlgorithmicMedia
UNDER_DP = ", under differential privacy"
# Columns by name: Croissant's type, what is in it, and what made it.
DRAWN = "drawing by a text-to-image generator"
LABELLED = "labelling by a teacher that was trained on the private images"
COLUMNS: dict[str, tuple[str | list[str], str, str]] = {
    "image": ("sc:ImageObject", "synthetic image, PNG", DRAWN),
    "label": (["sc:Integer", "cr:Label"], "number of the class that was asked for", DRAWN),
    "class_name": ("sc:Text", "name of that class", DRAWN),
    "soft_label": ("cr:Float32", "class probabilities of the image by a teacher", LABELLED),
    "soft_labels": ("cr:Float32", "the same of fixed views of the image", LABELLED),
    "prompt": ("sc:Text", "what the generator was asked for", "captioning of private images"),
    "canary": ("sc:Boolean", "whether the label is wrong on purpose, for an audit", DRAWN),
    "image_id": ("sc:Text", "hash of the pixels", DRAWN),
    "generator": ("sc:Text", "which generator drew the image", DRAWN),
}


def croissant(
    folder: Path, certificate: Certificate, publication: Publication
) -> dict[str, tuple[str, str]]:
    """Return `croissant.json` of a release with a recycled set, and what it is, by its path; nothing without a set.

    Args:
        folder: of the release; the set is there.
        certificate: of the release, with the hashes of its files.
        publication: who hands it out.
    """
    if SET not in certificate.context.things:
        return {}
    about = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        **_about(certificate, publication),
        **_provenance(),
        **_privacy(certificate),
        **_content(folder, certificate),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    return {FILE: (text, "the recycled set in Croissant 1.1, for dataset search and loaders")}


def _about(certificate: Certificate, publication: Publication) -> dict[str, Any]:
    made, data = certificate.governance.made, certificate.data
    creator = publication.creator or NOT_STATED
    return {
        "name": publication.title or f"Recycled set of release {made.release}",
        "description": f"{data.images:,} synthetic images of {len(data.classes)} classes that stand for"
        f" {data.members:,} private ones. What they give away of those was measured: see the attacks listed here and"
        " certificate.html.",
        "identifier": made.release,
        "version": "1.0.0",
        "url": publication.url or f"urn:tckr:release:{made.release}",
        "license": publication.licence_url
        or {"@type": "sc:CreativeWork", "name": f"licence {NOT_STATED}"},
        "creator": {
            "@type": "sc:Organization",
            "name": creator,
            **({"url": publication.url} if publication.url else {}),
        },
        "datePublished": made.made[:10],
        "citeAs": f"{creator}: {publication.title or 'recycled set'}, release {made.release}, made with tckr"
        f" {made.versions.get('tckr', '')}",
        "keywords": ["synthetic data", "image classification", "privacy", "knowledge distillation"],
        "isLiveDataset": False,
    }


def _provenance() -> dict[str, Any]:
    return {
        "digitalSourceType": SYNTHETIC,
        "prov:wasDerivedFrom": {
            "@type": "prov:Entity",
            "prov:label": "private labelled images, which are not published",
        },
        "prov:wasGeneratedBy": _activity(DRAWN),
        "rai:dataLimitations": "Synthetic images: none is a record of anything that was seen.",
        "rai:personalSensitiveInformation": "Drawn by a generator and labelled by a teacher that learnt from private images;"
        " who was among these can be guessed as well as the attacks listed here do.",
    }


def _activity(label: str) -> dict[str, str]:
    return {"@type": "prov:Activity", "prov:label": label}


def _privacy(certificate: Certificate) -> dict[str, Any]:
    """Return what is proven and measured of the set, in our namespace."""
    proven, rows = certificate.proven, certificate.identifiability.rows
    guarantee = (
        {}
        if proven is None
        else {
            "tckr:epsilon": proven.epsilon,
            "tckr:delta": proven.delta,
            "tckr:mu": proven.mu,
            "tckr:adjacency": proven.adjacency,
            "tckr:largestAuc": proven.auc,
        }
    )
    names = [name for name in (*ATTACKED[SET], *ATTACKED["prompts"]) if name in rows]
    goes = [name for name in names if rows[name].goes]
    return {
        "tckr:formalGuarantee": proven is not None,
        **guarantee,
        "tckr:privacyUnit": certificate.data.unit,
        "tckr:members": certificate.data.members,
        "tckr:attack": [_attack(rows[name], one) for name in goes for one in rows[name].attacks],
        "tckr:certificate": "certificate.json",
    }


def _attack(row: Row, one: Attack) -> dict[str, Any]:
    """Return an attack: AUCs, rates and their intervals are shares in [0, 1]; a figure that was not measurable is absent."""
    found = {
        "@type": "tckr:Attack",
        "name": one.label,
        "tckr:attacked": row.title,
        "tckr:attackerHolds": row.attacker,
        "tckr:ofRecord": one.primary,
        "tckr:shows": row.shows,
        "tckr:auc": one.auc.value,
        "tckr:aucLow": one.auc.low,
        "tckr:aucHigh": one.auc.high,
        "tckr:confidence": one.auc.confidence,
        "tckr:tpr": one.tpr.value,
        "tckr:fpr": one.tpr.fpr,
        "tckr:epsilonLowerBound": one.epsilon,
        "tckr:attackedMembers": row.n_members,
        "tckr:attackedOthers": row.n_non_members,
        "tckr:shadows": row.n_shadows,
    }
    return {name: value for name, value in found.items() if value is not None}


def _content(folder: Path, certificate: Certificate) -> dict[str, Any]:
    """Return the files, and how each is read: a record set for each split, and one of the classes."""
    files = sorted((folder / SET / "data").glob("*.parquet"))
    paths = [file.relative_to(folder).as_posix() for file in files]
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": file.name,
            "contentUrl": path,
            "contentSize": f"{file.stat().st_size} B",
            "encodingFormat": PARQUET,
            "sha256": certificate.data.files[path],
        }
        for file, path in zip(files, paths, strict=True)
    ]
    classes = {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "names of the classes by number",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [
            {"@type": "cr:Field", "@id": "classes/label", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": "classes/name", "dataType": "sc:Text"},
        ],
        "data": [
            {"classes/label": number, "classes/name": name}
            for number, name in enumerate(certificate.data.classes)
        ],
    }
    records = [
        {
            "@type": "cr:RecordSet",
            "@id": file.stem.partition("-")[0],
            "name": file.stem.partition("-")[0],
            "description": f"{pq.read_metadata(file).num_rows:,} images",
            "field": list(_fields(path, pq.read_schema(file), certificate.proven is not None)),
        }
        for file, path in zip(files, paths, strict=True)
    ]
    return {"distribution": objects, "recordSet": [classes, *records]}


def _fields(path: str, schema: pa.Schema, private: bool) -> Iterator[dict[str, Any]]:
    """Yield how each column is read, and what made it."""
    split = Path(path).stem.partition("-")[0]
    for column in schema:
        kind, what, by = COLUMNS.get(
            column.name, (_kind(column.type), f"column {column.name}", DRAWN)
        )
        source: dict[str, Any] = {
            "fileObject": {"@id": path},
            "extract": {"column": column.name},
        }
        if column.name == "image":
            source["transform"] = {"jsonPath": "bytes"}
        depth = _depth(column.type)
        yield {
            "@type": "cr:Field",
            "@id": f"{split}/{column.name}",
            "name": column.name,
            "description": what,
            "dataType": kind,
            **({"isArray": True, "arrayShape": ",".join(["-1"] * depth)} if depth else {}),
            **(
                {"references": {"field": {"@id": "classes/label"}}}
                if column.name == "label"
                else {}
            ),
            "source": source,
            "prov:wasGeneratedBy": _activity(by + (UNDER_DP if private else "")),
        }


def _depth(kind: pa.DataType) -> int:
    """Return how many lists lie in one another."""
    return 1 + _depth(kind.value_type) if pa.types.is_list(kind) else 0


def _kind(kind: pa.DataType) -> str:
    """Return Croissant's name of a type."""
    if pa.types.is_list(kind):
        return _kind(kind.value_type)
    for holds, name in (
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
    ):
        if holds(kind):
            return name
    return "sc:Text"
