"""A side channel delivers in order, tries again, and costs a line where it cannot."""

import logging
import threading

import pytest

from tckr.hooks import outbox as module
from tckr.hooks.outbox import Outbox


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "PAUSE_AT_THE_END", 0.01)


def test_what_failed_is_sent_again_in_order_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []
    locked = iter([True, True, True, False])

    def fragile() -> None:
        if next(locked, False):
            raise OSError("database is locked")
        sent.append(1)

    outbox = Outbox("MLflow")
    with caplog.at_level(logging.WARNING):
        outbox.put(fragile)
        outbox.put(lambda: sent.append(2))
        assert outbox.close()

    assert sent == [1, 2]
    assert [record.message for record in caplog.records] == [
        "MLflow cannot be used now (database is locked). The run goes on; what belongs there is sent again later."
    ]


def test_a_receiver_that_is_gone_costs_the_patience_and_two_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone() -> None:
        raise ConnectionError("no route to host")

    outbox = Outbox("MLflow")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            outbox.put(gone)
        assert not outbox.close(patience=0.1)

    assert len(caplog.records) == 2
    assert "did not get 3 of this run's messages" in caplog.records[-1].message


def test_a_receiver_that_never_answers_holds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    answer = threading.Event()
    outbox = Outbox("MLflow")
    outbox.put(answer.wait)

    assert not outbox.close(patience=0.05, if_well=0.1)
    answer.set()


def test_what_is_refused_for_good_does_not_hold_up_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[str] = []

    def invalid() -> None:
        raise ValueError("a name with\na line break")

    outbox = Outbox("MLflow", lambda error: isinstance(error, ValueError))
    with caplog.at_level(logging.WARNING):
        outbox.put(invalid)
        outbox.put(lambda: sent.append("next"))
        assert outbox.close()

    assert sent == ["next"]
    assert caplog.records[0].message == "MLflow refuses part of this run: a name with"
