"""The page that a privacy officer reads: everything on it comes from this run, nothing from elsewhere."""

import base64
import io
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from tckr import __version__
from tckr.pipelines.parameters import leaves

TEMPLATE = Path(__file__).with_name("report.html")
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
ATTACKS = {
    "lira_online": "LiRA, online",
    "lira_offline": "LiRA, offline",
    "threshold": "confidence threshold",
}


def write_report(
    audit: dict[str, Any],
    accuracy: dict[str, Any],
    ingestion_report: dict[str, Any],
    student_recipe: dict[str, Any],
    recycled_set: pd.DataFrame,
    private_sheet: Image.Image,
    adaptation_sheet: Image.Image,
    recycled_sheet: Image.Image,
    adaptation_curve: Image.Image,
    roc: Image.Image,
    parameters: dict[str, Any],
) -> str:
    """Return one self-contained HTML page: pictures inside, no script, nothing fetched."""
    from jinja2 import Environment, StrictUndefined

    # Class names, file names and parameters come from the user: everything is escaped.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "span": span,
        "thousands": lambda number: f"{number:,}",
    }
    pictures = {
        "private": private_sheet,
        "adaptation": adaptation_sheet,
        "recycled": recycled_sheet,
        "curve": adaptation_curve,
        "roc": roc,
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        audit=audit,
        ingestion=ingestion_report,
        per_class=per_class(accuracy),
        n_test=accuracy["n_test"],
        n_recycled=len(recycled_set),
        attacks=list(attacks(audit)),
        pictures={name: embedded(picture) for name, picture in pictures.items()},
        labels=student_recipe["distillation"]["labels"],
        base=bool((recycled_set["generator"] == "base").all()),
        bare=bool((recycled_set["prompt"] == recycled_set["class_name"]).all()),
        parameters=sorted((key, str(value)) for key, value in leaves(parameters)),
        versions=used(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


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


def per_class(accuracy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a class: name and the accuracy of both models in percent."""
    both = zip(
        accuracy["classes"],
        accuracy["teacher"]["per_class"],
        accuracy["student"]["per_class"],
        strict=True,
    )
    return [
        {"name": name, "teacher": teacher, "student": student} for name, teacher, student in both
    ]


def attacks(audit: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row a model and attack, the attack of record first."""
    for model in ("teacher", "student"):
        for name, figures in audit[model]["attacks"].items():
            record = name == audit[model]["attack_of_record"]
            yield {"model": model, "attack": ATTACKS.get(name, name), "record": record, **figures}
