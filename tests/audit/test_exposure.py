"""Duplicated canaries: a release that repeats them, and a teacher that learnt them by heart, are found out; others are not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from audit.test_audit import OPTIONS as FEW_SHADOWS
from audit.test_audit import config, images  # noqa: F401 - the fixture
from audit.test_extraction import COUNT, OPTIONS, near, photos, released  # noqa: F401 - the fixture
from tckr.audit import tables
from tckr.audit.audit import audit
from tckr.audit.exposure import expose
from tckr.audit.options import AuditOptions
from tckr.audit.results import Audit
from tckr.audit.seen import Seen
from tckr.audit.shadow_config import ShadowConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.audit.things import DuplicatedCanaries
from tckr.audit.threats import audit_generator, audit_release
from tckr.classifiers.distillation import train_teacher
from tckr.images.canaries import duplicate, is_duplicated, is_first
from tckr.images.options import CanaryOptions
from tckr.images.tensors import to_png, to_tensor

PLANTED, COPIES = 12, 5
RATE = OPTIONS.model_copy(update={"fprs": (0.1,)})  # that 300 holdout images resolve


def planted_among(table: pd.DataFrame) -> pd.DataFrame:
    ids = [f"{number:04}" for number in range(len(table))]
    given = table.assign(canary=False, image_id=ids, class_name=table["label"].astype(str))
    return duplicate(given, CanaryOptions(duplicated=PLANTED, copies=COPIES), seed=0)


def with_copies_of(release: pd.DataFrame, copied: pd.DataFrame) -> pd.DataFrame:
    """Put noisy copies of images into a release in the place of strangers."""
    pixels = to_tensor(copied["image"])
    torch.manual_seed(0)
    noisy = to_png((pixels + 8 * torch.randn(pixels.shape)).round().clamp(0, 255).to(torch.uint8))
    release = release.copy()
    release.loc[: len(copied) - 1, "image"] = pd.Series(list(noisy))
    release.loc[: len(copied) - 1, "label"] = copied["label"].to_numpy()
    return release


@pytest.mark.parametrize("memorised", [False, True])
def test_canaries_that_a_release_repeats_are_found(photos: pd.DataFrame, memorised: bool) -> None:  # noqa: F811
    """Half of the canaries of the members come out: seen among the canaries, unseen by the headline."""
    private = planted_among(photos)
    audited = tables.audited_images(private)
    inside = tables.is_member(audited)
    release = released(photos, 0)
    if memorised:
        canaries = audited[is_duplicated(audited) & is_first(audited) & inside]
        release = with_copies_of(release, canaries.iloc[: PLANTED // 2])
    scores = {
        f"images.{name}": torch.from_numpy(np.ascontiguousarray(values))
        for name, values in near(private, release).items()
    }
    scores["images.density_ratio"] = scores["images.density_ratio_pixels"]
    seen = Seen(audited, release=scores)
    ordinary = seen.ordinary()
    of_members = tables.is_member(ordinary.audited)
    values = tables.as_arrays(ordinary.release)["images.density_ratio"]
    headline = audit_release("images", {"density_ratio": values}, of_members, RATE)
    drawn = tables.draw_memberships(private, 2, 0)
    found = expose(seen, drawn, {"images": headline}, RATE)

    assert (headline.n_members, headline.n_non_members) == (COUNT - PLANTED, COUNT - PLANTED)
    assert headline.primary.covers_half
    assert found is not None
    assert (found.members, found.holdout, found.copies) == (PLANTED, PLANTED, COPIES)
    attack = found.things["images"].attack
    assert (attack.auc.n_members, attack.auc.n_non_members) == (PLANTED, COUNT)
    assert (attack.epsilon, attack.separation) == (None, None)
    every = found.extraction[0]
    assert (every.space, every.n_members, every.n_holdout) == ("pixels", PLANTED, COUNT)
    if memorised:
        assert attack.auc.low > 0.5
        assert attack.tpr.value >= 0.4
        assert 1 <= every.at_least <= every.near_members
        assert every.near_members >= PLANTED // 2
    else:
        assert attack.covers_half
        assert every.at_least == 0


def table_of(pictures: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    half = len(labels) // 2
    split = np.repeat(["members", "holdout"], half)
    return pd.DataFrame({"image": list(to_png(pictures)), "label": labels.numpy(), "split": split})


def test_a_teacher_knows_its_duplicated_canaries_by_heart(config: ShadowConfig) -> None:  # noqa: F811
    """Shadows learn each canary from all of its copies or from none, and one that no target learnt is not found."""
    private = planted_among(table_of(config.images, config.labels))
    labels = torch.from_numpy(private["label"].to_numpy(copy=True))
    repeated = replace(
        config, images=to_tensor(private["image"]), labels=labels, students={}, pools={}
    )
    drawn = tables.draw_memberships(private, FEW_SHADOWS.n_shadows, 0)
    inside, is_member = tables.memberships(drawn, private), tables.is_member(private)
    for _, columns in private[is_duplicated(private)].groupby("group"):
        assert (inside[:, columns.index] == inside[:, columns.index[:1]]).all()
    shadows = run_shadows(repeated, inside)["teacher"]

    def exposed(pictures: torch.Tensor, own: torch.Tensor) -> DuplicatedCanaries:
        model = train_teacher(pictures, own, config.classifier, 77, 3, steps=config.steps)
        targets = {"teacher": model_scores(model, repeated.images, labels)}
        features = {"features": np.zeros((len(private), 1), np.float32)}
        seen = Seen(
            private,
            tables.as_tensors(targets),
            tables.as_tensors({"teacher": shadows}),
            tables.as_tensors(features),
        )
        ordinary = seen.ordinary()
        headline = audit(
            ordinary.targets["teacher"].numpy(),
            ordinary.shadows["teacher"].numpy(),
            tables.memberships(drawn, ordinary.audited),
            tables.is_member(ordinary.audited),
            accuracy_percent=None,
            options=FEW_SHADOWS,
            scope="classifier",
        )
        assert headline.n_members == len(config.labels) // 2 - PLANTED
        found = expose(seen, drawn, {"teacher": headline}, FEW_SHADOWS)
        assert found is not None
        json = Audit.model_validate(
            {**nothing_else(), "things": {"teacher": headline}, "duplicated": found}
        ).model_dump(mode="json")
        assert Audit.model_validate(json).duplicated == found
        return found

    found = exposed(repeated.images[is_member], labels[is_member]).things["teacher"]
    assert found.attack.auc.n_members == found.attack.auc.n_non_members == PLANTED
    assert found.attack.auc.low > 0.5
    assert found.over_shadows is not None
    assert found.over_shadows.auc.low > 0.6
    assert found.over_shadows.auc.n_clusters == 2 * PLANTED
    assert found.over_shadows.auc.n_members == 8 * PLANTED
    stranger = exposed(*images(len(config.labels) // 2, 5)).things["teacher"]
    assert stranger.attack.covers_half


@cache
def nothing_else() -> dict[str, object]:
    counts = {"n_shadows": 8, "requested": 8, "workers": 1}
    return {"plan": {**counts, "seconds_per_group": 1.0, "minutes": 0.1}}


@pytest.mark.parametrize("shadows", [0, 8])
def test_a_generator_that_repeats_canaries_is_found(shadows: int) -> None:
    """Without shadow adapters the whole holdout stands beside the canaries, with them the holdout's canaries do."""
    random, size = np.random.default_rng(1), 240
    table = pd.DataFrame(
        {"split": np.repeat(["members", "holdout"], size), "label": np.arange(2 * size) % 2}
    )
    private = planted_among(table)
    inside, planted = tables.is_member(private), is_duplicated(private)
    options = AuditOptions(**OPTIONS.model_dump() | {"asked": 150})
    drawn = tables.draw_memberships(private, 8, 0)
    rows = tables.queried_rows(private, private, options, 0)
    assert is_first(private)[rows].all()
    assert planted[rows].sum() == 2 * PLANTED
    assert len(rows) == 2 * (150 + PLANTED)
    of_shadows = tables.memberships(drawn, private)
    known = 4.0 * planted  # what training on it adds to the signal of an image

    def signal(trained: np.ndarray) -> np.ndarray:
        return (random.normal(size=trained.shape) + known * trained)[..., rows]

    arrays = {"rows": rows, "adapted.loss": signal(inside), "base.loss": np.zeros(len(rows))}
    adapters = {"generator.loss": signal(of_shadows)[..., None]} if shadows else {}
    seen = Seen(private, shadows=tables.as_tensors(adapters), generator=tables.as_tensors(arrays))
    ordinary = seen.ordinary()
    assert ordinary.generator is not None
    own = tables.as_arrays(dict(ordinary.generator))
    kept = ordinary.audited.iloc[own["rows"]]
    assert not is_duplicated(kept).any()
    headline = audit_generator(
        {"loss": own["adapted.loss"]},
        {"loss": own["base.loss"]},
        tables.is_member(kept),
        options,
        {"loss": ordinary.shadows["generator.loss"].numpy()[..., 0]} if shadows else None,
        tables.memberships(drawn, ordinary.audited)[:, own["rows"]] if shadows else None,
    )
    assert headline.primary.covers_half
    found = expose(seen, drawn, {"generator": headline}, options)
    assert found is not None
    attack = found.things["generator"].attack
    assert attack.name == headline.primary_attack
    assert attack.auc.low > 0.7
    assert attack.auc.n_non_members == (PLANTED if shadows else 150 + PLANTED)
    assert (found.things["generator"].over_shadows is None) is not bool(shadows)


def test_without_duplicated_canaries_there_is_nothing() -> None:
    table = pd.DataFrame({"image_id": ["a", "b"], "split": ["members", "holdout"]})
    seen = Seen(table)
    assert seen.ordinary() is seen
    assert seen.distinct() is seen
    assert expose(seen, table, {}, OPTIONS) is None
