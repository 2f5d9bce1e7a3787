"""What the reader sees: the plan before a run, the figures and where everything lies after it."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from rich.console import Console
from rich.table import Table

from tckr.hooks.clock import Clock
from tckr.hooks.estimate import estimate, speed
from tckr.hooks.lineage import Lineage, describe_start
from tckr.hooks.project import saved_path
from tckr.pipeline_registry import NAMES, STAGES, SWEEP

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# Nodes whose time is the price of each model.
TEACHER = ("knowledge_recycling.train_teacher",)
RESULTS = {
    "recycled_set": "recycled set",
    "student": "student",
    "report": "report",
    "audit": "figures",
    "sweep": "table",
    "sweep_curves": "curves",
    "sweep_audit": "all figures",
}


class Summary:
    """Print the plan, an estimate and the results."""

    def __init__(self, clock: Clock, lineage: Lineage) -> None:
        """Args: clock: knows the seconds of every node. lineage: knows what the run starts from."""
        self._clock, self._lineage = clock, lineage
        self._console = Console(
            highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110
        )
        self._forget()

    def _forget(self) -> None:
        self._stages: list[str] = []
        self._parameters: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._metrics: dict[str, float] = {}
        self._sweep: pd.DataFrame | None = None
        self._saved: dict[str, Path] = {}
        self._catalog: CatalogProtocol | None = None

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say what will happen, and where."""
        self._forget()
        self._catalog = catalog
        self._stages = stages_of(pipeline)
        self._parameters = {
            name: value
            for name in (*NAMES, "classifier", "seed")
            # Kedro types the parameters of the requested pipelines only.
            if not isinstance(value := catalog.load(f"params:{name}"), dict)
        }
        name = " + ".join(run_params["pipeline_names"] or ["__default__"])
        self._console.print(
            f"\n[bold]tckr {name}[/bold]  version {run_params['run_id']}  seed {self._parameters.get('seed')}"
        )
        self._console.print(f"  on {_machine()}", style="dim")
        for line in describe_start(self._lineage):
            self._console.print(f"  {line}", markup=False)
        for stage in self._stages:
            told = describe(stage, self._parameters, catalog)
            self._console.print(f"  {stage:<21} {told}", markup=False)
        self._console.print()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name what is being done."""
        logger.info("%s", node.name)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Count what a part of the pipeline starts from."""
        self._count(dataset_name, data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember the figures and where things lie."""
        self._count(dataset_name, data)
        if dataset_name == "metrics":
            self._metrics = dict(data)
        elif dataset_name == "sweep":
            self._sweep = data
        dataset = self._catalog.get(dataset_name) if self._catalog is not None else None
        if getattr(dataset, "_filepath", None) is not None:
            self._saved[dataset_name] = saved_path(dataset)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Print the table and the places."""
        if self._metrics:
            self._console.print()
            self._console.print(results_table(self._metrics, self._counts, self._minutes()))
        if self._sweep is not None:
            self._console.print()
            self._console.print(sweep_table(self._sweep))
        finished = self._metrics or self._sweep is not None
        chosen = (
            [name for name in RESULTS if name in self._saved] if finished else list(self._saved)
        )
        self._console.print()
        for name in chosen:
            path = os.path.relpath(self._saved[name])
            self._console.print(f"  {RESULTS.get(name, name):<21} {path}", markup=False)
        total = sum(self._clock.seconds.values())
        self._console.print(f"  {'time':<21} {_clock(total)}", markup=False)
        if finished:
            self._console.print(f"  {'compare runs':<21} make mlflow", markup=False)

    def _count(self, name: str, data: Any) -> None:
        if name == "images" and "members" not in self._counts:
            self._counts["members"] = int((data["split"] == "members").sum())
            self._counts["holdout"] = int((data["split"] == "holdout").sum())
            self._tell_time()
        elif name == "recycled_set":
            self._counts["recycled"] = len(data)

    def _tell_time(self) -> None:
        """Estimate the time ahead, now that the members are counted."""
        seconds = estimate(self._stages, self._counts, self._parameters, speed())
        if seconds is not None and seconds > 5:
            logger.info(
                "%s members: about %s ahead (an estimate, from a short probe of this machine).",
                f"{self._counts['members']:,}",
                _clock(seconds),
            )

    def _minutes(self) -> dict[str, float]:
        """Minutes that each model took, beside the audit, which both share."""
        seconds = self._clock.seconds
        teacher = sum(seconds.get(node, 0.0) for node in TEACHER)
        before_audit = sum(
            s
            for stage, s in self._clock.stages.items()
            if stage not in ("ingestion", "privacy_audit")
        )
        return {"teacher": teacher / 60, "student": (before_audit - teacher) / 60}


def stages_of(pipeline: Pipeline) -> list[str]:
    """Return what will run, in order: stages, and `teacher` where that is all of its stage."""
    nodes = {node.name for node in pipeline.nodes}
    present = {name.split(".")[0] for name in nodes}
    stages = [stage for stage in (*STAGES, SWEEP) if stage in present]
    if {name for name in nodes if name.startswith("knowledge_recycling.")} == set(TEACHER):
        stages[stages.index("knowledge_recycling")] = "teacher"
    return stages


def describe(stage: str, parameters: dict[str, Any], catalog: CatalogProtocol) -> str:
    """Say in a few words what `stage` will do."""
    if stage == "ingestion":
        return f"read, check and split {catalog.load('raw_images')}"
    if stage == "captioning":
        return f"describe every member, with {parameters['captioning'].captioner}"
    if stage == "generator_adaptation":
        options = parameters["generator_adaptation"]
        if options.adapter:
            return f"take the adapter {options.adapter} for {options.generator}"
        work = (
            f"{options.epochs:g} passes" if options.epochs else f"{options.schedule.steps:,} steps"
        )
        return f"adapt {options.generator} to the members, {work}"
    if stage == "knowledge_recycling":
        options = parameters["knowledge_recycling"]
        return (
            f"teacher; synthetic images, {options.cardinality:g} x the members, from the {options.generator} "
            f"generator, prompted with {options.prompts.replace('_', ' ')}"
        )
    return _describe_models(stage, parameters)


def _describe_models(stage: str, parameters: dict[str, Any]) -> str:
    """Say which classifiers `stage` will train."""
    if stage == "teacher":
        return "classifier trained on the members"
    if stage == "student_training":
        return f"student on the recycled set alone, labels: {parameters[stage].labels.replace('_', ' ')}"
    shadows = f"calibrated by {parameters['privacy_audit'].n_shadows} shadows of each"
    if stage == SWEEP:
        sizes = ", ".join(f"{value:g}" for value in parameters[SWEEP].cardinalities)
        attacked = f", and an attack, {shadows}" if parameters[SWEEP].audit else ""
        return f"students on {sizes} x the members{attacked}"
    return f"attack teacher and student, {shadows}"


def results_table(
    metrics: dict[str, float], counts: dict[str, int], minutes: dict[str, float]
) -> Table:
    """Lay the figures of teacher and student side by side."""
    table = Table(title="What the models can do, and what they give away", title_justify="left")
    table.add_column("trained on")
    for column in ("accuracy %", "AUC_MIA % (95 %)", "AOP", "images", "minutes"):
        table.add_column(column, justify="right")
    rows = (
        ("real data (teacher)", "teacher.", "members", "teacher"),
        ("recycled (student)", "", "recycled", "student"),
    )
    for title, prefix, images, took in rows:
        low, high = metrics[f"{prefix}AUC_MIA_low"], metrics[f"{prefix}AUC_MIA_high"]
        table.add_row(
            title,
            f"{metrics[f'{prefix}accuracy']:.1f}",
            f"{metrics[f'{prefix}AUC_MIA']:.1f} ({low:.1f} to {high:.1f})",
            f"{metrics[f'{prefix}AOP']:.1f}",
            f"{counts[images]:,}" if images in counts else "",
            f"{minutes[took]:.1f}" if minutes[took] else "",
        )
    return table


def sweep_table(sweep: "pd.DataFrame") -> Table:
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


def _with_interval(row: dict[Any, Any], name: str) -> str:
    """Print a figure, the attack's AUC with its interval; a dash where nothing is measurable."""
    if row[name] is None:
        return "-"
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


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"
