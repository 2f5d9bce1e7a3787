"""Work ahead of a GPU and behind it comes in order, and nothing that was begun is lost."""

from collections import deque
from collections.abc import Iterator

import pytest
import torch

from tckr.engine.overlap import ahead, behind, to_host


def test_the_last_item_waits_for_the_next_one_to_begin() -> None:
    events: list[str] = []

    def begun() -> Iterator[int]:
        for number in range(3):
            events.append(f"begin {number}")
            yield number
        raise OSError("damaged")

    def read(number: int) -> None:
        events.append(f"read {number}")

    with pytest.raises(OSError, match="damaged"):
        deque(map(read, behind(begun())))
    assert events == ["begin 0", "begin 1", "read 0", "begin 2", "read 1", "read 2"]
    assert list(behind([])) == []


def test_work_ahead_is_in_order_and_bounded() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(50):
            drawn += 1
            yield number

    results = ahead(lambda number: number * number, items())
    assert next(results) == 0
    assert drawn <= 8
    assert list(results) == [number * number for number in range(1, 50)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_copy_does_not_wait_for_later_work() -> None:
    large = torch.randn(8192, 8192, device="cuda")
    expected = large[:4].cpu() + 1
    arrived = to_host(large[:4] + 1)
    later = torch.cuda.Event()
    for _ in range(50):
        large = large @ large * 1e-3
    later.record()
    assert torch.equal(arrived(), expected)
    assert not later.query()  # the products are still being computed


def test_on_a_cpu_there_is_nothing_to_copy() -> None:
    tensor = torch.arange(3)
    assert to_host(tensor)() is tensor
