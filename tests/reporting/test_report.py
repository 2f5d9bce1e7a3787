"""The report escapes what users wrote and says what the figures say."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import ndtr, ndtri

from tckr.audit.attribution import attribute, every_way, student_name
from tckr.audit.audit import audit
from tckr.audit.extraction import extract
from tckr.audit.guarantee import guarantee
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import VERSION, Attribution, Audit, Plan
from tckr.audit.things import (
    THINGS,
    DuplicatedCanaries,
    Exposure,
    Extraction,
    ModelAudit,
    ThreatAudit,
)
from tckr.audit.threats import audit_generator, audit_release
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.datasets.html import HtmlDataset
from tckr.dp import Ledger, Noise, delta_default
from tckr.pipelines.privacy_audit.figures import gather_metrics
from tckr.reporting.findings import (
    accuracy_interval,
    attacks,
    canaries,
    duplicated,
    per_class,
    precision,
    verdicts,
)
from tckr.reporting.report import PICTURES, percent, span, write_report
from tckr.synthesizers.tckr import TckrRecyclingOptions

EVIL = "<script>alert(1)</script>"
N = 2000
OPTIONS = AuditOptions(n_shadows=8, release=ReleaseThreat(encoder="a folder"))
CHANNELS = ("adapter", "captions")
INSIDE = np.arange(N) < N // 2


@cache
def audited(leak: float, marked: int = 0, people: int | None = None) -> ModelAudit:
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
        clusters=None if people is None else np.arange(N) * people // N,
    )


@cache
def released(leak: float) -> dict[str, ThreatAudit]:
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


def copies(count: int) -> tuple[Extraction, ...]:
    """Count the copies in a release that holds so many."""
    near = np.random.default_rng(3).normal(size=N) + 99 * (np.arange(N) < count)
    return extract({"density_ratio": near, "nearest_index": np.arange(N)}, INSIDE, OPTIONS)


@cache
def channels() -> Attribution:
    random = np.random.default_rng(2)
    matrix = membership_matrix(200, 8, 0.5, 0)
    scores = {
        student_name(way, CHANNELS): random.normal(size=matrix.shape) for way in every_way(CHANNELS)
    }
    return attribute(scores, matrix, CHANNELS)


def whole(
    teacher: float = 2.0,
    student: float = 0.0,
    others: float = 0.0,
    marked: int = 0,
    attribution: Attribution | None = None,
    without: tuple[str, ...] = (),
    ledger: Ledger | None = None,
    copied: int | None = None,
    **things: ThreatAudit,
) -> Audit:
    """Return an audit of every thing except those in `without`."""
    every = {
        "teacher": audited(teacher),
        "student": audited(student, marked),
        **released(others),
        **things,
    }
    there = {name: found for name, found in every.items() if name not in without}
    return Audit(
        plan=Plan(n_shadows=8, requested=16, seconds_per_group=12.5, minutes=0.8, workers=2),
        things=there,
        extraction=() if copied is None else copies(copied),
        attribution=attribution,
        guarantee=None if ledger is None else guarantee(ledger, there, OPTIONS.fprs),
    )


def ledger_of(mu: float, noise: Noise | None = None) -> Ledger:
    """A ledger of a teacher alone, which was run with this noise if it is given."""
    ledger = Ledger(100.0, delta_default(N // 2), n=N // 2, data_hash="4f2a")
    ledger.add(
        name="teacher",
        mechanism="gaussian",
        noise_multiplier=10 / mu,
        steps=100,
        why=EVIL,
        code="test",
    )
    ledger.declare("early stopping", "absent", "the number of steps is fixed before")
    if noise is not None:
        ledger.spend("teacher", noise)
    return ledger


def described() -> dict[str, Any]:
    """An ingestion report."""
    splits = ("members", "holdout", "validation", "test")
    return {
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


def page(
    teacher: float = 2.0,
    student: float = 0.0,
    labels: str = "on_the_fly",
    **changes: Any,
) -> str:
    picture = Image.new("RGB", (8, 8))
    recycled = pd.DataFrame({"generator": ["adapted"], "class_name": ["b"]})
    inputs = {
        "audit": whole(teacher, student),
        "accuracy": {
            "n_test": 250,
            "classes": [EVIL, "b"],
            "teacher": {"accuracy": 80.0, "per_class": [None, 70.0]},
            "student": {"accuracy": 80.0, "per_class": [None, 70.0]},
        },
        "ingestion_report": described(),
        "student_recipe": {"distillation": {"labels": labels}},
        "recycled_set": recycled,
        "parameters": {
            "classifier": ClassifierOptions(),
            "student_training": DistillationOptions(),
            "knowledge_recycling": TckrRecyclingOptions(),
            "note": EVIL,
            "seed": 7,
        },
        "pictures": dict.fromkeys(PICTURES, picture),
    }
    return write_report(**{**inputs, **changes})


def test_nothing_from_the_user_becomes_markup() -> None:
    assert "<script" not in page()
    assert page().count("&lt;script&gt;") >= 5


def test_warnings_stand_above_the_figures_and_are_no_markup() -> None:
    warned = page(warnings=[f"Class {EVIL} was never drawn."])
    assert "Class &lt;script&gt;alert(1)&lt;/script&gt; was never drawn." in warned
    assert warned.index("was never drawn") < warned.index("AUC_MIA %")
    assert "made is poor" not in page()


def test_names_of_files_that_are_not_utf8_do_not_keep_the_page_from_the_disk(
    tmp_path: Path,
) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    skipped = [{"name": odd, "reason": "damaged"}]
    dataset = HtmlDataset(filepath=str(tmp_path / "report.html"))
    dataset.save(page(ingestion_report=described() | {"skipped_images": skipped}))
    assert r"caf\xe9.png" in dataset.load()


def test_several_images_of_a_person_are_told_beside_the_intervals() -> None:
    several = audited(2.0, people=500)
    apart = whole(2.0, 2.0)
    text = page(audit=apart.model_copy(update={"things": {"student": several, "teacher": several}}))
    assert "The images are of 500 people, some with several" in text
    assert "there is none here" in text
    assert "people, some with several" not in page()


def test_a_leak_is_called_a_leak() -> None:
    assert "The student still leaks" in page(student=2.0)
    assert "does not show that the student leaks less" in page(student=2.0)
    assert "The student still leaks" not in page(student=0.0)


def test_soft_labels_are_named_wherever_they_were_used() -> None:
    assert "labels are the channel to watch" in page(labels="stored")
    assert "labels are the channel to watch" not in page(labels="hard")
    assert "learned from hard labels" in page(labels="hard")


def test_how_much_the_labels_say_is_told_where_it_is_not_all() -> None:
    recipe = {"distillation": {"labels": "on_the_fly"}, "classifier": {"soft_labels": {"top_k": 3}}}
    assert "the 3 largest probabilities alone" in page(student_recipe=recipe)
    assert "labels were told" in page(student_recipe=recipe)
    assert "labels were told" not in page()


def test_controls_call_themselves_controls() -> None:
    control = pd.DataFrame({"generator": ["base"], "class_name": ["b"]})
    said = TckrRecyclingOptions(prompts="class_names").described()
    text = page(recycled_set=control, described=said)

    assert "the images come from the base generator" in text
    assert "This is a control: the prompts are bare class names" in text
    assert "This is a control" not in page()


def test_an_arm_whose_generator_stays_as_it_was_by_design_is_no_control() -> None:
    control = pd.DataFrame({"generator": ["base"], "class_name": ["b"]})
    text = page(audit=whole(0.0, 0.0, ledger=ledger_of(1.0, Noise())), recycled_set=control)

    assert "under the ledger below" in text
    assert "This is a control" not in text


def test_every_thing_has_its_verdict() -> None:
    rows = {row.name: row for row in verdicts(whole(2.0, 0.0, 0.5))}

    assert list(rows) == ["student", "teacher", "generator", "images", "prompts"]
    assert not rows["student"].leaks
    assert "covers no leak" in rows["student"].verdict
    assert all(rows[name].leaks for name in ("teacher", "generator", "images", "prompts"))
    assert rows["teacher"].epsilon.value > 0
    assert rows["teacher"].ppv.prior == 0.1
    inverted = verdicts(whole(others=-0.5))[3]
    assert inverted.leaks
    assert "leaks, inverted: the attack the other way round" in inverted.verdict


def test_the_precision_is_the_one_nearest_to_a_tenth() -> None:
    tpr = audited(2.0).primary.tpr

    nearest = precision(tpr.model_copy(update={"ppv": tpr.ppv[::2]}))
    assert nearest is not None
    assert nearest.prior == 0.01
    assert precision(tpr.model_copy(update={"ppv": ()})) is None


def test_the_primary_attack_comes_first_and_alone_is_marked() -> None:
    for table in attacks(whole()):
        first, *others = table.rows
        assert first.name == table.primary
        assert others
        assert not any(row.name == table.primary for row in others)
        assert table.fprs == [0.01, 0.001, 0.0001]
    text = page()
    assert text.count('class="primary"') == 5
    assert "LiRA, online: Gaussians with and without the example" in text
    assert "denoising loss minus that of the generator before adaptation" in text


def test_what_cannot_be_measured_has_no_figure() -> None:
    assert whole().things["student"].primary.tprs[1].value is None
    assert "Not measurable with 1,000 non-members" in page()
    fewer = AuditOptions(n_shadows=8, fprs=(0.001,), release=OPTIONS.release)
    images = audit_release("images", {"density_ratio": np.arange(float(N))}, INSIDE, fewer)
    assert "not measurable with 1,000 non-members" in page(audit=whole(images=images))


def test_canaries_have_a_table_if_there_are_any() -> None:
    assert canaries(whole()) == []
    assert "memorizing them" not in page()

    (row,) = canaries(whole(marked=1))
    text = page(audit=whole(marked=1))
    assert (row.model, row.canaries.count, row.canaries.members) == ("student", N // 2, N // 4)
    assert "1,000<span" in text
    assert "500 members" in text
    assert row.canaries.over_shadows is not None
    assert "memorizing them" in text
    assert "too few shadows" not in text


def test_duplicated_canaries_have_a_table_if_there_are_any() -> None:
    assert duplicated(whole()) == []
    assert "Duplicated canaries" not in page()

    (near, _) = copies(10)
    things = {
        "student": Exposure(attack=audited(0.0).primary, over_shadows=audited(2.0).primary),
        "images": Exposure(attack=released(2.0)["images"].primary),
    }
    planted = DuplicatedCanaries(
        members=20, holdout=20, copies=7, things=things, extraction=(near,)
    )
    found = whole().model_copy(update={"duplicated": planted})
    student, images = duplicated(found)
    assert (student.title, student.leaks) == (THINGS["student"].title, False)
    assert (images.title, images.leaks) == (THINGS["images"].title, True)
    text = page(audit=found)
    assert "Duplicated canaries" in text
    assert "trained on 7 times each" in text
    assert f"at least {near.at_least} reproduced" in text
    assert percent(things["images"].attack.auc.value, 1) in text
    assert text.count("not attacked with shadows, or too few of them") == 1


def test_channels_have_a_table_if_they_were_measured() -> None:
    assert "adds to the AUC" not in page()

    found = channels()
    text = page(audit=whole(attribution=found))
    share = found.channels[0]
    assert f"{100 * share.share:+.1f}" in text
    assert span(share) in text
    assert all(student_name(way, CHANNELS) in text for way in every_way(CHANNELS))


def test_copies_have_a_table_if_they_were_counted() -> None:
    assert "Copies of private images" not in page()

    none = page(audit=whole(copied=0))
    assert "No member was shown to be reproduced" in none
    assert "Copies of 5 members or fewer could have gone unnoticed" in none
    ten = page(audit=whole(copied=10))
    (nearest, _) = copies(10)
    assert f"At least\n{nearest.at_least} of" in ten.replace(" At least ", " At least\n")
    assert "The release reproduces members: 1" in ten
    assert "any of the 1,000 holdout images" in ten
    assert '<p class="leaks"><strong>The release reproduces' in ten


def test_the_design_is_told() -> None:
    text = page()

    assert audited(0.0).membership_hash in text
    assert "8 of 16 requested shadow groups, estimated at 0.8 minutes" in text
    assert "<dt>seed</dt><dd>7</dd>" in text
    assert "holds the released images fixed" in text
    assert f"<code>audit.json</code>, version {VERSION}" in text


def test_every_picture_is_inside_the_page() -> None:
    text = page(choice=["Snapshot 2 of 4 was chosen."])

    assert text.count('src="data:image/png;base64,') == len(PICTURES)
    assert "http" not in text.split("</style>")[1]


def test_what_is_absent_has_no_section() -> None:
    text = page(
        audit=whole(without=("generator", "prompts")),
        pictures={"roc": Image.new("RGB", (8, 8))},
    )

    assert text.count('src="data:image/png;base64,') == 1
    assert "Images alone" in text
    for absent in (
        *("Generator (white box)", "Prompts alone", "How the generator was adapted"),
        *("Real and recycled", "The closest pairs", "The most exposed images", "leak comes from"),
        *("<dt>generator</dt>", "Members of every class", "Scores of the primary attack"),
    ):
        assert absent not in text
    assert page(audit=whole(without=("student",)), student_recipe=None, recycled_set=None)
    with pytest.raises(ValueError, match="no place for the pictures rock"):
        page(pictures={"rock": Image.new("RGB", (8, 8))})


def test_absent_things_have_no_metrics() -> None:
    every = gather_metrics(whole().model_dump(mode="json"))
    fewer = gather_metrics(whole(without=("student", "generator")).model_dump(mode="json"))

    assert fewer == {name: every[name] for name in fewer}
    absent = set(every) - set(fewer)
    assert {"accuracy", "AUC_MIA", "AOP_high", "student.TPR_at_1pct_FPR"} <= absent
    assert "generator.AUC_MIA" in absent
    assert "teacher.AOP" in fewer


def test_what_is_proven_stands_beside_what_is_measured() -> None:
    ledger = ledger_of(1.0, Noise())
    found = whole(0.0, 0.0, ledger=ledger)
    text = page(audit=found)
    most = 100 * ndtr(1 / np.sqrt(2))

    assert f'<td class="n">{ledger.epsilon():.4g}</td>' in text
    assert f"proven: at most {most:.1f}" in text
    assert f"certified: {80 / (most / 50) ** 2:.1f}" in text
    assert f"≤&nbsp;{most:.1f}" in text.split("<h2>Every attack</h2>")[1]
    for words in (
        *("What is proven", "add or remove one image", "Not charged, and why", "early stopping"),
        *("may be released", "the private teacher", "real data, with noise (teacher)"),
        "The measurement does not contradict the proof",
    ):
        assert words in text, words
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text.split("Charged: every mechanism")[1]
    assert "epsilon: infinity" not in text
    assert "not differential privacy" not in text
    assert "labels are the channel to watch" not in text
    rows = {row.name: row for row in verdicts(found)}
    assert "may be released" in rows["teacher"].attacker
    assert rows["images"].auc_bound == pytest.approx(most / 100)
    assert rows["images"].tpr_bound == pytest.approx(ndtr(ndtri(0.01) + 1))


def test_a_run_without_a_ledger_says_that_nothing_is_proven() -> None:
    text = page()

    assert "epsilon: infinity." in text
    assert "Nothing is proven of this run, leaks are measured" in text
    assert "The teacher is not released" in text
    assert "proven ≤" not in text
    assert all(row.auc_bound is None for row in verdicts(whole()))


def test_seeded_noise_says_that_nothing_is_proven() -> None:
    text = page(audit=whole(0.0, 0.0, ledger=ledger_of(1.0, Noise(seed=0))))

    assert "Not private." in text
    assert "proven ≤" not in text
    assert "The teacher is not released" in text


def test_metrics_say_what_is_proven() -> None:
    ledger = ledger_of(1.0, Noise())
    proven = gather_metrics(whole(ledger=ledger).model_dump(mode="json"))
    seeded = gather_metrics(whole(ledger=ledger_of(1.0, Noise(seed=0))).model_dump(mode="json"))
    nothing = gather_metrics(whole().model_dump(mode="json"))

    assert proven["epsilon"] == ledger.epsilon()
    assert (proven["delta"], proven["mu"]) == (ledger.delta, pytest.approx(1.0))
    assert proven["AUC_MIA_bound"] == pytest.approx(100 * ndtr(1 / np.sqrt(2)))
    for prefix in ("", "teacher."):
        least = 80 / (2 * ndtr(1 / np.sqrt(2))) ** 2
        assert proven[f"{prefix}aop_certified"] == pytest.approx(least)
    for without in (seeded, nothing):
        assert without["epsilon"] == "infinity"
        assert not {"delta", "mu", "AUC_MIA_bound"} & set(without)
        assert without["aop_certified"] == 20.0
    json.dumps(nothing, allow_nan=False)


def test_the_lineage_is_shown_if_it_is_given() -> None:
    text = page(lineage={"parent run": EVIL, "commit": "0123abcd"})

    assert "<dt>parent run</dt>" in text
    assert "<dt>commit</dt><dd><code>0123abcd</code></dd>" in text
    assert "<script" not in text
    assert "<dt>commit</dt>" not in page()


def test_a_class_without_test_images_has_no_accuracy() -> None:
    accuracy = {
        "classes": ["a", "b"],
        "teacher": {"per_class": [None, 50.0]},
        "student": {"per_class": [None, 100.0]},
    }
    first, second = per_class(accuracy, {"a": 0, "b": 4}, 0.95)

    teacher, student = second.models["teacher"], second.models["student"]
    assert first.models["teacher"] is None
    assert teacher is not None
    assert student is not None
    assert (student.value, student.low, student.high) == (1.0, pytest.approx(0.025**0.25), 1.0)
    assert teacher.low < 0.5 < teacher.high


def test_metrics_are_the_primary_attack_in_percent() -> None:
    figures = whole()
    metrics = gather_metrics(figures.model_dump(mode="json"))
    auc = {name: thing.primary.auc.value for name, thing in figures.things.items()}

    assert metrics["teacher.AUC_MIA"] == pytest.approx(100 * auc["teacher"])
    assert metrics["AUC_MIA"] == pytest.approx(100 * auc["student"])
    assert metrics["accuracy"] == metrics["teacher.accuracy"] == 80.0
    assert metrics["AOP"] > metrics["teacher.AOP"]
    assert metrics["student.TPR_at_1pct_FPR_low"] < metrics["student.TPR_at_1pct_FPR"] < 10
    assert metrics["images.AUC_MIA"] == pytest.approx(100 * auc["images"])


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.5, "50.0"), (1, "100.0")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_span() -> None:
    interval = accuracy_interval(50.0, 4, 0.95)
    assert span(interval.model_copy(update={"low": 0.25, "high": 0.5})) == "25.0 to 50.0"
    assert span(interval.model_copy(update={"low": None, "high": None})) == ""
