"""Write the page that a privacy officer reads: one self-contained HTML file about one run."""

import base64
import io
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
from PIL import Image

from tckr import __version__
from tckr.audit.guarantee import certified_aop
from tckr.audit.results import Audit
from tckr.classifiers.options import RegenerationOptions, SoftLabelOptions
from tckr.options import leaves
from tckr.reporting import findings

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "kedro",
    "mlflow",
    "numpy",
    "pandas",
)
# Every picture that the page has a place for, with its alternative text.
PICTURES = {
    "private_sheet": "members of every class",
    "adaptation_sheet": "private images, base generator, adapted generator",
    "recycled_sheet": "private and recycled images of every class",
    "adaptation_curve": "loss of the adaptation by step",
    "choice_curve": "validation accuracy of the short students by which the generator was chosen",
    "roc": "ROC of the primary attack on each model, and the limit that the ledger proves if there is one",
    "score_histograms": "attack scores of members and non-members",
    "exposed_sheet": "the most exposed images",
    "closest_pairs": "members and holdout images beside the released images nearest to them",
    "attribution": "share of each channel in the student's leak",
}


def write_report(
    audit: Audit,
    *,
    accuracy: Mapping[str, Any],
    ingestion_report: Mapping[str, Any],
    student_recipe: Mapping[str, Any] | None,
    recycled_set: pd.DataFrame | None,
    parameters: Mapping[str, Any],
    pictures: Mapping[str, Image.Image],
    lineage: Mapping[str, str] | None = None,
    described: Sequence[str] = (),
    warnings: Sequence[str] = (),
    choice: Sequence[str] = (),
) -> str:
    """Return one self-contained HTML page: pictures are embedded, there is no script, nothing is fetched.

    What is not given is left out: things that the audit does not contain, pictures that are missing.

    Args:
        audit: of the run.
        accuracy: `n_test`, `classes`, and for each audited model its `accuracy` and `per_class` in percent.
        ingestion_report: of the private set.
        student_recipe: its `distillation.labels` say which labels the student was trained on; None without a student.
        recycled_set: synthetic image table, with the `generator` that drew each image; None without a student.
        parameters: typed options of every stage by name, and plain values.
        pictures: by the names in `PICTURES`.
        lineage: facts of the run by their title, such as run, parent run, private set's hash, commit.
        described: which options decided what images there are, a sentence each.
        warnings: what is poor about what the run made, a sentence each.
        choice: how the generator was chosen and sampled, a sentence each; none in an arm that chooses nothing.

    Raises:
        ValueError: a picture has a name that the page does not know.
    """
    unknown = sorted(set(pictures) - set(PICTURES))
    if unknown:
        raise ValueError(f"the report has no place for the pictures {', '.join(unknown)}")
    rows = findings.verdicts(audit)
    confidence, n_test = rows[0].auc.confidence, accuracy["n_test"]
    models = [name for name in ("teacher", "student") if name in audit.models]
    recycled = recycled_set if recycled_set is not None else pd.DataFrame({"generator": []})
    leaf_values = dict(leaves(parameters))
    return templates().render(
        audit=audit,
        models={name: audit.models[name] for name in models},
        verdicts=rows,
        attacks=findings.attacks(audit),
        canaries=findings.canaries(audit),
        duplicated=findings.duplicated(audit),
        copies=findings.copies(audit.extraction),
        exposure=findings.exposure(audit),
        confidence=confidence,
        guarantee=audit.guarantee,
        proven=audit.proven,
        certified={
            name: certified_aop(found.accuracy, audit.proven)
            for name, found in audit.models.items()
            if found.accuracy is not None
        },
        accuracies={
            name: findings.accuracy_interval(accuracy[name]["accuracy"], n_test, confidence)
            for name in models
        },
        per_class=list(
            findings.per_class(accuracy, ingestion_report["counts"]["test"], confidence)
        ),
        ingestion=ingestion_report,
        n_test=n_test,
        n_recycled=len(recycled),
        pictures={
            name: {**embedded(pictures[name]), "alt": alt} if name in pictures else None
            for name, alt in PICTURES.items()
        },
        labels=student_recipe["distillation"]["labels"] if student_recipe is not None else None,
        soft_labels="soft_label" in recycled,
        base_generator="generator" in recycled
        and len(recycled) > 0
        and bool((recycled["generator"] == "base").all()),
        seed=leaf_values.get("seed"),
        lineage=dict(lineage or {}),
        described=[*described, *_of_student(student_recipe)],
        warnings=list(warnings),
        choice=list(choice),
        parameters=sorted((key, str(value)) for key, value in leaf_values.items()),
        versions=used_versions(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _of_student(recipe: Mapping[str, Any] | None) -> list[str]:
    """Say what was special about the student's training, and about the labels that it and the set were given."""
    if recipe is None:
        return []
    regenerate = recipe["distillation"].get("regenerate")
    told = SoftLabelOptions.model_validate(recipe.get("classifier", {}).get("soft_labels", {}))
    said = [RegenerationOptions.model_validate(regenerate).described()] if regenerate else []
    return said if told.plain else [*said, told.described()]


def templates(page: str = "report.html") -> "Template":
    """Return the template of a page; it escapes everything, since class and file names come from the user."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "limit": limit,
        "percent": percent,
        "span": span,
        "thousands": lambda number: f"{number:,}",
    }
    return environment.get_template(page)


def used_versions() -> dict[str, str]:
    """Return the versions of tckr, Python and the main packages."""
    here = {"tckr": __version__, "Python": platform.python_version()}
    return here | {name: version(name) for name in PACKAGES}


class HasInterval(Protocol):
    """A result with the two ends of an interval."""

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share in percent; a dash if there is none.

    >>> percent(0.5), percent(None), percent(1 / 3, digits=2)
    ('50.0', '-', '33.33')
    """
    return "-" if value is None else f"{100 * value:.{digits}f}"


def limit(value: float) -> str:
    """Format an upper bound of a share in percent, with two significant digits where it is small; rounded up.

    >>> limit(0.99999), limit(0.372), limit(0.00163)
    ('100.0', '37.2', '0.17')
    """
    scaled = 100 * value
    digits = 1 if scaled >= 1 else max(1, 1 - math.floor(math.log10(max(scaled, 1e-9))))
    return f"{math.ceil(scaled * 10**digits - 1e-9) / 10**digits:.{digits}f}"


def span(estimate: HasInterval, scale: float = 100, digits: int = 1) -> str:
    """Format the interval of an estimate; an empty string if it has none.

    >>> from tckr.release.certificate import accuracy_interval
    >>> span(accuracy_interval(90.0, n_test=100, confidence=0.95))
    '82.4 to 95.1'
    """
    low, high = estimate.low, estimate.high
    return (
        ""
        if low is None or high is None
        else f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"
    )


def embedded(picture: Image.Image) -> dict[str, Any]:
    """Return a picture as a data URL, with its size in pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"source": source, "width": picture.width, "height": picture.height}
