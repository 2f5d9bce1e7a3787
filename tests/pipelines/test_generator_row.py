"""The row of the generator in arms without captions: what is compared, what it finds, and what a ledger says to it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import miniatures
from charged import charged
from memorised import learn_by_heart, smooth_images, spread_latents
from tckr.audit.guarantee import check, guarantee
from tckr.audit.options import AuditOptions, GeneratorThreat, ReleaseThreat
from tckr.audit.results import Audit, Plan
from tckr.audit.seen import part
from tckr.audit.things import ThreatAudit
from tckr.audit.threats import audit_generator
from tckr.diffusion.dp_lora import adapt_privately, adaptation_plan, untouched
from tckr.diffusion.pipeline import load
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.diffusion.update import Adaptation, DenoiserUpdate
from tckr.dp import Ledger, Noise
from tckr.images.tensors import to_png
from tckr.options import PrivateSchedule
from tckr.pipelines.privacy_audit.nodes import score_generator
from tckr.synthesizers.private import Private, PrivateBudget
from tckr.synthesizers.privimage import PrivImage

N, CLASSES = 16, ("bag", "boot")
INSIDE = np.arange(2 * N) < N
NAMES = [CLASSES[i % 2] for i in range(2 * N)]
MU = 0.1
OPTIONS = AuditOptions(
    generator=GeneratorThreat(signals=("loss",), timesteps=(0.3, 0.5), noises=4),
    release=ReleaseThreat(encoder="none"),
)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Members and as many others, uint8 (2 N, 1, 16, 16): smooth, so that a random autoencoder tells them apart."""
    return smooth_images(2 * N, 16)


@pytest.fixture(scope="module")
def table(images: torch.Tensor) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"{i:04x}" for i in range(2 * N)],
            "split": np.where(INSIDE, "members", "holdout"),
            "label": np.arange(2 * N) % 2,
            "class_name": NAMES,
            "image": to_png(images),
        }
    )


