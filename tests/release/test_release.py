"""A release is what its policy allows and its audit measured, and nothing in it can be changed unseen."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from certified import certified, policy, whole
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.results import Audit
from tckr.dp import Ledger, Noise, delta_default
from tckr.errors import UserError
from tckr.release.bundle import Part, Release, files_below, write
from tckr.release.certificate import Certificate
from tckr.release.manifest import sha256_of
from tckr.release.policy import Policies, Policy, clauses
from tckr.release.rows import rows
from tckr.release.verify import verify
from tckr.reporting.certificate import write_certificate

ROOT = Path(__file__).parents[2]
N, S = 200, 8
INSIDE = np.arange(N) < N // 2
OPTIONS = AuditOptions(n_shadows=S, release=ReleaseThreat(encoder="none"))


def audited(leak: float, ledger: Ledger | None = None) -> Audit:
    """Audit models whose members score `leak` higher."""
    random = np.random.default_rng(0)
    matrix = membership_matrix(N, S, 0.5, 0)
    found = audit(
        random.normal(size=N) + leak * INSIDE,
        random.normal(size=(S, N)) + leak * matrix,
        matrix,
        INSIDE,
        accuracy_percent=80.0,
        options=OPTIONS,
        scope="pipeline",
    )
    things = {"student": found, "weights": found, "released": found, "teacher": found}
    return whole(things, ledger)


def spent(epsilon: float = 4.0) -> Ledger:
    from tckr.dp.budget import Plan as Budgeted

    ledger = Ledger(epsilon, delta_default(3000), 3000, "f" * 64)
    ledger.plan(
        [Budgeted(name="teacher", mechanism="gaussian", share=1, why="clipped", code="test")]
    )
    ledger.spend("teacher", Noise())
    return ledger


def planned(
    leak: float = 0.0, held_to: Policy | None = None, ledger: Ledger | None = None
) -> Release:
    certificate = certified(audited(leak, ledger), held_to)
    parts = [
        Part("recycled_set", "set", write_set),
        Part("student", "student", lambda path: _file(path, "model.safetensors", b"weights")),
    ]
    if ledger is not None:
        text = ledger.to_json(release=True)
        parts.append(Part("ledger.json", "ledger", lambda path: _text(path, text)))
    return Release(certificate, tuple(parts), write_certificate)


def write_set(path: Path) -> None:
    (path / "data").mkdir(parents=True)
    table = pa.table({"image": [b"1", b"2", b"3"], "class_name": ["bag", "bag", "boot"]})
    pq.write_table(table, path / "data/train.parquet")


def _file(path: Path, name: str, content: bytes) -> None:
    path.mkdir()
    (path / name).write_bytes(content)


def _text(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(planned(), tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        verify(folder, write_certificate)
    return str(refused.value)


def forged(folder: Path, *paths: str) -> None:
    """Let the manifest say what the files say now, as whoever changes both would."""
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    for path in paths:
        content["files"][path]["sha256"] = sha256_of(folder / path)
    file.write_text(json.dumps(content))


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a figure, draw the page again and let the manifest agree."""
    file = folder / "certificate.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    (folder / "certificate.html").write_text(
        write_certificate(Certificate.model_validate_json(file.read_text()))
    )
    forged(folder, "certificate.json", "certificate.html")


def test_an_untouched_release_passes_and_says_what_it_could_not_check(folder: Path) -> None:
    found = verify(folder, write_certificate)

    assert found.files == 5
    assert not found.signed
    assert (
        found.manifest_sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    )
    assert any("accuracy" in text for text in found.needs_private_data)
    assert json.loads((folder / "manifest.json").read_text())["signed"] is False


@pytest.mark.parametrize(
    "path",
    [
        "recycled_set/data/train.parquet",
        "student/model.safetensors",
        "README.md",
        "certificate.html",
    ],
)
def test_one_flipped_bit_is_named(folder: Path, path: str) -> None:
    content = bytearray((folder / path).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / path).write_bytes(content)

    assert f"{path} was changed" in refusal(folder)


def test_a_missing_and_an_added_file_are_named(folder: Path) -> None:
    (folder / "student/model.safetensors").unlink()
    (folder / "student/notes.txt").write_text("mine")
    said = refusal(folder)

    assert "student/model.safetensors is missing" in said
    assert "student/notes.txt was added" in said


def test_a_removed_image_is_named_even_if_the_manifest_is_forged(folder: Path) -> None:
    path = "recycled_set/data/train.parquet"
    pq.write_table(pq.read_table(folder / path).slice(1), folder / path)
    assert f"{path} was changed" in refusal(folder)

    forged(folder, path)
    said = refusal(folder)
    assert f"disagree about {path}" in said
    assert "data.images is not what follows" in said


def test_an_edited_figure_is_named_even_if_all_else_is_made_to_agree(folder: Path) -> None:
    file = folder / "certificate.json"
    file.write_text(file.read_text().replace('"n_test": 50', '"n_test": 51'))
    assert "certificate.json was changed" in refusal(folder)

    edited(folder, lambda found: found["use"].update(n_test=5000))
    assert "use.accuracy is not what follows" in refusal(folder)


