"""The ledger: every mechanism that reads private images, planned before the first one runs, and what they cost together.

    ledger = Ledger(total_epsilon=10, delta=delta_default(n), n=n, data_hash=hash)
    ledger.plan([Plan(...), Plan(...)])         # calibrates the noise of each, or stops the run
    entry = ledger.spend("teacher", noise)      # just before the mechanism runs; a second time is refused
    path.write_text(ledger.to_json())           # before its answer is used

A ledger that was read again says what was run, whatever the parameters say today: work that resumes takes its noise
and its steps from `ledger["teacher"]`, and does not spend again.
"""

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from tckr.dp.accounting import Mechanism, gaussian_mu, mu, total_epsilon
from tckr.dp.budget import Plan, calibrate
from tckr.dp.noise import Noise
from tckr.dp.trade_off import TradeOff, trade_off
from tckr.errors import UserError
from tckr.options import Options

VERSION = 1
ADJACENCY = "add or remove one image"
# Relative slack of a comparison of epsilons: sums of floating-point numbers, far below any meaning.
SLACK = 1e-9


class Entry(Mechanism):
    """A mechanism in the ledger: how noisy it is, why its sensitivity holds, what ran it on which data, and when."""

    name: str = Field(min_length=1, description="unique in its ledger")
    why: str = Field(min_length=1, description="why one image cannot change the statistic by more")
    adjacency: Literal["add or remove one image"] = Field(
        "add or remove one image", description="what neighbouring private sets are"
    )
    data_hash: str = Field(min_length=1, description="of the private images that it reads")
    code: str = Field(min_length=1, description="module:function and hash of its file")
    spent: datetime | None = Field(None, description="when it was run; None: planned")
    seeded: bool = Field(False, description="its noise came from a seed: a test, not private")
    _answers: int = PrivateAttr(0)

    def count_answer(self) -> None:
        """Count one noisy answer of a mechanism that was spent.

        Raises:
            UserError: all of its steps have been answered.
        """
        if self._answers >= self.steps:
            raise UserError(
                f"'{self.name}' is charged for {self.steps:,} noisy answers and asks for more.",
                "plan as many steps as it takes; a shadow needs a ledger of its own.",
            )
        self._answers += 1


class Declaration(Options):
    """Something that others take from private images, and that is not charged here: why it is not."""

    what: str = Field(min_length=1, description="such as 'normalisation constants'")
    how: Literal["public", "absent", "uncharged"] = Field(
        description="public: not taken from the private images; absent: not used; uncharged: taken without noise, for"
        " research, so that nothing of the run is private"
    )
    why: str = Field(min_length=1)


