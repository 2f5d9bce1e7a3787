"""Work that was interrupted gives, to the bit, what work that was not interrupted gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tckr.engine.checkpoint import Checkpoint, Checkpoints
from tckr.errors import Paused, UserError
from tckr.options import Schedule
from tckr.training.loop import _State, minimize

SCHEDULES = {
    "averaged": {"averaging": 0.9},
    "last weights": {},
    "long rows": {"steps": 230, "averaging": 0.998, "warmup": 0.3},
    "other rates": {"final": 0.0, "warmup": 0.0, "weight_decay": 0.1, "clip_norm": 0.05},
}

DATA = {"data": "hash of the data"}


def schedule(**changed: Any) -> Schedule:
    return Schedule(**{"steps": 23, "batch_size": 8, "learning_rate": 1e-2, **changed})


def problem(
    device: str = "cpu", seed: int = 0, break_at: int = 0
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A network with convolutions, dropout and a weight that is never used, and a loss of noisy random batches.

    The loss breaks down in its `break_at`-th call.
    """
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Dropout(0.2), nn.Conv2d(8, 3, 3, padding=1)
    )
    network.register_parameter("unused", nn.Parameter(torch.ones(2)))
    network.to(device, memory_format=torch.channels_last)
    data = torch.randn(32, 3, 6, 6).to(device)
    calls = 0

    def loss() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == break_at:
            raise KeyboardInterrupt
        batch = data[torch.randint(len(data), (8,), device=device)]
        return ((network(batch + 0.3 * torch.randn_like(batch)) - batch) ** 2).mean()

    return network, loss


Outcome = tuple[list[Tensor], pd.DataFrame, Tensor]


def whole(options: Schedule, device: str = "cpu", capture: bool = False) -> Outcome:
    network, loss = problem(device)
    losses = minimize(list(network.parameters()), loss, options, "test", capture=capture)
    return [p.detach().clone() for p in network.parameters()], losses, torch.rand(3, device=device)


def in_pieces(
    options: Schedule,
    file: Path,
    device: str = "cpu",
    capture: bool = False,
    pieces: int = 9999,
) -> Outcome:
    """One step a call, `pieces` times at most; then all the rest in one call."""
    steps: list[int] = []
    for piece in range(9999):
        network, loss = problem(device)
        torch.rand(piece % 3)  # what a new process drew before must not matter
        checkpoint = Checkpoint(file, deadline=1e-9 if piece < pieces else None)
        try:
            losses = minimize(
                list(network.parameters()), loss, options, "test", capture=capture,
                checkpoint=checkpoint, identity=DATA,
            )  # fmt: skip
        except Paused as stop:
            steps.append(stop.done)
            continue
        drawn = torch.rand(3, device=device)
        assert steps == list(range(1, min(pieces, options.steps - 1) + 1))
        return [p.detach().clone() for p in network.parameters()], losses, drawn
    raise AssertionError("never done")


def assert_same(left: Outcome, right: Outcome) -> None:
    assert all(torch.equal(a, b) for a, b in zip(left[0], right[0], strict=True))
    pd.testing.assert_frame_equal(left[1], right[1], check_exact=True)
    assert torch.equal(left[2], right[2])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("pieces", [1, 22])
def test_pauses_change_nothing(name: str, pieces: int, tmp_path: Path) -> None:
    options = schedule(**SCHEDULES[name])
    assert_same(whole(options), in_pieces(options, tmp_path / "state", pieces=pieces))


@pytest.mark.parametrize("broken", [2, 3, 17])
def test_a_crash_in_mid_step_changes_nothing(broken: int, tmp_path: Path) -> None:
    options, checkpoint = schedule(averaging=0.9), Checkpoint(tmp_path / "new/state", every=0)
    network, loss = problem(break_at=broken)
    with pytest.raises(KeyboardInterrupt):
        minimize(
            list(network.parameters()), loss, options, "test", checkpoint=checkpoint, identity=DATA
        )
    assert checkpoint.path.exists()
    network, loss = problem()
    losses = minimize(
        list(network.parameters()), loss, options, "test", checkpoint=checkpoint, identity=DATA
    )
    resumed = [p.detach() for p in network.parameters()], losses, torch.rand(3)
    assert_same(whole(options), resumed)


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    options, checkpoint = schedule(averaging=0.9), Checkpoint(tmp_path / "state")
    done = in_pieces(options, checkpoint.path, pieces=4)
    network, _ = problem()

    def never() -> torch.Tensor:
        raise AssertionError("a step was taken")

    losses = minimize(
        list(network.parameters()), never, options, "test", checkpoint=checkpoint, identity=DATA
    )
    again = [p.detach() for p in network.parameters()], losses, torch.rand(3)
    assert_same(done, again)


def test_removing_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "states"
    folder.mkdir()
    (folder / ".work.checkpoint.0c5f").write_bytes(b"a save that was cut off")
    states = Checkpoints(folder)
    states.of("work").save({}, {"done": 1})
    assert states.of("work").load({}) == {"done": 1}
    states.remove()
    assert not folder.exists()


def pause(file: Path, options: Schedule | None = None, seed: int = 0, width: int = 0) -> None:
    network, loss = problem(seed=seed)
    parameters = [*network.parameters(), nn.Parameter(torch.ones(width))]
    minimize(
        parameters, loss, options or schedule(), "painter", checkpoint=Checkpoint(file, deadline=1e-9), identity=DATA
    )  # fmt: skip


