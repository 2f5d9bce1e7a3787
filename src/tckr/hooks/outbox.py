"""A side channel: what it sends waits for nobody, and what cannot be sent costs a line, not the run."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

PAUSE = 2.0  # seconds between two tries of the same message
PAUSE_AT_THE_END = 0.5
PATIENCE = 15.0  # seconds at the end of a run for what fails
PATIENCE_IF_WELL = 60.0  # seconds at the end of a run for one message while everything arrives


class Outbox:
    """Sends messages in order on a thread of its own; one that fails is tried again until the end.

    The first failure is said in one line, and so is, at the end, what never arrived.

    >>> sent, outbox = [], Outbox("the server")
    >>> outbox.put(lambda: sent.append("figures"))
    >>> outbox.close()
    True
    >>> sent
    ['figures']
    """

    def __init__(
        self, receiver: str, refused: Callable[[Exception], bool] = lambda error: False
    ) -> None:
        """Start the thread.

        Args:
            receiver: its name, for messages.
            refused: whether an error is final: the message was received and will never be accepted.
        """
        self._receiver, self._refused = receiver, refused
        self._waiting: deque[Callable[[], Any]] = deque()
        self._changed = threading.Condition()
        self._closed = self._failing = self._said = False
        self._deadline, self._arrived = (
            float("inf"),
            0.0,
        )  # of the clock, the latter of the last message
        self._thread = threading.Thread(target=self._send_all, name=f"to {receiver}", daemon=True)
        self._thread.start()

    def put(self, message: Callable[[], Any]) -> None:
        """Add a message: a function that sends it, and may be called again if it fails."""
        with self._changed:
            self._waiting.append(message)
            self._changed.notify()

    def close(self, patience: float = PATIENCE, if_well: float = PATIENCE_IF_WELL) -> bool:
        """Wait for the messages, but no longer than `patience` seconds for a receiver that fails.

        Args:
            patience: seconds for what fails.
            if_well: seconds for each message while everything arrives.

        Returns:
            Whether all messages have arrived.
        """
        started = time.monotonic()
        with self._changed:
            self._closed, self._deadline = True, started + patience
            self._changed.notify()
        while self._thread.is_alive():
            self._thread.join(0.05)
            waited = time.monotonic() - max(started, 0.0 if self._failing else self._arrived)
            if waited > (patience if self._failing else if_well):
                break
        if self._waiting:
            logger.warning(
                "%s did not get %d of this run's messages; the artefacts in the data folder are complete.",
                self._receiver,
                len(self._waiting),
            )
        return not self._waiting

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                message = self._waiting[0]
            if self._send(message):
                self._waiting.popleft()
                continue
            if time.monotonic() > self._deadline:
                return
            with self._changed:  # the end of the run is the moment for another try
                self._changed.wait(PAUSE_AT_THE_END if self._closed else PAUSE)

    def _send(self, message: Callable[[], Any]) -> bool:
        """Send one message; return whether it is done with."""
        try:
            message()
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            if self._refused(error):
                logger.warning("%s refuses part of this run: %s", self._receiver, line)
                return True
            self._failing = True
            if not self._said:
                self._said = True
                logger.warning(
                    "%s cannot be used now (%s). The run goes on; what belongs there is sent again later.",
                    self._receiver,
                    line,
                )
            return False
        self._failing, self._arrived = False, time.monotonic()
        return True
