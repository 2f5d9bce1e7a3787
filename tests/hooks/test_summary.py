"""The table at the end of a run says what is proven."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.io.core import Version
from rich.console import Console

from tckr.datasets.release import ReleaseDataset
from tckr.hooks.clock import Clock
from tckr.hooks.lineage import Lineage
from tckr.hooks.summary import Summary, results_table
from tckr.release.bundle import Refused

FIGURES = {
    f"{prefix}{name}": value
    for prefix in ("", "teacher.")
    for name, value in {
        **{"accuracy": 80.0, "AUC_MIA": 51.0, "AUC_MIA_low": 50.0, "AUC_MIA_high": 52.0},
        **{"AOP": 78.0, "aop_certified": 24.2},
    }.items()
}


@pytest.mark.parametrize(
    ("proven", "words"),
    [
        ({"epsilon": "infinity"}, "epsilon: infinity: nothing is proven, leaks are measured"),
        (
            {"epsilon": 10.0, "delta": 4.2e-5, "mu": 2.1, "AUC_MIA_bound": 93.1},
            "epsilon 10, delta 4.2e-05, mu 2.1: whatever the attack, AUC at most 93.1 %",
        ),
    ],
)
def test_the_table_says_what_is_proven(proven: dict[str, Any], words: str) -> None:
    console = Console(file=StringIO(), width=140)
    console.print(results_table({**FIGURES, **proven}, "private"))

    printed = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert words in printed
    assert "recycled (student)" in printed


def test_a_refused_release_is_a_line_that_says_why_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = {"summary": "release", "inside": {"certificate": "certificate.html"}}
    release = ReleaseDataset(
        filepath=str(tmp_path / "09_release"), version=Version("1", "1"), metadata=metadata
    )
    summary = Summary(clock := Clock(), Lineage())
    summary._catalog = DataCatalog({"release": release})
    refused = Refused("It breaks the policy ours, clause largest_auc.")
    release.save(refused)
    summary.after_dataset_saved("release", refused)
    assert clock.seconds == {}
    summary.after_pipeline_run()

    printed = " ".join(capsys.readouterr().out.split())
    assert "release none. It breaks the policy ours, clause largest_auc." in printed
    assert "certificate" not in printed
    assert not (tmp_path / "09_release").exists()
