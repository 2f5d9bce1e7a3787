"""What an endpoint has cost so far, and may still cost: kept beside the answers, so that it outlives a run.

>>> import tempfile
>>> meter = Meter(Path(tempfile.mkdtemp()), max_requests=1, max_spend=None)
>>> held = meter.reserve(0.5)
>>> meter.settle(held, 0.2)
>>> meter.spent
Spent(requests=1, cost=0.2)
>>> meter.reserve(0.5)
Traceback (most recent call last):
tckr.errors.UserError: The cap on requests (1) is reached: ...
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from filelock import FileLock

from tckr.engine.checkpoint import write_whole
from tckr.errors import UserError


class Spent(NamedTuple):
    """What was paid for: requests that were answered or may have been, and their cost."""

    requests: int = 0
    cost: float = 0.0


class Meter:
    """Counts what is spent on one folder of answers, over all processes and runs.

    Before a request is sent, the most it can cost is reserved, and settled when it is answered. What a killed process had
    reserved stays spent, since the endpoint may have charged it.
    """

    def __init__(self, folder: Path, max_requests: int, max_spend: float | None) -> None:
        """Args: folder: of the answers. max_requests, max_spend: caps; None is none."""
        self._file, self._lock = folder / "spent.json", FileLock(folder / ".spent.lock")
        self._max_requests, self._max_spend = max_requests, max_spend
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def spent(self) -> Spent:
        """What was paid for so far, reservations included.

        Raises:
            UserError: the file is damaged.
        """
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            return Spent(int(found["requests"]), float(found["cost"]))
        except FileNotFoundError:
            return Spent()
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self._file} is not readable, so that nobody knows what was spent.",
                'write {"requests": 0, "cost": 0} into it to count from nothing; the answers beside it stay valid.',
            ) from None

    def reserve(self, most: float) -> float:
        """Set aside the most that one request can cost, and return it.

        Raises:
            UserError: a cap would be exceeded; nothing is set aside.
        """
        with self._changing() as spent:
            if spent.requests >= self._max_requests:
                raise self._reached(f"requests ({self._max_requests:,})", spent, "max_requests")
            if self._max_spend is not None and spent.cost + most > self._max_spend:
                raise self._reached(f"spending ({self._max_spend:,g})", spent, "max_spend")
            self._save(Spent(spent.requests + 1, spent.cost + most))
        return most

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what an answered request did cost."""
        with self._changing() as spent:
            self._save(Spent(spent.requests, max(0.0, spent.cost - reserved + cost)))

    def refund(self, reserved: float) -> None:
        """Give back what was set aside for a request that the endpoint refused."""
        with self._changing() as spent:
            self._save(Spent(spent.requests - 1, max(0.0, spent.cost - reserved)))

    @contextmanager
    def _changing(self) -> Iterator[Spent]:
        with self._lock:
            yield self.spent

    def _save(self, spent: Spent) -> None:
        content = json.dumps({"requests": spent.requests, "cost": round(spent.cost, 9)})
        write_private(self._file, content.encode())

    def _reached(self, cap: str, spent: Spent, parameter: str) -> UserError:
        return UserError(
            f"The cap on {cap} is reached: {spent.requests:,} requests were paid for, {spent.cost:,.4g} in all;"
            f" their answers are kept in {self._file.parent}.",
            f"raise {parameter}; the same command goes on from there and asks for none of them again.",
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole that its owner alone can read."""

    def write(file: BinaryIO) -> None:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, write)
