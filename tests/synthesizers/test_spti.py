"""SPTI end to end on a tiny generator and the shipped language models: what is asked, what it costs, what is drawn."""

import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tckr.audit.resynthesis import OwnTeacher
from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import SamplingOptions
from tckr.dp import EvolutionOptions, check_sensitivity, recording
from tckr.errors import UserError
from tckr.images.tables import with_class_names
from tckr.images.tensors import to_png
from tckr.pipelines.arm import step_node
from tckr.synthesizers.filtering import FilterOptions
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.prompt_space import PromptSpace
from tckr.synthesizers.spti import Spti, SptiBudget, SptiDrawingOptions, VotingOptions
from tckr.synthesizers.under_dp import PLAN_BUDGET, data_hash
from tckr.text.options import CaptionOptions
from tckr.text.sources.options import TextSourceOptions

SEED, COUNT, N = 3, 9, 60
CLASSES = ("bag", "boot", "coat")
SHIPPED = Path(__file__).parents[2] / "data/06_models/foundation"


def arm_with(models: Path, **changes: Any) -> Spti:
    """The arm; voting options and shares of the budget by their names."""
    budget = {
        name: changes.pop(name)
        for name in ("votes", "teacher", "epsilon", "research")
        if name in changes
    }
    return Spti(
        privacy=SptiBudget(**{"epsilon": 100.0, "noise_seed": 0, **budget}),
        text=TextSourceOptions(model=str(SHIPPED / "masked")),
        evolution=EvolutionOptions(population=2, variations=2, iterations=3),
        voting=VotingOptions(**{"encoder": str(SHIPPED / "clip"), **changes}),
        captioning=CaptionOptions(captioner=str(models / "captioner"), max_new_tokens=4),
        private_teacher=PrivateTeacherOptions(steps=3),
        classifier=ClassifierOptions(widths=(4,), epochs=2, batch_size=8),
        knowledge_recycling=SptiDrawingOptions(
            generator=str(models / "generator"),
            sampling=SamplingOptions(steps=2, guidance_scale=1.0, batch_size=8),
        ),
    )


@pytest.fixture(scope="session")
def arm(models: Path) -> Spti:
    return arm_with(models)