def test_a_better_auc_contradicts_its_accuracy_over_privacy(folder: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["identifiability"]["rows"]["weights"]["attacks"][0]["auc"].update(
            value=0.7, low=0.69, high=0.71
        )

    edited(folder, change)
    said = refusal(folder)
    assert "rows.weights" in said
    assert "upper_auc" in said


def test_a_smaller_epsilon_contradicts_the_ledger(tmp_path: Path) -> None:
    write(planned(ledger=spent()), tmp_path)
    verify(tmp_path, write_certificate)
    assert "f" * 64 not in (tmp_path / "ledger.json").read_text()  # the private set's hash

    edited(tmp_path, lambda found: found["identifiability"]["guarantee"].update(epsilon=1.0))
    assert "guarantee.epsilon is not what follows" in refusal(tmp_path)


def test_another_folder_is_no_release(tmp_path: Path) -> None:
    assert "is no release" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("limits", "clause"),
    [
        ({"largest_epsilon": 10.0}, "largest_epsilon"),
        ({"largest_auc": 0.6}, "largest_auc"),
        ({"largest_group_auc": 0.6}, "largest_group_auc"),
        ({"least_accuracy": 90.0}, "least_accuracy"),
    ],
)
def test_a_broken_limit_is_named_and_nothing_is_written(
    tmp_path: Path, limits: dict[str, float], clause: str
) -> None:
    with pytest.raises(UserError, match=f"policy ours, clause {clause}:"):
        write(planned(2.0, policy(**limits)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_nobody_measured_does_not_go_unless_the_policy_says_so() -> None:
    none = {"weights": rows(audited(0.0), frozenset())["weights"]}

    def held(**limits: Any) -> dict[str, bool]:
        found = clauses(policy(**limits), ("recycled_set", "student"), none, None, 80.0)
        return {clause.name: clause.holds for clause in found}

    assert not held()["unmeasured"]
    assert held(unmeasured=True)["unmeasured"]


def test_a_ledger_caps_what_an_attack_may_reach() -> None:
    ledger = spent(0.5)
    certificate = planned(ledger=ledger).certificate

    assert max(certificate.identifiability.upper_auc.values()) <= ledger.trade_off().auc
    assert all(clause.holds for clause in certificate.context.clauses)


def test_the_shipped_policies_are_valid_and_only_external_asks_for_a_proof() -> None:
    shipped = yaml.safe_load((ROOT / "conf/base/policy.yml").read_text())["policy"]
    found = Policies.model_validate(shipped)

    assert set(found.policies) == {"research", "external"}
    assert found.chosen == found.policies["research"]
    assert found.chosen.largest_epsilon is None
    assert found.policies["external"].largest_epsilon == 10
    with pytest.raises(ValidationError, match="There is no policy ours"):
        Policies.model_validate({**shipped, "use": "ours"})


def test_the_page_says_what_an_officer_needs_and_stands_alone(folder: Path) -> None:
    page = (folder / "certificate.html").read_text()

    for words in (
        "There is no formal guarantee",
        "It may go under the policy",
        "1. Context",
        "2. Data",
        "3. Identifiability",
        "4. Governance",
        "What was not tried",
        sha256_of(folder / "student/model.safetensors"),
        "verify_release",
        "@page",
    ):
        assert words in page, words
    assert "<script" not in page
    assert "src=" not in page
    assert files_below(folder, folder)[0] == "README.md"


def test_the_curves_lie_below_what_is_proven_and_can_be_computed_again(tmp_path: Path) -> None:
    write(planned(ledger=spent()), tmp_path)
    found = Certificate.model_validate_json((tmp_path / "certificate.json").read_text())
    limit = found.identifiability.limit
    assert limit is not None
    assert (np.array(limit.tpr) <= np.array(limit.tpr_of_two)).all()
    assert limit.tpr[limit.fpr.index(0.05)] == pytest.approx(float(spent().trade_off().tpr(0.05)))
    page = (tmp_path / "certificate.html").read_text()
    assert "proven limit, one image more or less" in page
    assert "no formal bound" not in page
    verify(tmp_path, write_certificate)

    edited(tmp_path, lambda one: one["identifiability"]["limit"]["tpr"].__setitem__(8, 0.031))
    assert "identifiability.limit is not what follows" in refusal(tmp_path)


def test_without_a_ledger_the_page_says_that_nothing_bounds_the_curves(folder: Path) -> None:
    page = (folder / "certificate.html").read_text()
    curve = json.loads((folder / "certificate.json").read_text())["identifiability"]["rows"]
    lines = page.count('stroke="#16a34a"')

    assert "no formal bound" in page
    assert "proven limit" not in page
    assert lines == 3  # the released set: two panels and the legend
    # 100 of a kind: the curve says nothing of fewer than ten.
    assert curve["released"]["roc"]["fpr"][0] == 0.1


def test_an_edited_curve_contradicts_its_area(folder: Path) -> None:
    def flatten(found: dict[str, Any]) -> None:
        roc = found["identifiability"]["rows"]["released"]["roc"]
        roc["tpr"] = [max(0.0, rate - 0.2) for rate in roc["tpr"][:-1]] + [1.0]

    edited(folder, flatten)
    assert "rows.released.roc is not what follows" in refusal(folder)


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (None, "no proof stops them"),
        (4.0, "whether that limit is low enough"),
        (200.0, "it excludes next to nothing"),
    ],
)
def test_the_first_half_page_ends_with_what_is_left_to_decide(
    epsilon: float | None, words: str
) -> None:
    ledger = None if epsilon is None else spent(epsilon)
    page = write_certificate(planned(ledger=ledger).certificate)
    top = page[page.index("<body>") : page.index("1. Context")]

    assert words in top
    assert "It may go under the policy" in top
    assert "Strongest attack tried" in top
    assert "Use: accuracy" in top
