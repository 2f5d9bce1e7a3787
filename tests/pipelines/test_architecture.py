"""What holds for every pipeline, dataset and parameter, whoever adds one."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import pipelines as registered
from kedro.io import DataCatalog
from kedro.io.core import AbstractVersionedDataset
from kedro.io.memory_dataset import MemoryDataset
from kedro.pipeline import Pipeline
from PIL import Image

from tckr.hooks.checks import OUTSIDE, check_parameters
from tckr.hooks.restore import ENGINE
from tckr.hooks.tracking import KINDS
from tckr.pipeline_registry import (
    COMPARISON,
    EXPORTS,
    NAMES,
    RELEASE,
    RELEASES,
    STAGES,
    SWEEP,
    VERIFY,
    register_pipelines,
)
from tckr.pipelines.arm import arm_stages
from tckr.settings import CONFIG_LOADER_ARGS
from tckr.synthesizers.registry import DEFAULT, SYNTHESIZERS

ROOT = Path(__file__).parents[2]
LAYERS = (
    "raw",
    "intermediate",
    "primary",
    "feature",
    "model_input",
    "models",
    "model_output",
    "reporting",
    "release",
)


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    """All that are registered, whichever an earlier test of this process asked Kedro for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registered, "_requested_pipelines", None)
        return register_pipelines()


@pytest.fixture(scope="module")
def catalog() -> DataCatalog:
    return DataCatalog.from_config(config("base")["catalog"])


def config(env: str, **parameters: Any) -> OmegaConfigLoader:
    return OmegaConfigLoader(
        str(ROOT / "conf"), env=env, runtime_params=parameters, **CONFIG_LOADER_ARGS
    )


def persisted(pipeline: Pipeline) -> set[str]:
    """Datasets of a pipeline that are not parameters."""
    return {
        name
        for name in pipeline.datasets()
        if not name.startswith("params:") and name != "parameters"
    }


def test_names(pipelines: dict[str, Pipeline]) -> None:
    jobs = {SWEEP, COMPARISON, *EXPORTS, *RELEASES, VERIFY, "foundation", "__default__"}
    assert set(pipelines) == {*STAGES, *SYNTHESIZERS, *jobs}


@pytest.mark.parametrize("name", STAGES)
def test_a_name_runs_everything_up_to_its_stage(name: str, pipelines: dict[str, Pipeline]) -> None:
    stages = {node.namespace for node in pipelines[name].nodes}

    whole = {*STAGES, RELEASE}
    last = STAGES.index(name) + 1
    assert stages == (whole if name == "knowledge_recycling" else set(STAGES[:last]))
    assert {i for i in pipelines[name].inputs() if not i.startswith("params:")} <= {
        "raw_images",
        "parameters",
        "lineage",
    }


def test_the_sweep_starts_from_raw_files_and_needs_teacher_and_generators_alone_of_the_loop(
    pipelines: dict[str, Pipeline],
) -> None:
    inputs = {i for i in pipelines[SWEEP].inputs() if not i.startswith("params:")}
    recycling = [node.name for node in pipelines[SWEEP].nodes if "recycling" in node.name]

    assert inputs == {"raw_images"}
    assert recycling == [
        f"knowledge_recycling.{name}"
        for name in ("train_teacher", "choose_generator", "fit_mixture")
    ]


def test_the_default_is_the_whole_loop(pipelines: dict[str, Pipeline]) -> None:
    assert pipelines["__default__"].describe() == pipelines["knowledge_recycling"].describe()
    assert {"audit", "metrics", "report"} <= pipelines["__default__"].outputs() | {"audit"}


@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_is_in_the_catalog(
    name: str, pipelines: dict[str, Pipeline], catalog: DataCatalog
) -> None:
    missing = [name for name in persisted(pipelines[name]) if name not in catalog]
    assert not missing


def test_every_catalog_entry_is_used(pipelines: dict[str, Pipeline]) -> None:
    written = set(config("base")["catalog"])
    used = set().union(*(persisted(pipeline) for pipeline in pipelines.values()))
    of_arms = {f"{{arm}}.{name.partition('.')[2]}" for name in used if "." in name}
    # What only the default arm makes, any further arm may make too.
    of_arms |= {f"{{arm}}.{name}" for name in persisted(pipelines[DEFAULT])} | {"{arm}.{artefact}"}
    assert {name for name in written if "{" not in name} <= used
    assert {name for name in written if "{" in name} <= of_arms


@pytest.mark.parametrize(
    "name", [*STAGES, *SYNTHESIZERS, SWEEP, COMPARISON, *EXPORTS, *RELEASES, VERIFY]
)
def test_everything_a_job_makes_is_versioned(
    name: str, pipelines: dict[str, Pipeline], catalog: DataCatalog
) -> None:
    for made in pipelines[name].all_outputs():
        dataset = catalog.get(made)
        assert isinstance(dataset, AbstractVersionedDataset), made
        assert dataset._version is not None, made


