"""Operations and bytes of work whose cost is known."""

import torch
from benchmarks.floor import count, empty
from torch.nn import functional


def test_a_product() -> None:
    left, right = empty(2, 3), empty(3, 5)
    found = count(lambda: torch.relu(left @ right))
    assert found.flops == 2 * 2 * 3 * 5
    assert found.bytes == 2 * (2 * 3 + 3 * 5 + 2 * 5)


def test_attention_keeps_its_scores_to_itself() -> None:
    states = [empty(1, 2, 64, 8).requires_grad_() for _ in range(3)]
    forwards = count(lambda: functional.scaled_dot_product_attention(*states))
    both = count(lambda: functional.scaled_dot_product_attention(*states).sum().backward())
    assert forwards.flops == 2 * 2 * 2 * 64 * 64 * 8
    assert both.flops > 3 * forwards.flops
    wide = 2 * 2 * 64 * 64  # bytes of the scores
    assert 4 * 2 * states[0].numel() <= forwards.bytes < 4 * 2 * states[0].numel() + wide / 2
