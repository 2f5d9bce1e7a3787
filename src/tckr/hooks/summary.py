"""What the reader sees: the plan before a run, the figures and where everything lies after it."""

import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from rich.console import Console
from rich.table import Table

from tckr.hooks.clock import Clock
from tckr.hooks.lineage import Lineage, describe_start
from tckr.hooks.project import saved_path
from tckr.hooks.turns import in_turn

logger = logging.getLogger(__name__)

# The `summary` of entries whose content is printed, not their place.
WARNINGS, REMARKS, DESCRIBED = "warnings", "remarks", "described"


class Summary:
    """Print the plan and the results; which ones, the catalog's metadata say.

    * `summary: <title>`: say where this entry lies once the run has figures; if nothing was saved, what it says of that.
    * `inside: {<title>: <file>}`: say where a file of that entry lies, too.
    * `mlflow: metrics`: print the figures of teacher and student.
    * `mlflow: children`: print the table of models, or that of arms, which stands for the figures of each.
    * `summary: remarks`: print the sentences that belong below a table.
    * `summary: described`: print the sentences that say how something was made.
    * `summary: warnings`: print what is poor about what the run made; nothing if there is none.
    """

    def __init__(self, clock: Clock, lineage: Lineage) -> None:
        """Args: clock: knows the seconds of every node. lineage: knows what the run starts from."""
        self._clock, self._lineage = clock, lineage
        self._console = Console(
            highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110
        )
        self._forget()

    def _forget(self) -> None:
        self._tables: list[Table] = []
        self._compared: list[Table] = []  # of all arms, in place of a table for each
        self._remarks: list[str] = []
        self._warnings: list[str] = []
        self._saved: dict[str, Path] = {}
        self._absent: dict[str, str] = {}  # of what was not saved, why
        self._inside: dict[str, dict[str, str]] = {}
        self._titles: dict[str, str] = {}
        self._catalog: CatalogProtocol | None = None

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say what will happen, on what, and how long it took the last time."""
        self._forget()
        self._catalog = catalog
        name = " + ".join(run_params["pipeline_names"] or ["__default__"])
        seed = f"  seed {catalog.load('params:seed')}" if "params:seed" in pipeline.inputs() else ""
        self._console.print(f"\n[bold]tckr {name}[/bold]  version {run_params['run_id']}{seed}")
        self._console.print(f"  on {_machine()}", style="dim")
        for line in describe_start(self._lineage):
            self._console.print(f"  {line}", markup=False)
        stages = stages_of(pipeline)
        width = max([21, *map(len, stages)])
        for stage in stages:
            told = describe(stage, pipeline, catalog)
            last = self._lineage.last_seconds(stage)
            took = f" (last time {_duration(last)})" if last is not None and last > 5 else ""
            self._console.print(f"  {stage:<{width}} {told}{took}", markup=False)
        self._console.print()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name what is being done."""
        logger.info("%s", node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember the figures and where things lie."""
        dataset = self._catalog.get(dataset_name) if self._catalog is not None else None
        metadata = getattr(dataset, "metadata", None) or {}
        if metadata.get("mlflow") == "metrics":
            arm = dataset_name.rpartition(".")[0]
            self._tables.append(results_table(data, arm))
        elif metadata.get("mlflow") == "children":
            if "arm" in data:
                self._compared.append(arms_table(data))
            else:
                self._tables.append(sweep_table(data))
        if metadata.get("summary") == REMARKS:
            self._remarks += data
        elif metadata.get("summary") == DESCRIBED:
            arm = dataset_name.rpartition(".")[0]
            self._remarks += [f"{arm}: {text}" if arm else text for text in data["described"]]
        elif metadata.get("summary") == WARNINGS:
            arm = dataset_name.rpartition(".")[0]
            whose = f"{arm}: " if arm else ""
            self._warnings += [f"{whose}{warning['text']}" for warning in data]
        elif getattr(dataset, "_filepath", None) is not None:
            self._saved[dataset_name] = path = saved_path(dataset)
            if not path.exists():
                self._absent[dataset_name] = str(data)
            self._inside[dataset_name] = metadata.get("inside", {}) if path.exists() else {}
            if title := metadata.get("summary"):
                self._titles[dataset_name] = str(title)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Print the tables, the places and the times."""
        for table in self._compared or self._tables:
            self._console.print()
            self._console.print(table)
        for remark in self._remarks:
            self._console.print(f"  {remark}", markup=False)
        self._console.print()
        for warning in self._warnings:
            self._console.print(f"  {'warning':<21} {warning}", markup=False, style="yellow")
        chosen = list(self._titles) if self._tables or self._compared else list(self._saved)
        several = len({name.rpartition(".")[0] for name in chosen}) > 1
        for name in chosen:
            title = name if several else self._titles.get(name, name)
            if name in self._absent:
                line = f"  {title:<21} {self._absent[name]}"
                self._console.print(line, markup=False, style="yellow")
                continue
            path = os.path.relpath(self._saved[name])
            self._console.print(f"  {title:<21} {path}", markup=False)
            for inner, file in self._inside[name].items():
                self._console.print(f"  {inner:<21} {path}/{file}", markup=False)
        stages = {stage: s for stage, s in self._clock.stages.items() if s >= 1}
        parts = ", ".join(f"{stage} {_duration(seconds)}" for stage, seconds in stages.items())
        total = _duration(sum(self._clock.seconds.values()))
        self._console.print(f"  {'time':<21} {total}{f' ({parts})' if parts else ''}", markup=False)
        if self._tables or self._compared:
            self._console.print(f"  {'compare runs':<21} make mlflow", markup=False)


def stages_of(pipeline: Pipeline) -> list[str]:
    """Return the stages that will run, each after those whose results it reads."""
    read: dict[str, set[str]] = {}
    made: dict[str, str] = {}
    for node in in_turn(pipeline):
        stage = node.namespace or node.name
        read.setdefault(stage, set()).update(node.inputs)
        made |= dict.fromkeys(node.outputs, stage)
    waits_for = {
        stage: {made[name] for name in names if name in made} - {stage}
        for stage, names in read.items()
    }
    ordered: list[str] = []
    while waits_for:
        # Two stages may read of each other; then the one whose first node runs first stands first.
        ready = (stage for stage, others in waits_for.items() if others <= set(ordered))
        ordered.append(next(ready, next(iter(waits_for))))
        del waits_for[ordered[-1]]
    return ordered


def describe(stage: str, pipeline: Pipeline, catalog: CatalogProtocol) -> str:
    """Say in a few words what a stage will do: what the options that its nodes read say of themselves."""
    nodes = [node for node in pipeline.nodes if (node.namespace or node.name) == stage]
    own = stage.rpartition(".")[2]
    groups = dict.fromkeys(name for node in nodes for name in node.inputs if _is_of(name, own))
    told = []
    for name in groups:
        options = catalog.load(name)
        # Of a stage that runs in part, options tell only what the node does that they are about.
        about = getattr(options, "about", None)
        there = about is None or any(node.name.rpartition(".")[2] == about for node in nodes)
        if hasattr(options, "describe") and there:
            told.append(options.describe())
    sources = [
        str(catalog.load(n)) for n in sorted(pipeline.inputs()) if _starts(n, nodes, catalog)
    ]
    return "; ".join([*told, *(f"from {source}" for source in sources)]) or _names(nodes)


def _is_of(name: str, stage: str) -> bool:
    return name.startswith("params:") and name.removeprefix("params:").rpartition(".")[2] == stage


def _starts(name: str, nodes: list[Node], catalog: CatalogProtocol) -> bool:
    """Whether an input is a place outside the catalog's versions that one of the nodes reads."""
    return hasattr(catalog.get(name), "check") and any(name in node.inputs for node in nodes)


def _names(nodes: list[Node]) -> str:
    if len(nodes) == 1 and nodes[0].func.__doc__:
        summary = nodes[0].func.__doc__.strip().splitlines()[0]
        summary = re.split(r"[.;:]( |$)", summary)[0]
        return summary[0].lower() + summary[1:]
    return ", ".join(node.short_name for node in nodes[:3]).replace("_", " ").lower()


RESULTS = ("accuracy", "AUC_MIA", "AUC_MIA_low", "AUC_MIA_high", "AOP")


def results_table(metrics: Mapping[str, Any], arm: str = "") -> Table:
    """Lay the figures of teacher and student side by side, and say below what is proven."""
    title = "What the models can do, and what they give away"
    table = Table(title=f"{title} ({arm})" if arm else title, title_justify="left")
    table.caption, table.caption_justify = proven(metrics), "left"
    table.add_column("trained on")
    for column in ("accuracy %", "AUC_MIA % (95 %)", "AOP"):
        table.add_column(column, justify="right")
    for row, prefix in (("real data (teacher)", "teacher."), ("recycled (student)", "")):
        own = {name: metrics[f"{prefix}{name}"] for name in RESULTS}
        table.add_row(row, *(_with_interval(own, name) for name in ("accuracy", "AUC_MIA", "AOP")))
    if "released.AUC_MIA" in metrics:
        of_set = {
            f"AUC_MIA{end}": metrics[f"released.AUC_MIA{end}"] for end in ("", "_low", "_high")
        }
        table.add_row("(the recycled set itself)", "", _with_interval(of_set, "AUC_MIA"), "")
    return table


def proven(metrics: Mapping[str, Any]) -> str:
    """Say what differential privacy proves of a run.

    >>> proven({"epsilon": "infinity"})
    'epsilon: infinity: nothing is proven, leaks are measured'
    >>> proven({"epsilon": 10.0, "delta": 4.2e-5, "mu": 2.1453, "AUC_MIA_bound": 93.53, "aop_certified": 24.22})
    'epsilon 10, delta 4.2e-05, mu 2.15: whatever the attack, AUC at most 93.5 % and AOP at least 24.2'
    """
    if not isinstance(metrics.get("epsilon"), float):
        return "epsilon: infinity: nothing is proven, leaks are measured"
    return (
        f"epsilon {metrics['epsilon']:.4g}, delta {metrics['delta']:.2g}, mu {metrics['mu']:.3g}: whatever the attack,"
        f" AUC at most {metrics['AUC_MIA_bound']:.1f} % and AOP at least {metrics['aop_certified']:.1f}"
    )


def sweep_table(sweep: pd.DataFrame) -> Table:
    """Lay the figures of the teacher and of the student of every cardinality below each other."""
    figures = sweep.astype(object).where(sweep.notna(), None)
    rate = next((name for name in sweep if name.startswith("TPR_") and name.endswith("FPR")), None)
    table = Table(title="What more synthetic images buy, and what they give away")
    table.title_justify = "left"
    table.add_column("trained on")
    columns = {"accuracy": "accuracy %", "AUC_MIA": "AUC_MIA % (95 %)", "AOP": "AOP"}
    if rate is not None:
        at = rate.removeprefix("TPR_at_").removesuffix("pct_FPR")
        columns[rate] = f"TPR % at {at} % FPR"
    shown = {name: title for name, title in columns.items() if name in sweep}
    for title in (*shown.values(), "images"):
        table.add_column(title, justify="right")
    for row in figures.to_dict("records"):
        title = {
            "teacher": "real data (teacher)",
            "student": f"recycled, {row['cardinality'] or 0:g} x",
            "control": "nothing private (control)",
        }[row["model"]]
        cells = [_with_interval(row, name) for name in shown]
        table.add_row(title, *cells, f"{row['images']:,}")
    return table


def arms_table(arms: pd.DataFrame) -> Table:
    """Lay the figures of the arms below each other, with what is proven of each beside what was measured."""
    table = Table(title="What the arms can do, what they give away, and what is proven")
    table.title_justify = "left"
    table.add_column("arm", no_wrap=True)
    names = ("accuracy %", "AUC_MIA % (95 %)", "at most %", "AOP", "certified AOP", "minutes")
    for column in ("epsilon", *names):
        # Figures stay on one line; titles of two words may take two.
        table.add_column(column, justify="right", no_wrap=column == "AUC_MIA % (95 %)")
    for row in arms.to_dict("records"):
        table.add_row(
            "real data (teacher)" if row["arm"] == "teacher" else row["arm"],
            "infinity" if math.isinf(row["epsilon"]) else f"{row['epsilon']:.3g}",
            _with_interval(row, "accuracy"),
            _with_interval(row, "AUC_MIA"),
            *(
                _with_interval(row, name)
                for name in ("AUC_MIA_bound", "AOP", "aop_certified", "minutes")
            ),
        )
    return table


def _with_interval(row: dict[Any, Any], name: str) -> str:
    """Print a figure, the attack's AUC with its interval; say so where it is not measured."""
    if row[name] is None or math.isnan(row[name]):
        return "-" if name != "AUC_MIA" else "not measured"
    text = f"{row[name]:.1f}"
    if name != "AUC_MIA":
        return text
    return f"{text} ({row['AUC_MIA_low']:.1f} to {row['AUC_MIA_high']:.1f})"


def _machine() -> str:
    """Name the device in a few words; torch is asked only if a GPU driver is there, since it takes seconds to import."""
    if Path("/proc/driver/nvidia").exists():
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPU cores"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"
