"""What a holder of the recycled set alone can learn: a label column that memorises is found, though no model is handed out."""

import numpy as np
import pandas as pd
import pytest
import torch

from certified import broken, certified, policy, whole
from tckr.audit import attacker, shadow_runs
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AttackerOptions, AuditOptions, ReleaseThreat
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.classifiers.distillation import train_teacher
from tckr.classifiers.options import AugmentationOptions, ClassifierOptions, DistillationOptions
from tckr.classifiers.predict import soft_labels
from tckr.datasets.image_table import SOFT_LABELS
from tckr.images.tensors import to_png
from tckr.synthesizers.private_set import SyntheticSet

N, CLASSES, SHADOWS = 120, 3, 8
INSIDE = np.arange(N) < N // 2
RECIPE = ClassifierOptions(
    widths=(24,),
    epochs=12,
    batch_size=20,
    augmentation=AugmentationOptions(shift=0, flip=False, contrast=0, offset=0),
)


def private_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and classes that it does not show: what a teacher knows of them it knows by heart."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (N, 1, 8, 8), generator=random)
    return images.to(torch.uint8), torch.randint(0, CLASSES, (N,), generator=random)


def released_set() -> SyntheticSet:
    """Twice every private image, members and holdout alike, a little disturbed: the pixels give nobody away."""
    images, labels = private_images()
    random = torch.Generator().manual_seed(1)
    twice = images.repeat(2, 1, 1, 1).int()
    noise = torch.randint(-20, 21, twice.shape, generator=random)
    return SyntheticSet((twice + noise).clamp(0, 255).to(torch.uint8), labels.repeat(2))


def table_of(drawn: SyntheticSet, soft: torch.Tensor | None) -> pd.DataFrame:
    names = [f"class {label}" for label in drawn.labels.tolist()]
    table = pd.DataFrame(
        {"image": to_png(drawn.images), "label": drawn.labels.numpy(), "class_name": names}
    )
    return table if soft is None else table.assign(soft_label=list(soft.numpy()))


@pytest.mark.parametrize("memorises", [True, False])
def test_a_label_column_that_memorises_is_found(memorises: bool) -> None:
    images, labels = private_images()
    drawn = released_set()
    steps = RECIPE.steps(N // 2)
    # An innocent teacher learnt from others of the same distribution, which no shadow is attacked with.
    read = (images[: N // 2] if memorises else 255 - images[: N // 2]), labels[: N // 2]
    teacher = train_teacher(*read, RECIPE, 5, CLASSES, steps=steps)
    table = table_of(drawn, soft_labels(teacher, drawn.images))
    recipe = {
        "classifier": RECIPE.model_dump(mode="json"),
        "steps": steps,
        "classes": ["a", "b", "c"],
        "students": {"student": {"pool": "released", "labels": "hard"}},
    }
    config = ShadowConfig(
        images,
        labels,
        n_classes=CLASSES,
        steps=steps,
        classifier=RECIPE,
        distillation=DistillationOptions(labels="hard"),
        seed=0,
        students={n: StudentConfig(**p) for n, p in shadow_runs.students_of(recipe, table).items()},
        pools={"released": drawn},
    )
    membership = membership_matrix(N, SHADOWS, 0.5, 0)
    shadows = run_shadows(config, membership)
    own = attacker.train_attacker(table, recipe, AttackerOptions(), 7, "cpu")
    found = audit(
        model_scores(own, images, labels),
        shadows["released"],
        membership,
        INSIDE,
        accuracy_percent=None,
        options=AuditOptions(confidence=0.999, release=ReleaseThreat(encoder="none")),
        scope="distillation",
        labels="stored",
    )
    assert set(shadows) == {"teacher", "student", "released"}
    assert found.shows == "both"
    assert found.primary.aop is None
    assert (found.primary.auc.low > 0.7) == memorises
    assert found.primary.covers_half == (not memorises)

    held_to = policy(largest_auc=0.75)
    certificate = certified(whole({"released": found}), held_to, ("recycled_set",))
    assert broken(certificate) == (["largest_auc"] if memorises else [])
    named = certificate.context.clauses[2].text
    assert "Recycled set as handed out (images and labels)" in named


def test_the_attacker_trains_on_the_labels_that_are_handed_out() -> None:
    drawn = released_set()
    one = torch.full((len(drawn.images), CLASSES), 1 / CLASSES)
    views = table_of(drawn, None).assign(soft_labels=[[row, row] for row in one.numpy()])
    assert attacker.labels_of(table_of(drawn, None)) == ("hard", 1)
    assert attacker.labels_of(table_of(drawn, one)) == ("stored", 1)
    assert attacker.labels_of(views) == ("stored", 2)
    plain = AttackerOptions()
    random_views = RECIPE.model_copy(update={"augmentation": AugmentationOptions()})
    assert attacker.recipe(random_views, "stored", 1, plain).augmentation == attacker.PLAIN
    # The stored views lie within the recipe's own augmentation, and are the only ones that are shown.
    assert (
        attacker.recipe(random_views, "stored", 2, plain).augmentation == random_views.augmentation
    )
    assert attacker.recipe(random_views, "hard", 1, plain) == random_views
    as_owner = AttackerOptions(random_views=True)
    assert attacker.recipe(random_views, "stored", 1, as_owner) == random_views


def test_the_card_says_what_was_attacked() -> None:
    assert "measured together with the student" not in SOFT_LABELS
    assert "row `released`" in SOFT_LABELS
