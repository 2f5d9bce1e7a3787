"""The page that a privacy officer reads: everything on it comes from this run, nothing from elsewhere."""

import base64
import io
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from tckr import __version__
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


def write_report(
    audit: dict[str, Any],
    accuracy: dict[str, Any],
    ingestion_report: dict[str, Any],
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
    parameters: dict[str, Any],
) -> str:
    """Return one self-contained HTML page: pictures inside, no script, nothing fetched."""
    confidence, n_test = audit["student"]["auc"]["confidence"], accuracy["n_test"]
    test = ingestion_report["counts"]["test"]
    return templates().render(
        audit=audit,
        verdicts=findings.verdicts(audit),
        attacks=findings.attacks(audit),
        canaries=findings.canaries(audit),
        confidence=confidence,
        right={
            model: findings.right(accuracy[model]["accuracy"], n_test, confidence)
            for model in findings.MODELS
        },
        per_class=list(findings.per_class(accuracy, test, confidence)),
        ingestion=ingestion_report,
        n_test=n_test,
        n_recycled=len(recycled_set),
        pictures={name: embedded(picture) for name, picture in pictures.items()},
        labels=student_recipe["distillation"]["labels"],
        base="generator" in recycled_set and bool((recycled_set["generator"] == "base").all()),
        bare=dict(leaves(parameters)).get("knowledge_recycling.prompts") == "class_names",
        seed=parameters["seed"],
        parameters=sorted((key, str(value)) for key, value in leaves(parameters)),
        versions=used(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def templates() -> "Template":
    """The page; class names, file names and parameters come from the user: everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "span": span,
        "thousands": lambda number: f"{number:,}",
    }
    return environment.get_template("report.html")


def used() -> dict[str, str]:
    """Return the versions that made this page."""
    here = {"tckr": __version__, "Python": platform.python_version()}
    return here | {name: version(name) for name in PACKAGES}


def percent(value: float | None, digits: int = 1) -> str:
    """Print a share in percent; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def span(estimate: Mapping[str, Any], scale: float = 100, digits: int = 1) -> str:
    """Print the interval of an estimate."""
    low, high = estimate["low"], estimate["high"]
    return (
        ""
        if low is None or high is None
        else f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"
    )


def embedded(picture: Image.Image) -> dict[str, Any]:
    """Return a picture as a data address, with its size."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"source": source, "width": picture.width, "height": picture.height}
