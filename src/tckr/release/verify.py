"""Verify a release: that every file is what was written, and every figure that needs no private data is right."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from tckr import __version__
from tckr.audit.attack_results import Result, Roc
from tckr.audit.guarantee import certified_aop
from tckr.dp.accounting import Mechanism, gaussian_mu, mu, total_epsilon
from tckr.dp.trade_off import trade_off
from tckr.errors import UserError
from tckr.release.bundle import CERTIFICATE, PAGE, files_below
from tckr.release.certificate import Certificate, accuracy_interval, limit, mechanisms
from tckr.release.description import changed
from tckr.release.manifest import MANIFEST, ReleaseManifest, sha256_of
from tckr.release.policy import clauses, upper_aucs
from tckr.release.rows import Row, aop
from tckr.release.signing import SIGNATURE, Signature, SignatureError, check_signature

LEDGER, SET = "ledger.json", "recycled_set"
# Another version of dp-accounting may round otherwise.
SLACK = 1e-3
RECOMPUTED = (
    "SHA-256 of every file, and that there is no other",
    "number of images of the set, and of each class",
    "accuracy over privacy of each attack, from accuracy and AUC",
    "interval of the accuracy, from its value and the number of test images",
    "epsilon, mu, the largest AUC and rates of the guarantee and its curve, from the ledger's entries",
    "that each ROC curve has the area that is stated",
    "every clause of the policy",
    "the page, the cards, croissant.json and deployment.yml, from the certificate",
)


class Verified(Result):
    """What was verified of a release."""

    release: str = Field(description="its identifier")
    folder: str = Field(description="that was verified")
    manifest_sha256: str = Field(description="of the manifest itself, to compare by another way")
    signed: bool = Field(description="whether a signature stands for the manifest")
    signature: Signature | None = Field(None, description="whose; None: it is not signed")
    files: int = Field(description="files whose hashes agree")
    recomputed: tuple[str, ...] = Field(description="what was computed again and agrees")
    needs_private_data: tuple[str, ...] = Field(
        description="figures that nobody can check from this folder"
    )

    @property
    def sentences(self) -> list[str]:
        """Return the outcome in words."""
        return [
            f"{self.folder}: {self.files} files are what release {self.release} wrote, and every figure that needs no"
            " private data is right.",
            f"SHA-256 of its manifest, which is {'not signed' if self.signature is None else self.signature.described}:"
            f" {self.manifest_sha256}",
            f"Not verified, since it needs private data: {'; '.join(self.needs_private_data)}.",
        ]


def verify(
    folder: Path, page: Callable[[Certificate], str], signer: Path | None = None
) -> Verified:
    """Verify a release.

    Args:
        folder: of the release.
        page: draws a certificate as HTML.
        signer: PEM file of issuers that must have certified the signer (`tckr.release.signing`); None: a signature is checked, and its signer named.

    Raises:
        UserError: it is no release, or not as it was written; names every file and every figure that differs.
    """
    manifest = ReleaseManifest.load(folder)
    signature, unsigned = _signature(folder, manifest, signer)
    wrong = [*unsigned, *_files(folder, manifest)]
    wrong += _figures(folder, manifest, page)
    if wrong:
        raise UserError(
            f"{folder} is not what release {manifest.made.release} wrote: {'; '.join(wrong)}.",
            "get it again from whoever made it; do not use this one.",
        )
    certificate = _certificate(folder)
    return Verified(
        release=manifest.made.release,
        folder=str(folder),
        manifest_sha256=sha256_of(folder / MANIFEST),
        signed=manifest.signed,
        signature=signature,
        files=len(manifest.files),
        recomputed=RECOMPUTED,
        needs_private_data=certificate.governance.needs_private_data,
    )


def _signature(
    folder: Path, manifest: ReleaseManifest, signer: Path | None
) -> tuple[Signature | None, list[str]]:
    """Return whose signature stands for the manifest, and what is wrong with it."""
    if not manifest.signed:
        return None, [] if signer is None else [f"{MANIFEST} is not signed, and {signer} is given"]
    try:
        return check_signature(folder, signer), []
    except SignatureError as error:
        return None, [str(error)]


def _files(folder: Path, manifest: ReleaseManifest) -> Iterator[str]:
    """Yield what is wrong with the files."""
    there = set(files_below(folder, folder)) - {MANIFEST, *([SIGNATURE] if manifest.signed else [])}
    for path, file in manifest.files.items():
        if path not in there:
            yield f"{path} is missing"
        elif sha256_of(folder / path) != file.sha256:
            yield f"{path} was changed"
    yield from (f"{path} was added" for path in sorted(there - manifest.files.keys()))
    yield from (
        f"{one.relative_to(folder).as_posix()} is a link"
        for one in sorted(folder.rglob("*"))
        if one.is_symlink()
    )


def _figures(
    folder: Path, manifest: ReleaseManifest, page: Callable[[Certificate], str]
) -> Iterator[str]:
    """Yield which figures are not what follows from the others."""
    try:
        found = _certificate(folder)
    except (OSError, ValidationError, ValueError):
        yield f"{CERTIFICATE} is no readable certificate"
        return
    if found.governance.made != manifest.made:
        yield f"{CERTIFICATE} and {MANIFEST} are of different runs"
    for path, digest in found.data.files.items():
        if path not in manifest.files or manifest.files[path].sha256 != digest:
            yield f"{CERTIFICATE} and {MANIFEST} disagree about {path}"
    page_file = folder / PAGE
    if page_file.is_file() and page_file.read_text("utf-8", "replace") != page(found):
        yield f"{PAGE} does not say what {CERTIFICATE} says{_other_version(found)}"
    if manifest.publication is not None:
        try:
            yield from (
                f"{path} does not say what {CERTIFICATE} says{_other_version(found)}"
                for path in changed(folder, found, manifest.publication)
            )
        except (OSError, ValueError, KeyError):
            yield "the cards cannot be drawn again"
    yield from (f"{CERTIFICATE}: {what} is not what follows" for what in _derived(folder, found))


def _other_version(found: Certificate) -> str:
    """Say which version drew page and cards, where that is not this one."""
    drawn_by = found.governance.made.versions.get("tckr")
    return (
        ""
        if drawn_by == __version__
        else f" as tckr {__version__} draws it: verify it with {drawn_by}"
    )


def _derived(folder: Path, found: Certificate) -> Iterator[str]:
    """Yield the names of figures that are computed from others, and differ from them."""
    rows, proven = found.identifiability.rows, found.proven
    accuracy, share = found.use.accuracy, None
    if accuracy is not None and accuracy.value is not None:
        again = accuracy_interval(100 * accuracy.value, found.use.n_test, accuracy.confidence)
        if not _near((accuracy.low, accuracy.high), (again.low, again.high)):
            yield "use.accuracy"
        share = 100 * accuracy.value
        if not _near(found.use.certified_aop, certified_aop(share, proven)):
            yield "use.certified_aop"
    for name, row in rows.items():
        yield from (f"identifiability.rows.{name}.{what}" for what in _attacked(row))
    for name in ("student", "weights"):
        if name in rows and share is not None and not _near(rows[name].accuracy, share):
            yield f"identifiability.rows.{name}.accuracy"
    uppers = upper_aucs(found.context.things, rows, proven)
    stated = found.identifiability.upper_auc
    if stated.keys() != uppers.keys() or not _near([*stated.values()], [*uppers.values()]):
        yield "identifiability.upper_auc"
    held_to = clauses(found.context.policy, found.context.things, rows, proven, share)
    for clause, again_clause in zip(found.context.clauses, held_to, strict=False):
        same = clause.holds == again_clause.holds and clause.limit == again_clause.limit
        if not (same and clause.holds and _near(clause.found, again_clause.found)):
            yield f"context.clauses.{again_clause.name}"
    yield from _proven(folder, found)
    yield from _counted(folder, found)


def _attacked(row: Row) -> Iterator[str]:
    """Yield the figures of a row that contradict one another."""
    for one in row.attacks:
        if not one.auc.low <= one.auc.value <= one.auc.high:
            yield f"attacks.{one.name}.auc"
        if row.accuracy is not None and not _near(one.aop, aop(row.accuracy, one.auc)):
            yield f"attacks.{one.name}.aop"
    if row.roc is not None and not _has_area(row.roc, row.primary.auc.value):
        yield "roc"


def _has_area(curve: Roc, auc: float) -> bool:
    """Whether a curve that rises through these points can have this area: it is between their lower and upper sums."""
    fpr, tpr = np.array([0.0, *curve.fpr]), np.array([0.0, *curve.tpr])
    if len(fpr) != len(tpr) or (np.diff(fpr) <= 0).any() or (np.diff(tpr) < 0).any():
        return False
    lower, upper = (float((np.diff(fpr) * side).sum()) for side in (tpr[:-1], tpr[1:]))
    return (fpr[-1], tpr[-1]) == (1, 1) and lower - 1e-5 <= auc <= upper + 1e-5


def _proven(folder: Path, found: Certificate) -> Iterator[str]:
    """Yield the figures of the guarantee that do not follow from the mechanisms that it lists."""
    file, stated = folder / LEDGER, found.identifiability.guarantee
    if (found.proven is None) != (found.identifiability.limit is None):
        yield "identifiability.limit"
    if stated is None:
        if file.is_file():
            yield "identifiability.guarantee, for which there is a ledger"
        return
    spent = mechanisms(stated)
    epsilon = total_epsilon(spent, stated.delta)
    if not _near(stated.epsilon, epsilon, SLACK):
        yield "identifiability.guarantee.epsilon"
    exact = gaussian_mu(spent)
    if not _near(stated.mu, mu(epsilon, stated.delta) if exact is None else exact, SLACK):
        yield "identifiability.guarantee.mu"
    curve = trade_off(spent)
    if not _near((stated.auc, stated.auc_of_two), (curve.auc, curve.twice.auc), SLACK):
        yield "identifiability.guarantee.auc"
    if not _near(
        [b.tpr for b in stated.tprs], [float(curve.tpr(b.fpr)) for b in stated.tprs], SLACK
    ):
        yield "identifiability.guarantee.tprs"
    if found.identifiability.limit is not None:
        drawn, again = found.identifiability.limit.model_dump(), limit(stated).model_dump()
        if not all(_near(drawn[name], again[name], SLACK) for name in again):
            yield "identifiability.limit"
    fields = set(Mechanism.model_fields)
    try:
        ledger = json.loads(file.read_text("utf-8"))
        listed = [{name: each[name] for name in fields} for each in ledger["entries"]]
    except (OSError, ValueError, KeyError, TypeError):
        yield f"identifiability.guarantee, since {LEDGER} cannot be read,"
        return
    if listed != [each.model_dump(mode="json", include=fields) for each in spent]:
        yield f"identifiability.guarantee.entries, by {LEDGER},"


def _counted(folder: Path, found: Certificate) -> Iterator[str]:
    """Yield the counts of images that are not those of the set."""
    if SET not in found.context.things:
        return
    import pyarrow.parquet as pq

    counts: dict[str, int] = {}
    try:
        for file in sorted((folder / SET / "data").glob("*.parquet")):
            for name in pq.read_table(file, columns=["class_name"])["class_name"].to_pylist():
                counts[str(name)] = counts.get(str(name), 0) + 1
    except (OSError, ValueError, KeyError):
        yield "data.images, since the set cannot be read,"
        return
    if counts != {name: n for name, n in found.data.per_class.items() if n}:
        yield "data.per_class"
    if sum(counts.values()) != found.data.images:
        yield "data.images"


def _certificate(folder: Path) -> Certificate:
    return Certificate.model_validate_json((folder / CERTIFICATE).read_text("utf-8"))


def _near(stated: Any, again: Any, slack: float = 1e-9) -> bool:
    """Whether two figures, or two sequences of figures, are equal but for rounding."""
    if isinstance(again, list | tuple):
        return len(stated) == len(again) and all(
            _near(one, other, slack) for one, other in zip(stated, again, strict=True)
        )
    if stated is None or again is None:
        return stated is again
    return math.isclose(stated, again, rel_tol=slack, abs_tol=slack)
