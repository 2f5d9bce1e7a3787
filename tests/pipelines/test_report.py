"""The report escapes what users wrote and says what the figures say."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.membership.audit import AuditOptions, audit
from tckr.membership.design import membership_matrix
from tckr.pipelines.privacy_audit.nodes import gather_metrics
from tckr.pipelines.privacy_audit.report import percent, span, write_report

EVIL = "<script>alert(1)</script>"
N = 400


def audited(leak: float) -> dict[str, Any]:
    """Audit a target whose members score `leak` higher, with shadows that behave alike."""
    random = np.random.default_rng(0)
    inside = np.arange(N) < N // 2
    matrix = membership_matrix(N, 8, 0.5, 0)
    return audit(
        random.normal(size=N) + leak * inside,
        random.normal(size=matrix.shape) + leak * matrix,
        matrix,
        inside,
        accuracy_percent=80.0,
        options=AuditOptions(n_shadows=8),
        scope="distillation",
    )


def page(
    teacher: float = 2.0, student: float = 0.0, labels: str = "on_the_fly", **changes: Any
) -> str:
    picture = Image.new("RGB", (8, 8))
    splits = ("members", "holdout", "validation", "test")
    ingestion = {
        "source": EVIL,
        "format": "folder per class",
        "licence": None,
        "read": 1200,
        "images": 1000,
        "duplicates": {"removed": 3},
        "skipped": 1,
        "skipped_images": [{"name": EVIL, "reason": "damaged"}],
        "unused": 0,
        "size": 28,
        "channels": 1,
        "classes": [EVIL, "b"],
        "splits": dict.fromkeys(splits, 250),
        "counts": {split: {EVIL: 125, "b": 125} for split in splits},
    }
    recycled = pd.DataFrame({"generator": ["adapted"], "prompt": ["b: a bag"], "class_name": ["b"]})
    inputs = {
        "audit": {"teacher": audited(teacher), "student": audited(student)},
        "accuracy": {
            "n_test": 250,
            "classes": [EVIL, "b"],
            "teacher": {"accuracy": 80.0, "per_class": [None, 70.0]},
            "student": {"accuracy": 80.0, "per_class": [None, 70.0]},
        },
        "ingestion_report": ingestion,
        "student_recipe": {"distillation": {"labels": labels}},
        "recycled_set": recycled,
        "parameters": {
            "classifier": ClassifierOptions(),
            "student_training": DistillationOptions(),
            "note": EVIL,
        },
        **dict.fromkeys(
            ("private_sheet", "adaptation_sheet", "recycled_sheet", "adaptation_curve", "roc"),
            picture,
        ),
    }
    return write_report(**{**inputs, **changes})


def test_nothing_from_the_user_becomes_markup() -> None:
    assert "<script" not in page()
    assert page().count("&lt;script&gt;") >= 5


def test_a_leak_is_called_a_leak() -> None:
    assert "The student still leaks" in page(student=2.0)
    assert "does not show that the student leaks less" in page(student=2.0)
    assert "The student still leaks" not in page(student=0.0)


def test_soft_labels_are_named_wherever_they_were_used() -> None:
    assert "labels are the channel to watch" in page(labels="stored")
    assert "labels are the channel to watch" not in page(labels="hard")
    assert "learnt from hard labels" in page(labels="hard")


def test_controls_call_themselves_controls() -> None:
    control = pd.DataFrame({"generator": ["base"], "prompt": ["b"], "class_name": ["b"]})
    text = page(recycled_set=control)

    assert "the images come from the base generator" in text
    assert "the prompts are bare class names" in text
    assert "This is a control" not in page()


def test_metrics_are_the_record_in_percent() -> None:
    figures = {"teacher": audited(2.0), "student": audited(0.0)}
    metrics = gather_metrics(figures)

    assert metrics["teacher.AUC_MIA"] == pytest.approx(100 * figures["teacher"]["auc"]["value"])
    assert metrics["AUC_MIA"] == pytest.approx(100 * figures["student"]["auc"]["value"])
    assert metrics["accuracy"] == metrics["teacher.accuracy"] == 80.0
    assert metrics["AOP"] > metrics["teacher.AOP"]
    assert "student.TPR_at_1pct_FPR" in metrics


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.5, "50.0"), (1, "100.0")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_span() -> None:
    assert span({"low": 0.25, "high": 0.5}) == "25.0 to 50.0"
    assert span({"low": None, "high": None}) == ""