def test_a_pause_says_where_and_what_next(tmp_path: Path) -> None:
    with pytest.raises(Paused, match=r"'painter' after step 1 of 23.*same command again"):
        pause(tmp_path / "state")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": schedule(steps=24)}, "schedule"),
        ({"width": 5}, "shapes"),
        ({"seed": 1}, "seed"),
    ],
)
def test_the_state_of_other_work_is_refused(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    file = tmp_path / "state"
    with pytest.raises(Paused):
        pause(file)
    before = file.read_bytes()
    with pytest.raises(UserError, match=rf"another recipe: {named} differ.*remove") as refusal:
        pause(file, **change)
    assert not isinstance(refusal.value, Paused)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nothing of ours", b"\x80\x02N."])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        pause(tmp_path / "state")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    with pytest.raises(Paused):
        pause(file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        pause(file)


def test_restoring_in_place_undoes_steps_to_the_bit() -> None:
    """What a CUDA graph needs after its warm-up: the same tensors, with the values of before any step."""
    network, loss = problem()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters)
    state = _State(parameters, optimizer, torch.zeros(()), [p.detach().clone() for p in parameters])
    before = state.dump()
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        state.total.add_(1)
    moments = [value for values in optimizer.state.values() for value in values.values()]
    assert all(value.abs().sum() > 0 for value in moments)

    state.restore(before)

    assert all(value.abs().sum() == 0 for value in moments)
    assert all(map(torch.equal, parameters, before["parameters"]))
    assert state.total == 0
    assert torch.equal(torch.get_rng_state(), before["random"])


def test_parts_of_a_batch_add_up_to_it() -> None:
    data, outcomes = torch.randn(8, 5), []
    for parts in (1, 4):
        weight = torch.ones(5, requires_grad=True)
        rows = iter(data.chunk(parts) * 23)

        def loss(rows: Any = rows, weight: Tensor = weight) -> Tensor:
            return ((next(rows) @ weight - 1) ** 2).mean()

        outcomes.append((minimize([weight], loss, schedule(), "sum", accumulate=parts), weight))
    (whole_losses, whole_weight), (losses, weight) = outcomes
    torch.testing.assert_close(weight, whole_weight)
    pd.testing.assert_frame_equal(losses, whole_losses)


def test_each_step_is_prepared_also_after_a_pause(tmp_path: Path) -> None:
    """What a step reads may be filled in before it, by its number alone."""

    def run(checkpoint: Checkpoint | None, fail_at: int = -1) -> Tensor:
        torch.manual_seed(0)
        weight, target = torch.zeros(3, requires_grad=True), torch.zeros(3)

        def prepare(index: int) -> None:
            if index == fail_at:
                raise KeyboardInterrupt
            target.fill_(index)

        def loss() -> Tensor:
            return ((weight - target) ** 2).mean()

        minimize(
            [weight], loss, schedule(), "targets", checkpoint=checkpoint, prepare=prepare,
            identity={"data": "these"},
        )  # fmt: skip
        return weight.detach()

    checkpoint = Checkpoint(tmp_path / "state", every=0)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, fail_at=9)
    assert torch.equal(run(checkpoint), run(None))


@pytest.mark.parametrize("steps", [23, 230])
def test_a_loss_that_diverges_is_an_error_that_says_so(steps: int) -> None:
    network, loss = problem()
    wild = schedule(steps=steps, learning_rate=1e30)
    with pytest.raises(UserError, match=r"test diverged.*by step \d+\..*learning_rate"):
        minimize([*network.parameters()], loss, wild, "test")


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
def test_recording_a_graph_leaves_no_trace() -> None:
    options = schedule(averaging=0.9)
    eager, replayed = whole(options, "cuda"), whole(options, "cuda", capture=True)
    for a, b in zip(eager[0], replayed[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert torch.equal(eager[2], replayed[2])  # the same random numbers were drawn


@gpu
@pytest.mark.parametrize("capture", [False, True])
def test_pauses_change_nothing_on_a_gpu(capture: bool, tmp_path: Path) -> None:
    options = schedule(averaging=0.9)
    torch.backends.cudnn.deterministic = True
    pieces = in_pieces(options, tmp_path / "state", "cuda", capture, pieces=5)
    assert_same(whole(options, "cuda", capture), pieces)


def test_a_checkpoint_knows_its_data(tmp_path: Path) -> None:
    """M2 of the review: a checkpoint left by other data was resumed without a word."""

    def train(target: float, **keep: Any) -> float:
        weight = torch.zeros(1, requires_grad=True)
        minimize([weight], lambda: (weight - target).square().sum(), schedule(), "test", **keep)
        return weight.item()

    keep = {"checkpoint": Checkpoint(tmp_path / "state"), "identity": {"data": "threes"}}
    train(3.0, **keep)
    with pytest.raises(UserError, match="data differ"):
        train(-7.0, **{**keep, "identity": {"data": "minus sevens"}})
    with pytest.raises(ValueError, match="needs an identity"):
        train(-7.0, checkpoint=keep["checkpoint"])


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_weights_are_kept_on_the_way_and_the_training_may_end_there(averaging: float) -> None:
    options = schedule(averaging=averaging)
    network, loss = problem()
    kept: dict[int, list[Tensor]] = {}

    def keep(done: int, weights: Any) -> None:
        kept[done] = [weight.clone() for weight in weights]

    parameters = list(network.parameters())
    minimize(parameters, loss, options, "test", keep_at=(5, 23), keep=keep)
    assert sorted(kept) == [5, 23]
    assert all(torch.equal(a, b) for a, b in zip(kept[23], parameters, strict=True))

    network, loss = problem()
    brief = list(network.parameters())
    losses = minimize(brief, loss, options, "test", stop=5)
    assert losses["step"].max() == 5
    assert all(torch.equal(a, b) for a, b in zip(kept[5], brief, strict=True))
