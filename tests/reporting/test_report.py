"""The report escapes what users wrote and says what the figures say."""

from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tckr.audit.attribution import EVERY_WAY, attribute
from tckr.audit.audit import VERSION, audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.threats import audit_generator, audit_release
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.pipelines.knowledge_recycling.options import RecyclingOptions
from tckr.pipelines.privacy_audit.figures import gather_metrics
from tckr.reporting.findings import attacks, canaries, per_class, precision, verdicts
from tckr.reporting.report import percent, span, write_report

EVIL = "<script>alert(1)</script>"
N = 2000
OPTIONS = AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="a folder"))
INSIDE = np.arange(N) < N // 2
PICTURES = (
    *("private_sheet", "adaptation_sheet", "recycled_sheet", "adaptation_curve", "roc"),
    *("score_histograms", "exposed_sheet", "closest_pairs", "attribution"),
)


@cache
def audited(leak: float, marked: int = 0) -> dict[str, Any]:
    """Audit a target whose members score `leak` higher, with shadows that behave alike."""
    random = np.random.default_rng(0)
    matrix = membership_matrix(N, 8, 0.5, 0)
    return audit(
        random.normal(size=N) + leak * INSIDE,
        random.normal(size=matrix.shape) + leak * matrix,
        matrix,
        INSIDE,
        accuracy_percent=80.0,
        options=OPTIONS,
        scope="distillation",
        canary=np.arange(N) % 2 < marked,
    )


@cache
def released(leak: float) -> dict[str, Any]:
    """Audit generator, images and prompts whose members score `leak` higher."""
    random = np.random.default_rng(1)

    def signals(*names: str) -> dict[str, Any]:
        return {name: random.normal(size=N) + leak * INSIDE for name in names}

    base = {name: random.normal(size=N) for name in ("loss", "one_query")}
    return {
        "generator": audit_generator(signals(*base), base, INSIDE, OPTIONS),
        "images": audit_release("images", signals("nearest", "density_ratio"), INSIDE, OPTIONS),
        "prompts": audit_release(
            "prompts", signals("nearest", "density_ratio", "exact"), INSIDE, OPTIONS
        ),
    }


@cache
def channels() -> dict[str, Any]:
    random = np.random.default_rng(2)
    matrix = membership_matrix(200, 8, 0.5, 0)
    scores = {ways.name: random.normal(size=matrix.shape) for ways in EVERY_WAY}
    students, found = attribute(scores, matrix)
    return {
        "n_shadows": 8,
        "students": students.to_dict("records"),
        "channels": found.astype(object).where(found.notna(), None).to_dict("records"),
    }


def whole(
    teacher: float = 2.0, student: float = 0.0, others: float = 0.0, marked: int = 0
) -> dict[str, Any]:
    """What `audit_release` of the stage returns."""
    return {
        "version": VERSION,
        "plan": {
            "n_shadows": 8,
            "asked_for": 16,
            "seconds_per_group": 12.5,
            "minutes": 0.8,
            "at_once": 2,
        },
        "teacher": audited(teacher),
        "student": audited(student, marked),
        **released(others),
        "attribution": None,
    }


