"""The tight audit runs on the mechanisms of the default arms, and ends with 1 where noise is missing."""

import json
from pathlib import Path

from benchmarks import tight


def test_the_default_arms_are_audited_as_they_are_charged(tmp_path: Path) -> None:
    saved = tmp_path / "tight.json"
    tight.main(["--small", "--arms", "privimage", "--json", str(saved)])
    rows = json.loads(saved.read_text())["rows"]
    assert [row["mechanism"] for row in rows] == [
        "query", "generator adaptation", "teacher", tight.LABELS, "everything",
    ]  # fmt: skip
    everything = rows[-1]
    assert everything["ledger"] > max(row["ledger"] for row in rows[:-1])
    assert 0.5 * everything["proven"] < everything["measured"]


def test_missing_noise_is_an_error() -> None:
    assert tight.main(["--small", "--arms", "spti", "--noise", "0.4", "--repetitions", "2000"]) == 1
