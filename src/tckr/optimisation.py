"""One optimisation loop for every generative model: AdamW, warm-up and cosine, clipping, averaged weights."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from tckr.options import Schedule
from tckr.progress import track

RECORDS = 100  # points of a loss curve


def optimise(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    schedule: Schedule,
    description: str,
    *,
    capture: bool = False,
) -> pd.DataFrame:
    """Minimise `loss`, which draws its own batch each time it is called.

    Args:
        parameters: leaf tensors, all on one device; changed in place. With `schedule.averaging` they end as
            the exponential average of their path (corrected for its start).
        loss: scalar tensor of a fresh batch.
        capture: on a GPU, record one whole step as a CUDA graph and replay it; `loss` must then keep shapes and
            never wait for the GPU.

    Returns:
        Table of `step` and `loss` (mean since the row before), about 100 rows.
    """
    device = parameters[0].device
    captured = capture and device.type == "cuda"
    optimizer = torch.optim.AdamW(
        parameters,
        lr=torch.tensor(schedule.learning_rate, device=device)
        if captured
        else schedule.learning_rate,
        betas=(0.9, schedule.beta2),
        weight_decay=schedule.weight_decay,
        capturable=captured,
        foreach=True,
    )
    total = torch.zeros((), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip_norm, foreach=True)
        optimizer.step()
        total.add_(value.detach())

    average = [parameter.detach().clone() for parameter in parameters]
    run = _graph_of(step) if captured else step
    rows = []
    every = max(1, schedule.steps // RECORDS)
    for index in track(range(schedule.steps), description):
        _set_rate(optimizer, schedule.learning_rate_at(index))
        run()
        if schedule.averaging:
            # a young average follows the weights, so that the random start is soon forgotten
            decay = min(schedule.averaging, (1 + index) / (10 + index))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        if (index + 1) % every == 0:
            rows.append({"step": index + 1, "loss": float(total) / every})
            total.zero_()
    if schedule.averaging:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), average)
    return pd.DataFrame(rows, columns=["step", "loss"])


def _set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)  # the captured graph reads this tensor
        else:
            group["lr"] = value


def _graph_of(step: Callable[[], None]) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