def test_every_entry_has_a_layer(pipelines: dict[str, Pipeline], catalog: DataCatalog) -> None:
    for name in set().union(*(persisted(pipeline) for pipeline in pipelines.values())):
        dataset = catalog.get(name)
        assert dataset.metadata["kedro-viz"]["layer"] in LAYERS, name
        if not isinstance(dataset, MemoryDataset) and "foundation" not in str(dataset._filepath):
            folder = Path(str(dataset._filepath).removeprefix(f"{ROOT}/")).parts[1]
            layer = dataset.metadata["kedro-viz"]["layer"]
            assert re.fullmatch(rf"0\d_{layer}", folder), f"{name}: {folder} is not layer {layer}"


@pytest.mark.parametrize("name", NAMES)
def test_data_flows_down_the_layers(
    name: str, pipelines: dict[str, Pipeline], catalog: DataCatalog
) -> None:
    """kedro-viz shows no layers at all where two of them feed each other."""

    def layer(dataset: str) -> int:
        return LAYERS.index(catalog.get(dataset).metadata["kedro-viz"]["layer"])

    for node in pipelines[name].nodes:
        data = [i for i in node.inputs if not i.startswith("params:") and i != "parameters"]
        assert max(map(layer, data), default=0) <= min(map(layer, node.outputs)), node.name


def test_mlflow_metadata_is_understood() -> None:
    kinds = {entry["metadata"].get("mlflow") for entry in config("base")["catalog"].values()}
    assert kinds <= {None, *KINDS}


@pytest.mark.parametrize("env", ["base", "gpu", "test"])
def test_every_parameter_is_known_and_in_range(env: str, pipelines: dict[str, Pipeline]) -> None:
    check_parameters(config(env)["parameters"], pipelines.values())


def test_every_parameter_is_used(pipelines: dict[str, Pipeline]) -> None:
    used = {
        name
        for pipeline in pipelines.values()
        for name in pipeline.inputs()
        if name.startswith("params:")
    }
    # What changes speed alone is read by a hook, before any node runs.
    used = {name.partition(".")[0] for name in used} | {f"params:{ENGINE}"}
    assert {f"params:{name}" for name in config("base")["parameters"]} == used


@pytest.mark.parametrize(
    "file",
    sorted((ROOT / "conf").glob("*/*.yml")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_configuration_files_say_something_about_their_own_stage(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    kind, _, stage = file.stem.partition("_")

    assert content
    assert not stage or stage in NAMES
    if kind == "parameters" and stage:
        assert stage in content


@pytest.mark.parametrize("env", ["gpu", "test"])
def test_an_environment_only_changes_what_base_has(env: str) -> None:
    base, other = (
        yaml.safe_load((ROOT / f"conf/{name}/globals.yml").read_text()) for name in ("base", env)
    )
    assert set(other) <= set(base)
    assert set(yaml.safe_load((ROOT / f"conf/{env}/parameters.yml").read_text())) <= set(
        config("base")["parameters"]
    )


def test_images_of_another_folder_in_one_line() -> None:
    entry = config("base", images="/elsewhere")["catalog"]["raw_images"]
    assert entry["filepath"] == "/elsewhere"
    assert "images" in OUTSIDE


@pytest.mark.parametrize("arm", SYNTHESIZERS)
def test_an_arm_is_its_own_box_with_its_stages_inside(arm: str) -> None:
    stages = {node.namespace for made in arm_stages(arm).values() for node in made.nodes}
    prefix = "" if arm == DEFAULT else f"{arm}."

    assert {f"{prefix}{name}" for name in STAGES[3:]} <= stages
    assert all(stage.startswith(prefix) for stage in stages)


def test_arms_share_the_private_set_and_the_teacher(pipelines: dict[str, Pipeline]) -> None:
    together = pipelines["tckr"] + pipelines["unadapted"]
    names = [node.name for node in together.nodes]

    assert names.count("ingestion.ingest") == 1
    assert names.count("knowledge_recycling.train_teacher") == 1


def test_stages_are_wired_without_waiting_for_torch() -> None:
    code = (
        "import sys; from kedro.framework.project import pipelines as project;"
        "project._requested_pipelines = ['__default__'];"
        "from tckr.pipeline_registry import register_pipelines; register_pipelines();"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_pipeline_switches_off_pillows_guard(pipelines: dict[str, Pipeline]) -> None:
    assert pipelines
    assert Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("arm", ["__default__", *SYNTHESIZERS])
def test_a_run_of_an_arm_ends_with_its_release(arm: str, pipelines: dict[str, Pipeline]) -> None:
    own = "" if arm in ("__default__", DEFAULT) else f"{arm}."
    (last,) = (node for node in pipelines[arm].nodes if f"{own}release" in node.outputs)

    assert f"{own}audit" in last.inputs
    assert not [node for node in pipelines[arm].nodes if f"{own}release" in node.inputs]
    assert not [name for name in pipelines[COMPARISON].all_outputs() if name.endswith("release")]