def page(
    teacher: float = 2.0,
    student: float = 0.0,
    labels: str = "on_the_fly",
    prompts: Literal["captions", "class_names"] = "captions",
    **changes: Any,
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
    recycled = pd.DataFrame({"generator": ["adapted"], "class_name": ["b"]})
    inputs = {
        "audit": whole(teacher, student),
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
            "knowledge_recycling": RecyclingOptions(prompts=prompts),
            "note": EVIL,
            "seed": 7,
        },
        **dict.fromkeys(PICTURES, picture),
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
    control = pd.DataFrame({"generator": ["base"], "class_name": ["b"]})
    text = page(recycled_set=control, prompts="class_names")

    assert "the images come from the base generator" in text
    assert "the prompts are bare class names" in text
    assert "This is a control" not in page()


def test_every_thing_has_its_verdict() -> None:
    rows = {row["name"]: row for row in verdicts(whole(2.0, 0.0, 0.5))}

    assert list(rows) == ["student", "teacher", "generator", "images", "prompts"]
    assert not rows["student"]["leaks"]
    assert "covers no leak" in rows["student"]["verdict"]
    assert all(rows[name]["leaks"] for name in ("teacher", "generator", "images", "prompts"))
    assert rows["teacher"]["epsilon"]["value"] > 0
    assert rows["teacher"]["ppv"]["prior"] == 0.1
    assert "worse than guessing" in verdicts(whole(others=-0.5))[2]["verdict"]


def test_the_precision_is_the_one_nearest_to_a_tenth() -> None:
    rate = audited(2.0)["tpr"]

    assert precision({"ppv": rate["ppv"][::2]})["prior"] == 0.01
    assert precision({"ppv": []}) is None


def test_the_attack_of_record_comes_first_and_alone_is_marked() -> None:
    for table in attacks(whole()):
        first, *others = table["rows"]
        assert first["record"]
        assert others
        assert not any(row["record"] for row in others)
        assert table["rates"] == [0.01, 0.001, 0.0001]
    text = page()
    assert text.count('class="record"') == 5
    assert "LiRA, online: Gaussians with and without the example" in text
    assert "denoising loss, less that of the base generator" in text


def test_what_cannot_be_measured_has_no_figure() -> None:
    assert whole()["student"]["tprs"][1]["value"] is None
    assert "Not measurable with 1,000 non-members" in page()
    fewer = AuditOptions(n_shadows=8, fprs=(0.001,), release=OPTIONS.release)
    images = audit_release("images", {"density_ratio": np.arange(float(N))}, INSIDE, fewer)
    assert "not measurable with 1,000 non-members" in page(audit=whole() | {"images": images})


def test_canaries_have_a_table_if_there_are_any() -> None:
    assert canaries(whole()) == []
    assert "known by heart" not in page()

    (row,) = canaries(whole(marked=1))
    text = page(audit=whole(marked=1))
    assert (row["model"], row["count"], row["members"]) == ("student", N // 2, N // 4)
    assert "1,000<span" in text
    assert "500 members" in text
    assert row["over_shadows"] is not None
    assert "too few shadows" not in text


def test_channels_have_a_table_if_they_were_measured() -> None:
    assert "adds to the AUC" not in page()

    found = channels()
    text = page(audit=whole() | {"attribution": found})
    share = found["channels"][0]
    assert f"{100 * share['share']:+.1f}" in text
    assert span(share) in text
    assert all(ways.name in text for ways in EVERY_WAY)


def test_the_design_is_told() -> None:
    text = page()

    assert audited(0.0)["membership_hash"] in text
    assert "8 of 16 shadow groups asked for, estimated at 0.8 minutes" in text
    assert "<dt>seed</dt><dd>7</dd>" in text
    assert "holds the released images fixed" in text


def test_every_picture_is_inside_the_page() -> None:
    text = page()

    assert text.count('src="data:image/png;base64,') == len(PICTURES)
    assert "http" not in text.split("</style>")[1]


def test_a_class_without_test_images_has_no_accuracy() -> None:
    accuracy = {
        "classes": ["a", "b"],
        "teacher": {"per_class": [None, 50.0]},
        "student": {"per_class": [None, 100.0]},
    }
    first, second = per_class(accuracy, {"a": 0, "b": 4}, 0.95)

    assert first["teacher"] is None
    assert second["student"] == {"value": 1.0, "low": pytest.approx(0.025**0.25), "high": 1.0}
    assert second["teacher"]["low"] < 0.5 < second["teacher"]["high"]


def test_metrics_are_the_record_in_percent() -> None:
    figures = whole()
    metrics = gather_metrics(figures)

    assert metrics["teacher.AUC_MIA"] == pytest.approx(100 * figures["teacher"]["auc"]["value"])
    assert metrics["AUC_MIA"] == pytest.approx(100 * figures["student"]["auc"]["value"])
    assert metrics["accuracy"] == metrics["teacher.accuracy"] == 80.0
    assert metrics["AOP"] > metrics["teacher.AOP"]
    assert metrics["student.TPR_at_1pct_FPR_low"] < metrics["student.TPR_at_1pct_FPR"] < 10
    assert metrics["images.AUC_MIA"] == pytest.approx(100 * figures["images"]["auc"]["value"])


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.5, "50.0"), (1, "100.0")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_span() -> None:
    assert span({"low": 0.25, "high": 0.5}) == "25.0 to 50.0"
    assert span({"low": None, "high": None}) == ""