class _File(Options):
    """What the JSON holds, beside its checksum."""

    version: Literal[1]
    total_epsilon: float = Field(gt=0, allow_inf_nan=False)
    delta: float = Field(gt=0, lt=1)
    n: int = Field(ge=3)
    data_hash: str = Field(min_length=1)
    entries: tuple[Entry, ...]
    declarations: tuple[Declaration, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [entry.name for entry in self.entries]
        if len(set(names)) < len(names):
            raise ValueError("two mechanisms have one name")
        if any(entry.data_hash != self.data_hash for entry in self.entries):
            raise ValueError("a mechanism reads other private images than its ledger")
        return self


class Ledger:
    """A total budget of privacy and the mechanisms that share it.

    Args:
        total_epsilon: of everything together, > 0.
        delta: of everything together, at most 1 / n.
        n: private images. The ledger treats it as public: delta, sampling rates and step sizes depend on it.
        data_hash: of the private images.

    >>> ledger = Ledger(1.0, delta=1e-5, n=3000, data_hash="4f2a")
    >>> entry = ledger.add(name="class counts", mechanism="discrete_gaussian", noise_multiplier=40, sensitivity=1,
    ...     why="an image has one class", code="doc")
    >>> round(ledger.epsilon(), 3), round(ledger.epsilon(spent=True), 3), ledger.private
    (0.075, 0.0, True)

    Raises:
        UserError: epsilon is not positive, or delta outside (0, 1 / n].
    """

    def __init__(self, total_epsilon: float, delta: float, n: int, data_hash: str) -> None:
        if not (math.isfinite(total_epsilon) and total_epsilon > 0):
            raise UserError(
                f"A budget needs a finite epsilon above 0, not {total_epsilon}.",
                "set epsilon, e.g. to 10.",
            )
        check_delta(delta, n)
        self.total_epsilon, self.delta, self.n = float(total_epsilon), float(delta), n
        self.data_hash = data_hash
        self._entries: dict[str, Entry] = {}
        self._declarations: dict[str, Declaration] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All mechanisms, planned and run, in the order in which they were added."""
        return tuple(self._entries.values())

    @property
    def private(self) -> bool:
        """False when the noise of a mechanism came from a seed, or something was taken uncharged: it protects nobody."""
        return not any(entry.seeded for entry in self) and not self._uncharged

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """Return the mechanism called `name`.

        Raises:
            UserError: the ledger has none: whatever asks would read private images past it.
        """
        if name not in self._entries:
            raise UserError(
                f"The ledger has no mechanism '{name}': it would read private images uncharged.",
                f"plan it first; planned are {', '.join(self._entries) or 'none'}.",
            )
        return self._entries[name]

    def add(self, **fields: Any) -> Entry:
        """Plan a mechanism; the fields are those of `Entry`, of which `data_hash` defaults to the ledger's.

        Raises:
            UserError: the name is taken, it reads other data, or the total would be exceeded.
            pydantic.ValidationError: a field is missing or out of range.
        """
        entry = Entry(**{"data_hash": self.data_hash, **fields})
        if entry.name in self._entries:
            raise UserError(
                f"The ledger has a mechanism '{entry.name}' already.", "give this one another name."
            )
        if entry.data_hash != self.data_hash:
            raise UserError(
                f"'{entry.name}' reads other private images ({entry.data_hash[:8]}) than its ledger"
                f" ({self.data_hash[:8]}).",
                "keep one ledger for each private set.",
            )
        self._check_total([*self.entries, entry], entry.name)
        self._entries[entry.name] = entry
        return entry

    def plan(self, plans: Sequence[Plan]) -> tuple[Entry, ...]:
        """Calibrate and add mechanisms that share what is left of the budget, so that the total is just reached.

        Args:
            plans: their shares are of mu^2 and count relative to one another; share 0 leaves a mechanism out.

        Raises:
            UserError: nothing is left, no share is positive, or a name is taken.
        """
        wanted = [plan for plan in plans if plan.share > 0]
        names = [plan.name for plan in wanted]
        twice = next((name for name in names if name in self or names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"Two mechanisms are called '{twice}'.", "give one another name.")
        if self.epsilon() >= self.total_epsilon * (1 - SLACK):
            raise self._exhausted(", ".join(names))
        multipliers = calibrate(self.total_epsilon, self.delta, wanted, self.entries)
        return tuple(
            self.add(noise_multiplier=multipliers[plan.name], **plan.model_dump(exclude={"share"}))
            for plan in wanted
        )

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """What is public or absent instead of charged."""
        return tuple(self._declarations.values())

    @property
    def _uncharged(self) -> list[str]:
        return [each.what for each in self.declarations if each.how == "uncharged"]

    def declare(self, what: str, how: Literal["public", "absent", "uncharged"], why: str) -> None:
        """State of something that is not charged why it need not be: public, or absent; or that it should have been.

        >>> ledger = Ledger(1.0, delta=1e-5, n=3000, data_hash="4f2a")
        >>> ledger.declare("early stopping", "absent", "the number of steps is fixed before")
        >>> ledger.declarations[0].how
        'absent'

        Raises:
            UserError: it is charged as a mechanism.
            pydantic.ValidationError: neither public nor absent, or no reason.
        """
        if what in self:
            raise UserError(f"'{what}' is charged already.", "it cannot be free as well.")
        self._declarations[what] = Declaration(what=what, how=how, why=why)

    def spend(self, name: str, noise: Noise) -> Entry:
        """Mark a mechanism as run, just before it reads the private images; returns it.

        Args:
            name: of a planned mechanism.
            noise: its source of noise; one with a seed makes the whole ledger not private.

        Raises:
            UserError: it is not planned, or was run already: a second answer with fresh noise would cost as much again.
        """
        entry = self[name]
        if entry.spent is not None:
            raise UserError(
                f"'{name}' was run at {entry.spent:%Y-%m-%d %H:%M} UTC and its budget is spent.",
                "use what it made, or start over with a new ledger and count both.",
            )
        self._entries[name] = entry.model_copy(
            update={"spent": datetime.now(UTC), "seeded": not noise.private}
        )
        return self._entries[name]

    def record(self, entry: Entry) -> None:
        """Take over a planned mechanism that was spent on a copy of this ledger, as by another node of a run.

        Raises:
            UserError: it is not planned, not spent, or not as it was planned.
        """
        planned = self[entry.name]
        state = {"spent", "seeded"}
        if entry.spent is None or entry.model_dump(exclude=state) != planned.model_dump(
            exclude=state
        ):
            raise UserError(
                f"'{entry.name}' was not run as this ledger planned it.",
                "run the arm from its start.",
            )
        self._entries[entry.name] = entry

    def epsilon(self, delta: float | None = None, *, spent: bool = False) -> float:
        """Return the epsilon of all mechanisms together.

        Args:
            delta: the ledger's own unless given.
            spent: count only what was run.
        """
        return total_epsilon(self._counted(spent), self.delta if delta is None else delta)

    def mu(self, *, spent: bool = False) -> float:
        """Return the mu of all mechanisms together: exact if all are Gaussian, else that with the same epsilon at delta."""
        counted = self._counted(spent)
        exact = gaussian_mu(counted)
        return mu(total_epsilon(counted, self.delta), self.delta) if exact is None else exact

    def trade_off(self, *, spent: bool = False) -> TradeOff:
        """Return the largest true-positive rate that any test for one image can have, by its false-positive rate."""
        return trade_off(self._counted(spent))

    def check_release(self) -> None:
        """Check that what was made from this ledger may be handed out.

        Raises:
            UserError: some noise came from a seed, something was taken without any, or nothing was run.
        """
        if self._uncharged:
            raise UserError(
                f"Not private: {', '.join(self._uncharged)} was taken without noise, and nothing pays for that.",
                "run it without research.",
            )
        if not self.private:
            raise UserError(
                "Not private: some noise came from a seed, with which anybody can take it away again.",
                "run it without a noise seed; the test mode is for tests.",
            )
        if not any(entry.spent for entry in self):
            raise UserError("The ledger holds no mechanism that was run.", "run the arm first.")

    def to_json(self, *, release: bool = False) -> str:
        """Return the ledger as JSON with a checksum.

        Args:
            release: leave the hash of the private set out: it would tell whoever guesses the set that he is right.
        """
        content = self._content()
        if release:
            content.pop("data_hash")
            for entry in content["entries"]:
                entry.pop("data_hash")
        derived = {"epsilon": self.epsilon(), "mu": self.mu(), "private": self.private}
        content = {**content, **derived}
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1, allow_nan=False)

    @classmethod
    def from_json(
        cls, text: str, data_hash: str | None = None, source: str = "The ledger file"
    ) -> Self:
        """Read a ledger as it was written; nothing is computed from today's parameters.

        Args:
            text: of `to_json()`.
            data_hash: of the run's private images, which must be the ledger's.
            source: the file's name, for errors.

        Raises:
            UserError: not a ledger, of another version, changed since it was written, with an unknown mechanism or
                impossible numbers, more than its total, or of other private images.
        """
        file = _read(text, source)
        if data_hash is not None and file.data_hash != data_hash:
            raise UserError(
                f"{source} is of other private images ({file.data_hash[:8]}) than this run's ({data_hash[:8]}).",
                "start a new ledger for them.",
            )
        ledger = cls(file.total_epsilon, file.delta, file.n, file.data_hash)
        ledger._entries = {entry.name: entry for entry in file.entries}
        ledger._declarations = {each.what: each for each in file.declarations}
        # Another version of dp-accounting may round otherwise; what was spent stays what it was.
        ledger._check_total(file.entries, source, slack=1e-3)
        return ledger

    def _content(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "total_epsilon": self.total_epsilon,
            "delta": self.delta,
            "n": self.n,
            "data_hash": self.data_hash,
            "entries": [entry.model_dump(mode="json") for entry in self],
            "declarations": [each.model_dump() for each in self.declarations],
        }

    def _counted(self, spent: bool) -> list[Entry]:
        return [entry for entry in self if entry.spent or not spent]

    def _check_total(self, entries: Sequence[Entry], name: str, slack: float = SLACK) -> None:
        if total_epsilon(entries, self.delta) > self.total_epsilon * (1 + slack):
            raise self._exhausted(name)

    def _exhausted(self, name: str) -> UserError:
        taken = self.epsilon()
        return UserError(
            f"'{name}' does not fit into epsilon {self.total_epsilon:g} (delta {self.delta:.2g}):"
            f" {', '.join(self._entries) or 'nothing'} take {taken:.3g} of it.",
            "raise epsilon, give it more noise or fewer steps, or leave another mechanism out.",
        )


def check_delta(delta: float, n: int) -> None:
    """Check that delta says something: above 1 / n it allows a release of somebody's image as it is.

    Raises:
        UserError: outside (0, 1 / n].
    """
    if not 0 < delta <= 1 / n:
        raise UserError(
            f"delta {delta:g} is not in (0, 1/N = {1 / n:.3g}] of {n:,} private images.",
            "leave it out: it defaults to 1 / (N ln N).",
        )


def code_of(function: Callable[..., Any]) -> str:
    """Return `module:function@hash` of a function, with 12 digits of the SHA-256 of its file.

    >>> code_of(code_of).split("@")[0]
    'tckr.dp.ledger:code_of'
    """
    function = inspect.unwrap(function)
    digest = hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()[:12]
    return f"{function.__module__}:{function.__qualname__}@{digest}"


def _read(text: str, source: str) -> _File:
    try:
        content = json.loads(text)
        checksum = content.pop("checksum")
        version = content["version"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source} is not a ledger.", "name a file that a run wrote.") from error
    if version != VERSION:
        raise UserError(
            f"{source} has version {version!r}; this program reads version {VERSION}.",
            "read it with the program that wrote it.",
        )
    for derived in ("epsilon", "mu", "private"):
        content.pop(derived, None)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{source}: {place} = {_short(first['input'])}: {first['msg']}.",
            "restore the file as its run wrote it.",
        ) from error
    if checksum != _checksum(json.loads(text, parse_constant=str)):
        raise UserError(
            f"{source} was changed after it was written.", "restore the file as its run wrote it."
        )
    return file


def _checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content; it shows slips and edits, but is no signature."""
    plain = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
