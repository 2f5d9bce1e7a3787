"""The exposed few are found by shadows and counted on the target, and the recipe stands beside the run."""

import numpy as np
import pytest

from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.things import ModelAudit

N, SHADOWS = 4000, 8
OPTIONS = AuditOptions(
    attack="bavaria_t", n_shadows=SHADOWS, confidence=0.999, release=ReleaseThreat(encoder="none")
)
INSIDE = np.arange(N) < N // 2
# Every twentieth image leaks by 3, the others not at all; one class has all of them but a few.
LEAKS = np.arange(N) % 20 == 0
CLASSES = np.where(LEAKS | (np.arange(N) % 19 == 0), "shirt", "trouser").astype(object)


def attacked(leak: float, between: float = 0.0, **changes: object) -> ModelAudit:
    random = np.random.default_rng(0)
    matrix = membership_matrix(N, SHADOWS, 0.5, 0)
    of_run = leak + between * random.normal(size=(SHADOWS, 1))
    arguments = {
        "accuracy_percent": 80.0,
        "options": OPTIONS,
        "scope": "distillation",
        "classes": CLASSES,
        **changes,
    }
    return audit(
        random.normal(size=N) + leak * INSIDE * LEAKS,
        random.normal(size=(SHADOWS, N)) + of_run * matrix * LEAKS,
        matrix,
        INSIDE,
        **arguments,
    )


def test_the_exposed_few_stand_out_of_an_average_that_hides_them():
    found = attacked(3.0)
    groups = {group.name: group for group in found.groups}
    assert list(groups) == ["1 % most exposed", "5 % most exposed", "shirt", "trouser"]
    assert found.primary.auc.value < 0.56
    assert groups["1 % most exposed"].auc.value > 0.85
    assert groups["5 % most exposed"].auc.low > 0.7
    assert groups["shirt"].auc.low > 0.6
    assert groups["trouser"].auc.low < 0.5 < groups["trouser"].auc.high
    assert groups["1 % most exposed"].found.value > 2 * found.primary.tpr.value
    assert [group.images for group in found.groups[:2]] == [40, 200]


def test_nobody_stands_out_where_nothing_leaks():
    """Chosen on the target's own scores the top would have an AUC near 1; chosen on the shadows it has one half."""
    assert all(group.auc.low < 0.5 < group.auc.high for group in attacked(0.0).groups)


def test_the_recipe_stands_beside_the_run():
    found = attacked(3.0, between=1.0)
    recipe = found.recipe
    assert (len(recipe.runs), recipe.attack.name) == (SHADOWS, "bavaria_t")
    assert recipe.attack.auc.value == pytest.approx(np.mean(recipe.runs))
    assert recipe.attack.auc.low < found.primary.auc.value < recipe.attack.auc.high
    assert recipe.attack.tprs[
        1
    ].measurable  # 0.1 %, which the target's 2,000 non-members do not show
    assert not found.primary.tprs[1].measurable
    assert 0 < recipe.of_one < 0.02
    carried = recipe.transferred
    assert carried.false_alarms.low < 0.01 < carried.false_alarms.high
    assert carried.found.low < found.primary.tpr.value < carried.found.high


def test_where_nothing_is_measured_nobody_is_ranked():
    found = attacked(3.0, labels="hard")
    assert (found.groups, found.recipe) == ((), None)


def test_people_with_several_images_have_no_rates():
    found = attacked(3.0, clusters=np.arange(N) // 4)
    assert found.groups[0].found is None
    assert found.groups[0].auc.n_clusters is not None
    assert found.recipe.attack.auc.n_clusters == N // 4