@pytest.fixture(scope="session")
def private() -> PrivateSet:
    """60 images of noise in two of three classes."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N, 1, 16, 16), generator=draw).to(torch.uint8)
    return PrivateSet(pixels, 2 * (torch.arange(N) % 2), CLASSES)


@pytest.fixture(scope="session")
def owned(private: PrivateSet) -> PrivateSet:
    """The same, two images each of 30 owners."""
    return replace(private, owners=np.arange(N) // 2)


@pytest.fixture(scope="session")
def fitted(arm: Spti, private: PrivateSet) -> Fitted:
    return arm.fit(private, SEED)


def test_the_ledger_charges_all_votes_as_one_and_the_teacher(fitted: Fitted) -> None:
    ledger = fitted.artefacts["ledger"]
    assert Spti.ledger() == ("votes", "teacher")
    assert tuple(entry.name for entry in ledger) == Spti.ledger()
    assert all(entry.spent and entry.seeded for entry in ledger)
    votes = ledger["votes"]
    assert (votes.mechanism, votes.sensitivity, votes.steps) == ("discrete_gaussian", 1.0, 3)
    assert 99 < ledger.epsilon(spent=True) <= 100
    assert {each.how for each in ledger.declarations} == {"public", "absent"}


def test_every_class_keeps_prompts_of_its_own_also_one_without_members(fitted: Fitted) -> None:
    kept = fitted.artefacts["population"]
    assert kept["class_name"].tolist() == [name for name in CLASSES for _ in range(2)]
    for prompt, name in zip(kept["prompt"], kept["class_name"], strict=True):
        assert prompt.startswith(f"{name}: ")
    every = fitted.artefacts["generations"]
    assert len(every) == 3 * 3 * 6
    assert set(kept["prompt"]) <= set(every[every["iteration"] == 3]["prompt"])
    assert (every.groupby(["iteration", "label"])["rank"].max() == 1).all()
    assert fitted.artefacts["vote_distances"].columns.tolist() == ["iteration", "distance"]
    assert fitted.artefacts["vote_distances"]["iteration"].tolist() == [0, 1, 2, 3]


def test_public_steps_see_facts_alone(arm: Spti) -> None:
    reading = {step.name for step in Spti.steps if step.private}
    charged = {step.name for step in Spti.steps if step.charges}
    alone = {step.name for step in Spti.steps if step.per_image}
    assert reading - charged - alone == {"plan_budget"}
    for step in Spti.steps:
        first = next(iter(inspect.signature(getattr(arm, step.name)).parameters))
        assert first == ("private" if step.private else "facts"), step.name


def test_images_come_from_the_base_generator_and_the_kept_prompts(fitted: Fitted) -> None:
    plan = fitted.plan_prompts(COUNT, SEED)
    assert set(plan["prompt"]) <= set(fitted.artefacts["population"]["prompt"])
    assert torch.bincount(torch.tensor(plan["label"].tolist())).tolist() == [3, 3, 3]
    assert set(fitted.plan_prompts(COUNT, SEED, closed=("prompts",))["prompt"]) == set(CLASSES)
    assert fitted.synthesizer.provenance() == {"generator": "base"}
    assert fitted.sample(COUNT, SEED).images.shape == (COUNT, 1, 16, 16)


def test_features_of_an_image_are_its_own(arm: Spti, private: PrivateSet) -> None:
    (whole,) = arm.embed_members(private, {}, SEED, "cpu")
    (some,) = arm.embed_members(private.at([5, 0, 44]), {}, SEED, "cpu")
    torch.testing.assert_close(
        torch.tensor(whole.to_numpy()[[5, 0, 44]]), torch.tensor(some.to_numpy()), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "voting", [{"by": "images"}, {"by": "captions"}, {"features": "scattering", "renderings": 2}]
)
def test_no_statistic_of_the_whole_fit_moves_further_than_declared(
    models: Path, private: PrivateSet, voting: dict[str, Any]
) -> None:
    """Without one image, answers replayed, of both votes and every space: votes and teacher change by no more than declared."""
    changes = changes_without(arm_with(models, **voting), private, [7])
    assert changes["votes"] == 1.0
    assert set(changes) == {"votes", "teacher"}


@pytest.mark.parametrize(
    ("left_out", "moved"), [([7], (0, 2**0.5)), ([6, 7], (1.0,))], ids=["image", "owner"]
)
def test_votes_of_owners_move_as_declared(
    models: Path, owned: PrivateSet, left_out: list[int], moved: tuple[float, ...]
) -> None:
    arm = arm_with(models, per="owner", features="scattering", teacher=0.0)
    changes = changes_without(arm, owned, left_out)
    assert any(changes["votes"] == pytest.approx(each) for each in moved)


def changes_without(arm: Spti, private: PrivateSet, left_out: list[int]) -> dict[str, float]:
    """Run the mechanisms with all images and, answers replayed, without some: the largest change of each statistic."""
    (budget,) = arm.plan_budget(private, {}, SEED, "cpu")
    steps = [step for step in Spti.steps if step.name not in ("plan_budget", "close_ledger")]

    def mechanisms(kept: PrivateSet) -> None:
        ledger = copy.deepcopy(budget)
        ledger.data_hash = data_hash(kept)  # the same noise is charged for both sets
        artefacts: dict[str, Any] = {"budget": ledger}
        for step in steps:
            made = getattr(arm, step.name)(kept, artefacts, SEED, "cpu")
            artefacts |= zip(step.makes, made, strict=True)

    with recording() as first:
        mechanisms(private)
    with recording(replay=first) as second:
        mechanisms(private.at([i for i in range(N) if i not in left_out]))
    return check_sensitivity(first, second)


def test_too_few_images_are_refused_before_any_votes(models: Path, private: PrivateSet) -> None:
    with (
        recording() as answers,
        pytest.raises(UserError, match="More noise than votes: 60 images for 18 candidates"),
    ):
        arm_with(models, epsilon=1.0, teacher=0.0).fit(private, SEED)
    assert answers == []


def test_without_a_share_there_is_no_teacher_to_charge(models: Path, private: PrivateSet) -> None:
    made = arm_with(models, teacher=0.0).fit(private, SEED)
    assert [entry.name for entry in made.artefacts["ledger"]] == ["votes"]
    shares = made.artefacts["teacher"](torch.rand(4, 1, 16, 16)).softmax(1)
    torch.testing.assert_close(shares, torch.full((4, 3), 1 / 3))


def test_answers_are_kept_until_the_results_are_saved(
    models: Path, private: PrivateSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the rendering of the last candidates, a run goes on with the answers that it has; only one is asked for."""
    arm = arm_with(models, checkpoints=str(tmp_path / "votes"))
    rendered = {"count": 0}
    whole = PromptSpace.rendered

    def dies(space: Any, prompts: Any, seed: int) -> Any:
        rendered["count"] += 1
        if rendered["count"] == 3:
            raise KeyboardInterrupt
        return whole(space, prompts, seed)

    monkeypatch.setattr(PromptSpace, "rendered", dies)
    with recording() as first, pytest.raises(KeyboardInterrupt):
        arm.fit(private, SEED)
    monkeypatch.setattr(PromptSpace, "rendered", whole)
    with recording() as second:
        fitted = arm.fit(private, SEED)
    votes = [answer for answer in [*first, *second] if answer.entry.name == "votes"]
    assert len(votes) == 3
    kept = fitted.artefacts["generations"]
    for turn, answer in enumerate(votes, 1):
        assert kept[kept["iteration"] == turn]["votes"].tolist() == answer.output.tolist()


