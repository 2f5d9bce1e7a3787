"""Nodes that turn scores into figures: every threat model's own, the exposed examples, what MLflow compares."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit import shadow_runs, tables
from tckr.audit.options import AuditOptions
from tckr.audit.seen import GENERATOR, Seen, part
from tckr.pipelines.types import Tensors
from tckr.synthesizers.base import Synthesizer

if TYPE_CHECKING:
    from tckr.audit.results import Attribution, Audit
    from tckr.audit.things import ThreatAudit

MODELS = ("teacher", "student")
INFINITY = "infinity"  # the epsilon of a run that proves nothing: JSON has no number for it
ELSEWHERE = (
    "The adapter was made elsewhere and is the same in all of them: what it leaks is not measured."
)
COMPARED = ("accuracy", "AUC_MIA", "AUC_MIA_low", "AUC_MIA_high", "AOP", "AOP_low", "AOP_high")


def audit_release(
    synthesizer: Synthesizer,
    artefacts: Mapping[str, Any],
    images: pd.DataFrame,
    target_scores: Tensors,
    shadow_scores: Tensors,
    release_scores: Tensors,
    membership_matrix: pd.DataFrame,
    audit_plan: dict[str, Any],
    accuracy: dict[str, Any],
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    options: AuditOptions,
    generator_scores: Tensors | None = None,
    ledger: Any = None,
) -> dict[str, Any]:
    """Attack teacher, student and every threat that the arm names, each on its own; see `tckr.audit`.

    With a ledger (`tckr.dp.Ledger`), what it proves stands beside, and lower bounds of epsilon are at its delta.
    """
    del artefacts
    from tckr.audit import threats
    from tckr.audit.exposure import expose
    from tckr.audit.extraction import extract
    from tckr.audit.guarantee import guarantee
    from tckr.audit.results import Audit, Plan

    if ledger is not None:
        options = options.model_copy(update={"delta": ledger.delta})
    proven = ledger is not None and ledger.private

    everything = Seen(
        tables.audited_images(images),
        target_scores,
        shadow_scores,
        release_scores,
        generator_scores or None,
    )
    seen = everything.ordinary()
    audited, inside = seen.audited, tables.is_member(seen.audited)
    release = tables.as_arrays(seen.release)
    students = shadow_runs.students_of(student_recipe, recycled_set)
    elsewhere = _made_elsewhere(synthesizer)
    things: dict[str, Any] = dict(
        tables.attack_models(
            {
                "teacher": accuracy["teacher"]["accuracy"],
                "student": (own := accuracy["student"]["accuracy"]),
                "weights": own,
                "released": None,
            },
            audited,
            seen.targets,
            seen.shadows,
            membership_matrix,
            release["features"],
            options,
            options.scope,
            students | {"weights": students["student"]},
            ELSEWHERE if elsewhere and options.scope == "pipeline" else "",
        )
    )
    if seen.generator is not None:
        things["generator"] = _audit_generator(
            seen, seen.generator, membership_matrix, options, elsewhere, proven=proven
        )
    joint = _audit_joint(
        audited,
        seen.targets,
        seen.shadows,
        None if elsewhere else seen.generator,
        membership_matrix,
        students,
        options,
        teacher_goes=ledger is not None,
    )
    if joint is not None:
        things["joint"] = joint
    for threat, rows in (("images", slice(None)), ("prompts", release["rows"])):
        if threat in synthesizer.open_threats:
            things[threat] = threats.audit_release(
                threat,
                part(release, threat),
                inside[rows],
                options,
                tables.people(audited.iloc[rows]),
                proven=proven,
            )
    shadow_runs.forget_checkpoints(options, audit_plan)
    attributed = _attribution(
        synthesizer.open_channels, audited, seen.shadows, membership_matrix, options
    )
    audit = Audit(
        plan=Plan.model_validate(audit_plan),
        things=things,
        extraction=extract(part(release, "images"), inside, options, tables.people(audited)),
        duplicated=expose(everything, membership_matrix, things, options),
        attribution=attributed,
        guarantee=None if ledger is None else guarantee(ledger, things, options.fprs),
    )
    return audit.model_dump(mode="json")


def check_guarantee(audit: dict[str, Any]) -> list[dict[str, str]]:
    """Stop the run if the audit contradicts the ledger, and warn if it comes into doubt; see `tckr.audit.guarantee`."""
    from tckr.audit.guarantee import check
    from tckr.audit.results import Audit

    return [{"text": text} for text in check(Audit.model_validate(audit))]


def _audit_generator(
    seen: Seen,
    generator_scores: Mapping[str, Any],
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
    made_elsewhere: bool,
    *,
    proven: bool,
) -> "ThreatAudit":
    from tckr.audit.threats import audit_generator

    audited, queried, shadows = (
        seen.audited,
        tables.as_arrays(generator_scores),
        seen.shadow_signals(),
    )
    people = tables.people(audited.iloc[queried["rows"]])
    of_shadows = (
        tables.memberships(membership_matrix, audited)[:, queried["rows"]] if shadows else None
    )
    return audit_generator(
        part(queried, "adapted"),
        part(queried, "base"),
        tables.is_member(audited)[queried["rows"]],
        options,
        shadows or None,
        of_shadows,
        people,
        made_elsewhere,
        proven=proven,
    )


def _audit_joint(
    audited: pd.DataFrame,
    target_scores: Mapping[str, Any],
    shadow_scores: Mapping[str, Any],
    generator_scores: Mapping[str, Any] | None,
    membership_matrix: pd.DataFrame,
    students: Mapping[str, Mapping[str, Any]],
    options: AuditOptions,
    *,
    teacher_goes: bool,
) -> "ThreatAudit | None":
    """Attack what the attacker's figures are not fixed of by design: student and set, a private teacher, with shadow adapters
    the adapter.
    """
    from tckr.audit.joint import audit_joint

    rows = np.arange(len(audited))
    targets, shadows = tables.as_arrays(target_scores), tables.as_arrays(shadow_scores)
    adapters = {name: of for name, of in shadows.items() if name.startswith(GENERATOR)}
    queried: dict[str, Any] = {}
    if generator_scores is not None and adapters:
        queried = tables.as_arrays(generator_scores)
        rows = queried["rows"]
    models = shadow_runs.released_models(students, options.scope)
    if teacher_goes:
        models["teacher"] = "private teacher"
    held = {title: (targets[name][rows], shadows[name][:, rows]) for name, title in models.items()}
    if queried:
        held |= {
            f"adapter, {name.removeprefix(GENERATOR)}": (
                queried[f"adapted.{name.removeprefix(GENERATOR)}"][:, None],
                of,
            )
            for name, of in adapters.items()
        }
    inside = tables.memberships(membership_matrix, audited)[:, rows]
    people = tables.people(audited.iloc[rows])
    return audit_joint(held, inside, tables.is_member(audited)[rows], options, people)


def _made_elsewhere(synthesizer: Synthesizer) -> bool:
    """Whether the arm takes an adapter of others in place of training one."""
    return bool(getattr(getattr(synthesizer, "generator_adaptation", None), "adapter", None))


def _attribution(
    channels: tuple[str, ...],
    audited: pd.DataFrame,
    shadow_scores: Mapping[str, Any],
    membership_matrix: pd.DataFrame,
    options: AuditOptions,
) -> "Attribution | None":
    from tckr.audit.attribution import attribute, every_way, student_name
    from tckr.audit.audit import attack_on_shadows, over_shadows

    if not options.attribution:
        return None
    inside, shadows = (
        tables.memberships(membership_matrix, audited),
        tables.as_arrays(shadow_scores),
    )
    names = [student_name(opened, channels) for opened in every_way(channels)]
    scores = {
        name: over_shadows(shadows[name].astype(np.float64), inside, options) for name in names
    }
    people, attack = tables.people(audited), attack_on_shadows(options)
    return attribute(scores, inside, channels, options.confidence, people, attack)


def rank_exposed(
    images: pd.DataFrame, shadow_scores: Tensors, membership_matrix: pd.DataFrame
) -> pd.DataFrame:
    """Rank the audited images by how much a student that learnt from them moves; for the data owner alone."""
    from tckr.audit.vulnerability import vulnerability

    seen = Seen(tables.audited_images(images), shadows=shadow_scores).distinct()
    audited, shadows = seen.audited, tables.as_arrays(seen.shadows)
    exposed = vulnerability(shadows["student"], tables.memberships(membership_matrix, audited))
    facts = audited[["image_id", "split", "class_name"]].reset_index(drop=True)
    return pd.concat([facts, exposed], axis=1).sort_values("rank", ignore_index=True)


def gather_metrics(
    audit: dict[str, Any], guarantee_warnings: list[dict[str, str]] | None = None
) -> dict[str, float | str | None]:
    """Return the figures to compare runs by, in percent: the student's under bare names, others as `teacher.AUC_MIA`.

    `epsilon` is a word, infinity, where nothing is proven. `guarantee_warnings` are only waited for: an epsilon that the
    audit contradicts is no figure of a run.
    """
    del guarantee_warnings
    from tckr.audit.guarantee import certified_aop
    from tckr.audit.results import Audit

    found = Audit.model_validate(audit)
    metrics: dict[str, float | str | None] = _proven(found)
    for name, prefix in (("student", ""), ("teacher", "teacher.")):
        if name in found.models:
            model = found.models[name]
            figures = model.with_accuracy()
            metrics |= {f"{prefix}{key}": figures[key] for key in COMPARED}
            assert model.accuracy is not None
            metrics[f"{prefix}aop_certified"] = certified_aop(model.accuracy, found.proven)
            rate = model.primary.tpr.name
            metrics |= {
                f"{name}.{rate}{end}": figures[f"{rate}{end}"] for end in ("", "_low", "_high")
            }
    for name in (name for name in found.things if name not in MODELS):
        figures = found.things[name].in_percent()
        metrics |= {
            f"{name}.AUC_MIA{end}": figures[f"AUC_MIA{end}"] for end in ("", "_low", "_high")
        }
    return metrics


def _proven(audit: "Audit") -> dict[str, float | str | None]:
    """Return what the ledger proves of everything that is released, the AUC in percent."""
    proven = audit.proven
    if proven is None:
        return {"epsilon": INFINITY}
    return {
        "epsilon": proven.epsilon,
        "delta": proven.delta,
        "mu": proven.mu,
        "AUC_MIA_bound": 100 * proven.auc,
    }