@pytest.fixture(scope="module")
def adaptation(
    images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> DPAdaptationOptions:
    """Of a tiny generator whose latents have unit spread, as a trained autoencoder's do."""
    torch.manual_seed(0)
    pipeline = miniatures.generator()
    spread_latents(pipeline, images)
    folder: Path = tmp_path_factory.mktemp("generator")
    pipeline.save_pretrained(folder)
    schedule = PrivateSchedule(
        steps=4, sampling_rate=1.0, learning_rate=1e-2, max_grad_norm=1e-3, micro_batch=N
    )
    return DPAdaptationOptions(
        generator=str(folder), rank=2, class_only=0, unconditional=0, flip=False, schedule=schedule
    )


@pytest.fixture(scope="module")
def pretrained(adaptation: DPAdaptationOptions) -> DenoiserUpdate:
    """A step away from the generator as it was downloaded."""
    torch.manual_seed(2)
    unet = load(adaptation.generator, "cpu", None).unet
    return DenoiserUpdate(
        {name: 0.02 * torch.randn_like(each) for name, each in unet.named_parameters()}
    )


def trained_without_noise(
    adaptation: DPAdaptationOptions, pretrained: DenoiserUpdate, images: torch.Tensor
) -> DenoiserUpdate:
    """What plain training on the members alone adds to every weight."""
    torch.manual_seed(3)
    pipeline = pretrained.apply(load(adaptation.generator, "cpu", None))
    before = {name: each.detach().clone() for name, each in pipeline.unet.named_parameters()}
    learn_by_heart(pipeline, images[:N], NAMES[:N])
    return DenoiserUpdate(
        {name: each.detach() - before[name] for name, each in pipeline.unet.named_parameters()}
    )


def trained_privately(
    adaptation: DPAdaptationOptions, pretrained: DenoiserUpdate, images: torch.Tensor
) -> Adaptation:
    """What DP-SGD of mu = `MU` adds: every image is in each of its steps."""
    multiplier = adaptation.schedule.steps**0.5 / MU
    pipeline = pretrained.apply(load(adaptation.generator, "cpu", None))
    entry = charged(adaptation_plan(adaptation, 1), multiplier)
    names = NAMES[:N]
    return adapt_privately(
        pipeline, images[:N], names, names, adaptation, entry, Noise(seed=0), seed=7
    )


def scores(
    adaptation: DPAdaptationOptions, artefacts: Mapping[str, Any], table: pd.DataFrame
) -> dict[str, np.ndarray]:
    arm = PrivImage.partly(generator_adaptation=adaptation)
    made = score_generator(arm, artefacts, table, OPTIONS, seed=0)
    return {name: each.numpy() for name, each in made.items()}


def row(found: Mapping[str, np.ndarray]) -> ThreatAudit:
    return audit_generator(part(found, "adapted"), part(found, "base"), INSIDE, OPTIONS)


def audited(thing: ThreatAudit) -> Audit:
    """The row beside a ledger that proves `MU`."""
    ledger = Ledger(100.0, 1e-3, n=N, data_hash="4f2a")
    ledger.add(
        name="generator adaptation", mechanism="gaussian", noise_multiplier=1 / MU, why="clipped", code="test"
    )  # fmt: skip
    things = {"generator": thing}
    plan = Plan(n_shadows=4, requested=4, workers=1, seconds_per_group=1.0, minutes=0.1)
    proven = guarantee(ledger, things, OPTIONS.fprs)
    return Audit(plan=plan, things=things, guarantee=proven)


def test_the_reference_is_pre_trained_and_prompts_are_class_names(
    adaptation: DPAdaptationOptions, pretrained: DenoiserUpdate, table: pd.DataFrame
) -> None:
    """An adapter that changes nothing leaves nothing to find, however far the pre-training went."""
    nothing = untouched(load(adaptation.generator, "cpu", None), adaptation)
    both = partial(scores, adaptation, table=table)
    found = both({"pretrained": pretrained, "adapter": nothing})
    np.testing.assert_array_equal(found["base.loss"], found["adapted.loss"])
    downloaded = both({"pretrained": nothing, "adapter": nothing})
    assert not np.allclose(found["base.loss"], downloaded["base.loss"])
    swapped = both(
        {"pretrained": pretrained, "adapter": nothing},
        table=table.assign(label=1 - table["label"], class_name=NAMES[::-1]),
    )
    assert not np.allclose(found["base.loss"], swapped["base.loss"])


@pytest.mark.slow
def test_a_generator_that_knows_its_images_by_heart_is_found(
    adaptation: DPAdaptationOptions,
    pretrained: DenoiserUpdate,
    images: torch.Tensor,
    table: pd.DataFrame,
) -> None:
    learnt = trained_without_noise(adaptation, pretrained, images)
    thing = row(scores(adaptation, {"pretrained": pretrained, "adapter": learnt}, table))
    assert thing.primary_attack == "loss_calibrated"
    proven = audited(thing).proven
    assert proven is not None
    assert thing.primary.auc.low > max(0.6, proven.auc)


@pytest.mark.slow
def test_one_that_learnt_as_its_ledger_says_stays_under_the_bound(
    adaptation: DPAdaptationOptions,
    pretrained: DenoiserUpdate,
    images: torch.Tensor,
    table: pd.DataFrame,
) -> None:
    learnt = trained_privately(adaptation, pretrained, images)
    thing = row(scores(adaptation, {"pretrained": pretrained, "adapter": learnt}, table))
    audit = audited(thing)
    assert check(audit) == []
    assert audit.proven is not None
    assert {each.thing for each in audit.proven.compared} == {"generator"}
    assert thing.primary.auc.value <= audit.proven.auc
    assert thing.primary.covers_half


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_arm_that_adapts_no_generator_has_no_row(share: float) -> None:
    arm = Private.partly(privacy=PrivateBudget(adaptation=share))
    assert ("generator" in arm.open_threats) is (share > 0)
    if not share:
        assert score_generator(arm, {}, pd.DataFrame(), OPTIONS, seed=0) == {}
