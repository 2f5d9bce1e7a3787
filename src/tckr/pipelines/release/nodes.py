"""Decide what goes out, and describe it."""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from tckr.errors import UserError
from tckr.images.tables import class_names
from tckr.pipelines.types import Classifier
from tckr.release.policy import TITLES, Kind, Policies, reason_to_withhold
from tckr.release.publication import Publication
from tckr.release.signing import Signing
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.registry import arm_of


def plan_release(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    recycled_set: pd.DataFrame,
    student: Classifier,
    audit: dict[str, Any],
    accuracy: dict[str, Any],
    ingestion_report: dict[str, Any],
    lineage: dict[str, str],
    policies: Policies,
    publication: Publication,
    signing: Signing,
    ledger: Any = None,
    teacher: Classifier | None = None,
) -> Any:
    """Decide by the policy and by the rows of the audit what goes out; the files are written by `tckr.release.write`.

    Raises:
        UserError: the arm must not be handed out at all, a private image is in the set, nothing may go, or a limit of
            the policy is broken.

    Returns:
        A `tckr.release.bundle.Release`.
    """
    from tckr.audit.guarantee import check as check_guarantee
    from tckr.audit.results import Audit
    from tckr.release.bundle import Part, Release
    from tckr.release.certificate import Made, Withheld, certify
    from tckr.reporting.certificate import write_certificate
    from tckr.reporting.report import used_versions

    if ledger is not None:
        ledger.check_release()
    if (caution := synthesizer.caution()) is not None:
        raise UserError(f"This arm is not to be handed out: {caution}", "make it without that.")
    found = Audit.model_validate(audit)
    check_guarantee(found)
    check_apart(images, recycled_set)
    policy = policies.chosen
    sources: dict[Kind, Callable[[Path], None]] = {
        "recycled_set": lambda path: copy_set(recycled_set, path),
        "student": lambda path: _save(student, path),
    }
    if "adapter" in artefacts and "generator" in synthesizer.open_threats:
        sources["adapter"] = lambda path: _save_adapter(synthesizer, artefacts, path)
    if teacher is not None:
        sources["teacher"] = lambda path: _save(teacher, path)
    has_prompts = "prompt" in recycled_set
    there: list[Kind] = [*sources, *(["prompts"] if has_prompts else [])]  # type: ignore[list-item]
    why = {thing: reason_to_withhold(thing, policy, found) for thing in there}
    if has_prompts and not why["recycled_set"] and why["prompts"]:
        raise UserError(
            f"The release breaks the policy {policies.use}, clause things: the recycled set holds its prompts,"
            f" {why['prompts']}. Nothing was written.",
            "make the set without them: knowledge_recycling.release_prompts=false.",
        )
    things = tuple(thing for thing in there if not why[thing])
    if not set(things) - {"prompts"}:
        raise UserError(
            f"The policy {policies.use} lets nothing of this run go: "
            + "; ".join(f"{TITLES[thing]}: {why[thing]}" for thing in there),
            "name what may go in policy.policies.<name>.things.",
        )
    goes = "recycled_set" in things
    certificate = certify(
        found,
        policy_name=policies.use,
        policy=policy,
        things=things,
        withheld=tuple(
            Withheld(thing=thing, title=TITLES[thing], why=why[thing])
            for thing in there
            if why[thing]
        ),
        arm=arm_of(type(synthesizer)),
        accuracy=accuracy,
        ingestion_report=ingestion_report,
        per_class=count_classes(recycled_set) if goes else {},
        soft_labels=goes and "soft_label" in recycled_set,
        made=Made(
            release=lineage.get("Run", "unknown"),
            run=lineage.get("Starts from run", "unknown"),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=lineage.get("Commit", "unknown"),
            versions=used_versions(),
        ),
    )
    parts = [Part(thing, TITLES[thing], sources[thing]) for thing in things if thing in sources]
    if ledger is not None:
        text = ledger.to_json(release=True) + "\n"
        parts.append(Part("ledger.json", "privacy ledger", lambda path: _write_text(text, path)))
    return Release(
        certificate,
        tuple(parts),
        write_certificate,
        publication=publication,
        signer=signing.signer(),
    )


@wraps(plan_release, assigned=("__annotations__",))
def offer_release(*arm: Any, **datasets: Any) -> Any:
    """Decide by the policy and by the audit what of this run goes out; a broken policy costs the release, not the run.

    Returns:
        A `tckr.release.bundle.Release`, or a `Refused` that says why there is none.
    """
    from tckr.release.bundle import Refused
    from tckr.release.policy import check

    try:
        lineage = datasets["lineage"]
        own = {**lineage, "Starts from run": lineage.get("Run", "unknown")}
        planned = plan_release(*arm, **{**datasets, "lineage": own})
        check(planned.certificate.context.policy_name, planned.certificate.context.clauses)
    except UserError as refused:
        return Refused(refused.problem)
    return planned


def check_apart(images: pd.DataFrame, recycled_set: pd.DataFrame) -> None:
    """Check that no private image is in the set, by the hashes of their pixels.

    Raises:
        UserError: one is.
    """
    shared = set(images["image_id"]) & set(recycled_set["image_id"])
    if shared:
        raise UserError(
            f"{len(shared):,} of the recycled images are private images, pixel by pixel. Nothing was written.",
            "draw the set anew with another seed, or look for what copies them.",
        )


def count_classes(recycled_set: pd.DataFrame) -> dict[str, int]:
    """Return the images of each class, of all classes."""
    counts = recycled_set["class_name"].value_counts()
    return {name: int(counts.get(name, 0)) for name in class_names(recycled_set)}


def copy_set(recycled_set: pd.DataFrame, path: Path) -> None:
    """Copy the folder that the set was read from: what goes is what was attacked, byte for byte."""
    (folder,) = {file.parent.parent for file in recycled_set["image"].array.files}
    shutil.copytree(folder, path)


def _save(model: Any, path: Path) -> None:
    from tckr.classifiers.models import save

    save(model, path)


def _save_adapter(synthesizer: Synthesizer, artefacts: Mapping[str, Any], path: Path) -> None:
    """Write what images were drawn with and what was attacked: all that is added to the generator as it was downloaded."""
    from tckr.diffusion.update import joined

    path.mkdir()
    joined(synthesizer.updates(artefacts)).save(path)  # type: ignore[attr-defined]  # of arms with an adapter


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