def test_a_study_measures_the_true_distance_and_is_not_released(
    models: Path, private: PrivateSet
) -> None:
    arm = arm_with(models, research=True)
    made = arm.fit(private, SEED).artefacts
    assert made["vote_distances"].columns.tolist() == ["iteration", "distance", "true_distance"]
    assert arm.caution() is not None
    assert "not private" in str(arm.caution())
    ledger = made["ledger"]
    assert not ledger.private
    with pytest.raises(
        UserError, match="true distance to the private images was taken without noise"
    ):
        ledger.check_release()
    again = type(ledger).from_json(ledger.to_json())
    assert not again.private


def test_a_shadow_repeats_the_whole_under_a_ledger_of_its_own(
    arm: Spti, private: PrivateSet
) -> None:
    shadow = arm.in_one_process().fit(private.at(range(40)), 5)
    assert shadow.artefacts["ledger"].n == 40
    assert shadow.sample(4, 5).images.shape == (4, 1, 16, 16)
    assert arm.fit_teacher(private.at(range(40)), 5)(torch.rand(2, 1, 16, 16)).shape == (2, 3)


def test_owners_vote_once_each_and_the_ledger_says_what_one_image_moves(
    models: Path, owned: PrivateSet
) -> None:
    arm = arm_with(models, per="owner", features="scattering")
    with recording() as answers:
        ledger = arm.fit(owned, SEED).artefacts["ledger"]
    votes = [answer.statistic.sum() for answer in answers if answer.entry.name == "votes"]
    assert votes == [30] * 3
    assert ledger["votes"].sensitivity == pytest.approx(2**0.5)
    assert "which is sqrt(2)" in ledger["votes"].why
    assert ledger["votes"].adjacency == "add or remove one image"
    assert "number of owners of members" in {each.what for each in ledger.declarations}
    assert 99 < ledger.epsilon(spent=True) <= 100


