"""What the arms can do, what they give away, and what is proven of each, beside each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from PIL import Image

from tckr.audit.options import AuditOptions
from tckr.pipelines.comparison.options import ComparisonOptions

AUDIT = "audit_of_"  # before the name of an arm: an input of `tabulate`


def tabulate_arms(entries: Mapping[str, str]) -> Callable[..., tuple[pd.DataFrame, list[str]]]:
    """Return the node's function for these arms.

    Args:
        entries: catalog entry of each arm's audit.
    """

    def tabulate(
        durations: dict[str, float], options: ComparisonOptions, **made: Any
    ) -> tuple[pd.DataFrame, list[str]]:
        """Return the table of the arms, a row for each, and the sentences that belong below it."""
        from tckr.audit.comparison import ArmResult, compare, remarks
        from tckr.audit.results import Audit

        arms = [
            ArmResult(
                arm,
                Audit.model_validate(made[f"{AUDIT}{arm}"]),
                durations[entries[arm]],
            )
            for arm in options.chosen
        ]
        return compare(arms, durations.get("teacher", 0.0)), remarks(arms)

    return tabulate


def draw_picture(comparison_table: pd.DataFrame, options: AuditOptions) -> Image.Image:
    """Draw accuracy against leak, with what is proven; see `draw_comparison`."""
    from tckr.reporting.comparison import draw_comparison
    from tckr.reporting.style import rendered

    return rendered(draw_comparison(comparison_table, options.confidence))


def page_writer(reports: Mapping[str, str]) -> Callable[..., str]:
    """Return the node's function that writes the page.

    Args:
        reports: catalog entry of each arm's own report.
    """

    def write_page(
        comparison_table: pd.DataFrame,
        remarks: Sequence[str],
        picture: Image.Image,
        ingestion_report: dict[str, Any],
        lineage: dict[str, str],
        options: AuditOptions,
    ) -> str:
        """Write the page that compares the arms."""
        from tckr.reporting.comparison import write_comparison

        return write_comparison(
            comparison_table,
            picture,
            remarks,
            ingestion_report=ingestion_report,
            confidence=options.confidence,
            lineage=lineage,
            reports=reports,
        )

    return write_page
