"""The table at the end of a run says what is proven."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tckr.hooks.summary import results_table

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
