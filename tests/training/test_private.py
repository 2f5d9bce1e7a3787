"""DP-SGD: without noise and clipping it is plain training; with them one image changes no more than is charged."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from charged import charged
from tckr.dp import Noise, recorder
from tckr.engine.checkpoint import Checkpoint
from tckr.errors import Paused, UserError
from tckr.options import PrivateSchedule
from tckr.training.private import gradient_sum, private_minimize, private_plan

ENDLESS = 1e12  # a clipping norm that no gradient reaches


class Problem:
    """A small convolutional network on ten images."""

    def __init__(self, images: int = 10) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        )
        self.images = torch.randn(images, 1, 6, 6)
        self.labels = torch.arange(images) % 3

    def loss(self, rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            self.network(self.images[rows]), self.labels[rows], reduction="sum"
        )

    def train(
        self, schedule: PrivateSchedule, multiplier: float, seed: int = 0, **more: object
    ) -> Tensor:
        entry = charged(private_plan(schedule, 1, "test", private_minimize), multiplier)
        private_minimize(
            self.network,
            self.loss,
            len(self.images),
            schedule,
            entry,
            Noise(seed=seed),
            "test",
            **more,
        )  # type: ignore[arg-type]
        return nn.utils.parameters_to_vector(self.network.parameters()).detach()


def schedule(**changes: object) -> PrivateSchedule:
    usual: dict[str, object] = {"steps": 5, "sampling_rate": 1.0, "learning_rate": 0.1, "max_grad_norm": 1.0, "averaging": 0, "micro_batch": 4, "optimiser": "sgd"}  # fmt: skip
    return PrivateSchedule(**(usual | changes))  # type: ignore[arg-type]


def test_without_noise_and_clipping_it_is_plain_training() -> None:
    ours = Problem().train(schedule(max_grad_norm=ENDLESS), 0.0)
    plain = Problem()
    optimizer = torch.optim.SGD(plain.network.parameters(), 0.1, 0.9)
    for _ in range(5):
        optimizer.zero_grad()
        (plain.loss(torch.arange(10)) / 10).backward()
        optimizer.step()
    wanted = nn.utils.parameters_to_vector(plain.network.parameters()).detach()
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_pieces_do_not_matter() -> None:
    found = [Problem().train(schedule(micro_batch=size), 1.0) for size in (1, 3, 100)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [0.01, 0.5, 3.0])
def test_an_image_more_changes_the_sum_by_the_clipping_norm_at_most(clip: float) -> None:
    problem = Problem()
    whole = gradient_sum(problem.network, problem.loss, torch.arange(10), clip)
    for left_out in range(10):
        rows = torch.tensor([i for i in range(10) if i != left_out])
        less = gradient_sum(problem.network, problem.loss, rows, clip)
        change = torch.cat([(a - b).flatten() for a, b in zip(whole, less, strict=True)]).norm()
        assert 0 < change <= clip


def test_recorded_on_neighbouring_sets() -> None:
    plan = schedule(steps=3, max_grad_norm=0.3)
    with recorder.recording() as first:
        Problem(10).train(plan, 1.0, count=10)
    with recorder.recording(replay=first) as second:
        smaller = Problem(10)
        smaller.images, smaller.labels = smaller.images[:9], smaller.labels[:9]
        smaller.train(plan, 1.0, count=10)
    changes = recorder.check_sensitivity(first, second)
    assert 0 < changes["test"] <= 0.3
    assert len(first) == 3


def test_the_noise_has_its_scale() -> None:
    plan = schedule(steps=1, learning_rate=1.0, max_grad_norm=0.01)
    quiet, loud = Problem().train(plan, 0.0), Problem().train(plan, 50.0)
    assert float((loud - quiet).std()) == pytest.approx(50 * 0.01 / 10, rel=0.15)


def test_an_empty_sample_adds_noise_alone() -> None:
    problem = Problem()
    sums = gradient_sum(problem.network, problem.loss, torch.arange(0), 1.0)
    assert not any(each.any() for each in sums)


def test_a_killed_run_resumes_with_what_it_paid(tmp_path: Path) -> None:
    plan = schedule(steps=4, optimiser="adam", averaging=0.5)
    checkpoint = Checkpoint(tmp_path / "state", deadline=0.0)
    problem = Problem()
    with pytest.raises(Paused):
        problem.train(plan, 1.0, checkpoint=checkpoint)
    kept = checkpoint.load(torch.load(checkpoint.path, weights_only=True)["fingerprint"])
    assert kept is not None
    assert kept["done"] == 1
    with pytest.raises(UserError, match="noise_multiplier"):
        Problem().train(plan, 0.5, checkpoint=checkpoint)
    # Noise of another source from the second step on: the first step must be the one that was saved.
    first = [each.clone() for each in kept["parameters"]]
    resumed = Problem()
    resumed.train(plan, 0.0 + 1.0, seed=1, checkpoint=Checkpoint(tmp_path / "state"))
    state = torch.load(checkpoint.path, weights_only=True)["state"]
    assert state["done"] == 4
    assert not torch.equal(state["parameters"][0], first[0])
    again = Problem()
    done = again.train(plan, 1.0, seed=2, checkpoint=Checkpoint(tmp_path / "state"))
    finished = torch.cat([each.flatten() for each in state["average"]])
    torch.testing.assert_close(done, finished)  # no step is taken twice


def test_another_schedule_than_was_charged_is_refused() -> None:
    problem, plan = Problem(), schedule()
    entry = charged(private_plan(plan, 1, "test", private_minimize), 1.0)
    longer = schedule(steps=6)
    with pytest.raises(UserError, match="steps 5, but the parameters say 6"):
        private_minimize(problem.network, problem.loss, 10, longer, entry, Noise(seed=0), "test")