def test_a_shadow_has_the_owners_of_its_own_images(models: Path, owned: PrivateSet) -> None:
    arm = arm_with(models, per="owner", features="scattering").in_one_process()
    with recording() as answers:
        arm.fit(owned.at([*range(40), 59]), 5)
    votes = [answer.statistic.sum() for answer in answers if answer.entry.name == "votes"]
    assert votes == [21] * 3
    OwnTeacher(arm, CLASSES, owned.owners).fit(
        owned.images, owned.labels, np.arange(N) < 40, 5, "cpu"
    )


def test_votes_of_owners_without_owners_are_refused_before_anything_is_read(
    models: Path, private: PrivateSet
) -> None:
    arm = arm_with(models, per="owner")
    for step in (arm.plan_budget, arm.embed_members):
        with pytest.raises(
            UserError, match=r"spti\.voting\.per is owner, and nothing says"
        ) as told:
            step(replace(private, images=Unread(private.images)), {}, SEED, "cpu")
        assert "ingestion.group_column" in told.value.remedy
        assert "\n" not in str(told.value)


class Unread:
    """Images of which nothing but their shape may be asked."""

    def __init__(self, images: torch.Tensor) -> None:
        self.shape = images.shape


def test_too_few_owners_are_refused(models: Path, private: PrivateSet) -> None:
    arm = arm_with(models, per="owner")
    of_three = replace(private, owners=np.arange(N) % 3)
    with pytest.raises(UserError, match="More noise than votes: 3 owners for 18 candidates"):
        arm.fit(of_three, SEED)


def test_answers_to_other_owners_are_not_taken(
    models: Path, owned: PrivateSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that was paid for belongs to the votes it counted: with other owners everything is asked anew."""
    settings = {"features": "scattering", "teacher": 0.0, "checkpoints": str(tmp_path / "votes")}
    arms = [arm_with(models, per=per, **settings) for per in ("owner", "owner", "image")]
    sets = [owned, replace(owned, owners=np.arange(N) % 30), owned]
    monkeypatch.setattr("tckr.engine.once_saved.once_saved", lambda remove: None)
    for arm, private in zip(arms, sets, strict=True):
        with recording() as answers:
            arm.fit(private, SEED)
        assert len(answers) == 3
    assert len(list((tmp_path / "votes").iterdir())) == 3
    with recording() as answers:
        arms[0].fit(owned, SEED)
    assert answers == []


def test_a_filter_has_no_teacher_to_ask_without_a_share(models: Path, private: PrivateSet) -> None:
    arm = arm_with(models, teacher=0.0)
    options = arm.knowledge_recycling.model_copy(update={"filter": FilterOptions(threshold=0.5)})
    arm = arm.model_copy(update={"knowledge_recycling": options})
    with pytest.raises(UserError, match="asks a teacher which images to keep"):
        arm.plan_budget(private, {}, SEED, "cpu")


def test_the_nodes_take_owners_from_the_column_of_groups(models: Path, private: PrivateSet) -> None:
    arm = arm_with(models, per="owner")
    names = [CLASSES[label] for label in private.labels.tolist()]
    table = pd.DataFrame({"image": to_png(private.images), "label": private.labels.numpy()})
    table = table.assign(class_name=names, split="members", image_id=[str(i) for i in range(N)])
    table = with_class_names(table, CLASSES)
    node = step_node(PLAN_BUDGET, Spti)
    planned = node.func(**dict(arm), images=table.assign(group=np.arange(N) // 2), seed=SEED)
    assert planned["votes"].cells == 2
    with pytest.raises(UserError, match="3 owners for 18 candidates"):
        node.func(**dict(arm), images=table.assign(group=np.arange(N) % 3), seed=SEED)
    with pytest.raises(UserError, match="nothing says whose the private images are"):
        node.func(**dict(arm), images=table, seed=SEED)
