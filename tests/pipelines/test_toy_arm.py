"""A further arm is a file, a line in the registry and a parameters file: nothing else changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
ARM = '''\
"""Toy: the mean image of each class, and noise around it."""

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from tckr.engine.seeds import derive
from tckr.synthesizers.base import Step, Synthesizer
from tckr.synthesizers.private_set import class_prompts
from tckr.synthesizers.recycling import RecyclingOptions


class ToyRecyclingOptions(RecyclingOptions):
    noise: float = Field(30.0, gt=0, description="standard deviation, grey levels")


class Toy(Synthesizer):
    steps: ClassVar = (Step("average_classes", ("means",)),)
    channels: ClassVar = ("means",)

    knowledge_recycling: ToyRecyclingOptions

    def average_classes(self, private, artefacts, seed, device):
        return ({str(c): private.images[private.labels == c].float().mean(0) for c in range(3)},)

    def plan_prompts(self, fitted, count, seed, *, nested=False, closed=()):
        names, labels = class_prompts(fitted.class_names)
        rows = [i % len(names) for i in range(count)]
        return pd.DataFrame({"prompt": [names[i] for i in rows], "label": [labels[i] for i in rows]})

    def draw(self, fitted, prompts, seed, *, closed=()):
        import torch

        random = torch.Generator().manual_seed(derive(seed, "sampling"))
        for prompt in prompts:
            mean = fitted.artefacts["means"][str(list(fitted.class_names).index(prompt))]
            mean = torch.zeros_like(mean) if "means" in closed else mean
            noise = torch.randn(mean.shape, generator=random) * self.knowledge_recycling.noise
            yield (mean + noise).clamp(0, 255).to(torch.uint8)[None]
'''
# What a line in src/tckr/synthesizers/registry.py does, for a process of its own.
LINE = """\
import tckr.synthesizers.registry as registry
registry.SYNTHESIZERS["toy"] = "toy:Toy"
"""
PARAMETERS = """\
toy:
  knowledge_recycling: {cardinality: 1.5, noise: 20.0}
  student_training: {labels: on_the_fly, patience: 1}
"""


@pytest.mark.slow
def test_a_file_a_line_and_parameters_make_an_arm(project: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(ARM)
    (tmp_path / "start.py").write_text(f"{LINE}from kedro.framework.cli import main\nmain()\n")
    parameters = project / "conf/base/parameters_toy.yml"
    parameters.write_text(PARAMETERS)
    command = [sys.executable, str(tmp_path / "start.py"), "run", "--env=test", "--pipeline=toy"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}",
    }
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        parameters.unlink()
    assert done.returncode == 0, done.stdout + done.stderr

    def made(layer: str, entry: str) -> Path:
        version = max((project / "data/test" / layer / "toy" / entry).iterdir())
        return version / entry

    found = json.loads(made("08_reporting", "audit.json").read_text())
    assert set(found["things"]) == {"teacher", "student", "weights", "released", "joint", "images"}
    assert found["things"]["student"]["scope"] == "pipeline"
    channels = [row["channel"] for row in found["attribution"]["channels"]]
    assert channels == ["soft labels", "means", "all"]
    assert made("08_reporting", "report.html").stat().st_size > 10_000
    assert (made("06_models", "means") / "tensors.safetensors").is_file()
    recycled = pd.read_parquet(made("07_model_output", "recycled_set") / "data")
    assert len(recycled) == 90
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    (newest,) = mlflow.search_runs(
        experiment_names=["tckr"],
        filter_string="tags.pipeline_names LIKE '%toy%'",
        max_results=1,
        output_format="list",
    )
    assert {"accuracy", "AUC_MIA", "AOP"} <= set(newest.data.metrics)
