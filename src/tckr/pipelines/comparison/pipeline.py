"""The audits of several arms -> one table, one picture, one page.

The arms themselves are those of their own pipelines: one split, one audit, and what they share is made once.
"""

import warnings
from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from tckr.pipelines.comparison import nodes
from tckr.pipelines.stage import in_namespace
from tckr.synthesizers.registry import DEFAULT

NAME = "comparison"
AUDIT = "params:privacy_audit"


def create_pipeline(arms: Sequence[str]) -> Pipeline:
    """Wire the comparison: each arm's audit, durations -> table, remarks, picture, page."""
    entries = {f"{nodes.AUDIT}{arm}": entry_of(arm, "audit") for arm in arms}
    tabulated = {
        "durations": "durations",
        "options": f"params:{NAME}",
        **entries,
    }
    page = {
        "comparison_table": "table",
        "remarks": "remarks",
        "picture": "picture",
        "ingestion_report": "ingestion_report",
        "lineage": "lineage",
        "options": AUDIT,
    }
    reports = {arm: entry_of(arm, "report") for arm in arms}
    shared = {"durations", "ingestion_report", "lineage", *entries.values()}
    with warnings.catch_warnings():
        # Kedro takes it for a slip that a node reads what lies in the boxes of others.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        wired = [
            Node(
                nodes.tabulate_arms({arm: entry_of(arm, "audit") for arm in arms}),
                inputs=tabulated,
                outputs=["table", "remarks"],
                name="tabulate",
            ),
            Node(
                nodes.draw_picture, inputs=["table", AUDIT], outputs="picture", name="draw_picture"
            ),
            Node(nodes.page_writer(reports), inputs=page, outputs="page", name="write_page"),
        ]
        return in_namespace(NAME, Pipeline(wired), shared, own_parameters=())


def entry_of(arm: str, name: str) -> str:
    """Return the catalog entry of what an arm makes: the default arm keeps plain names.

    >>> entry_of("tckr", "audit"), entry_of("unadapted", "audit")
    ('audit', 'unadapted.audit')
    """
    return name if arm == DEFAULT else f"{arm}.{name}"
