"""Cells of a grid, a run a seed each, compared with one of them pair by pair, as a table."""

from collections.abc import Hashable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import stats

CONFIDENCE = 0.95
NOTHING = dict.fromkeys(
    ("accuracy", "sd", "difference", "difference_low", "difference_high", "as_good")
)

Cell = tuple[Hashable, ...]
Run = dict[str, Any]


def compared(runs: Iterable[Run], keys: Sequence[str], published: Cell) -> list[Run]:
    """One row a cell: mean and sd of accuracy over seeds, and the paired difference to one cell; none where a seed has no student.

    A student is *as good* if the 95 % interval of its difference, paired by seed (Student's t), includes 0; the
    interval stands beside, for with few seeds it is wide.

    Args:
        runs: of every seed and cell one.
        keys: that name a cell.
        published: the cell that the others are compared with.

    Raises:
        ValueError: a seed lacks a cell, or was measured twice.
    """
    runs = list(runs)
    accuracy = by_cell(runs, keys, "accuracy")
    if accuracy.size > len(runs):
        raise ValueError("every seed must have every cell")
    rows = []
    for cell in accuracy:
        own = accuracy[cell]
        if own.isna().any():
            rows.append({**dict(zip(keys, cell, strict=True)), **NOTHING, "seeds": len(own)})
            continue
        difference = (own - accuracy[published]).tolist()
        low, high = _interval(difference) if cell != published else (None, None)
        rows.append(
            {
                **dict(zip(keys, cell, strict=True)),
                "seeds": len(own),
                "accuracy": mean(own),
                "sd": stdev(own) if len(own) > 1 else None,
                "difference": mean(difference),
                "difference_low": low,
                "difference_high": high,
                "as_good": cell == published or (None if low is None else low <= 0 <= high),
            }
        )
    return rows


def by_cell(runs: Iterable[Run], keys: Sequence[str], value: str) -> pd.DataFrame:
    """A value of all runs: a row a seed, a column a cell."""
    return pd.DataFrame(list(runs)).pivot(index="seed", columns=list(keys), values=value)


def add_means(result: dict[str, Any], keys: Sequence[str], values: Sequence[str]) -> None:
    """Give each cell the means over its seeds of what its runs have."""
    for value in values:
        table = by_cell(result["runs"], keys, value)
        for row in result["cells"]:
            found = table[tuple(row[key] for key in keys)].mean()
            row[value] = None if pd.isna(found) else float(found)


def _interval(differences: Sequence[float]) -> tuple[Any, Any]:
    """Interval of the mean of paired differences (Student's t); none from a single pair."""
    if len(differences) < 2:
        return None, None
    error = stdev(differences) / len(differences) ** 0.5
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return mean(differences) - reach, mean(differences) + reach


def show(result: dict[str, Any], keys: Sequence[str], more: dict[str, str]) -> None:
    """Print the cells as a table.

    Args:
        more: formats of further columns by their key.
    """
    seeds = sorted({run["seed"] for run in result["runs"]})
    teacher = mean({run["seed"]: run["teacher"] for run in result["runs"]}.values())
    published = ", ".join(map(_name, result["published"]))
    table = Table(
        title=f"Students of {result['members']:,} synthetic images, teacher {teacher:.2f} %, seeds {seeds}; "
        f"{result['machine']}, torch {result['torch']}"
    )
    columns = (*keys, "student % (mean ± sd)", *more, f"difference to {published} (95 %)")
    for name in (*columns, "as good"):
        table.add_column(name, justify="right")
    for row in result["cells"]:
        table.add_row(
            *(_name(row[key]) for key in keys),
            _accuracy(row),
            *(
                "" if row[key] is None else format(row[key], pattern)
                for key, pattern in more.items()
            ),
            _difference(row),
            {True: "yes", False: "no", None: ""}[row["as_good"]],
        )
    Console(width=140).print(table)


def _name(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _accuracy(row: Run) -> str:
    if row["accuracy"] is None:
        return "no student"
    return f"{row['accuracy']:.2f}" + ("" if row["sd"] is None else f" ± {row['sd']:.2f}")


def _difference(row: Run) -> str:
    if row["difference"] is None:
        return ""
    if row["difference_low"] is None:
        return f"{row['difference']:+.2f}"
    return (
        f"{row['difference']:+.2f} ({row['difference_low']:+.2f} to {row['difference_high']:+.2f})"
    )
