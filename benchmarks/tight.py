"""A tight audit of the arms under differential privacy: mu that canaries show of each mechanism, beside the ledger's.

    python -m benchmarks.tight [--arms private privimage spti] [--epsilon 1 10] [--repetitions 20000] [--json PATH]
    python -m benchmarks.tight --noise 0.5          # a planted bug: every mechanism adds half of its noise
    python -m benchmarks.tight --small

The ledger of each arm is planned as its pipeline does, for `--images` members, by the options of conf/base (--small: of conf/test). `ledger's mu` is that
of the mechanism alone: exact for a Gaussian, else of the Gaussian with the same epsilon at the ledger's delta. `proven` is mu by the
proven trade-off curve at the false-positive rate of the test, `at least` what the canary shows at 95 %. Where it is more than
proven at 99.998 % too (99.9 % over fifty rows), ledger or code is wrong, and the command ends with status 1. Noise is the operating system's: no two runs print the same.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import configured
from benchmarks.measure import Report, machine, measure

from tckr.audit.canaries import gradient_canaries, head_canaries, histogram_canaries, vote_canaries
from tckr.audit.tight import Scores, tightness
from tckr.classifiers.private_teacher import teacher_size
from tckr.dp import Entry, Ledger, Mechanism, Noise, delta_default, mu, total_epsilon
from tckr.dp.accounting import gaussian_mu
from tckr.synthesizers.private_set import PublicFacts
from tckr.synthesizers.spti import VOTES
from tckr.synthesizers.under_dp import UnderDP

ARMS = ("private", "privimage", "spti")
# Of the shipped sample.
CLASSES, SHAPE = 10, (1, 28, 28)
# Confidence of a contradiction: of one row of fifty, which are right together at 99.9 %.
SURE = 0.99998
LABELS = "teacher, by its logits alone"
COLUMNS = {
    "arm": "arm", "epsilon": "epsilon", "mechanism": "mechanism", "ledger": "ledger's mu", "proven": "proven",
    "measured": "at least", "share": "of it, %", "contradicts": "contradicts", "seconds": "seconds",
}  # fmt: skip


class Scaled(Noise):
    """Noise of another size than the mechanism asks for."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def normal(self, shape: Any, scale: float, device: Any = "cpu", dtype: Any = None) -> Any:
        """Return Gaussian noise, scaled."""
        return super().normal(shape, self.factor * scale, device, dtype)

    def discrete_gaussian(self, shape: Any, sigma: float) -> Any:
        """Return discrete Gaussian noise, scaled."""
        return super().discrete_gaussian(shape, self.factor * sigma)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit every mechanism of every arm, print the table and save it; return 1 if one contradicts its ledger."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--epsilon", type=float, nargs="+", help="[1 10]")
    parser.add_argument("--images", type=int, default=3000, help="members, a public number [3000]")
    parser.add_argument("--repetitions", type=int, help="with and without a canary [20000]")
    parser.add_argument(
        "--noise", type=float, default=1.0, help="times what a mechanism asks for [1]"
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    repetitions = given.repetitions or (2000 if given.small else 20_000)
    noise = Noise() if given.noise == 1 else Scaled(given.noise)
    report = Report(given.json)
    report.set(
        **machine("cpu"), images=given.images, repetitions=repetitions, noise=given.noise, rows=[]
    )
    for name in given.arms:
        for epsilon in given.epsilon or ([10.0] if given.small else [1.0, 10.0]):
            arm = configured(
                name, epsilon, given.small, environment=None if given.small else "base"
            )
            assert isinstance(arm, UnderDP)
            for row in audited(arm, given.images, repetitions, noise):
                report.add("rows", {"arm": name, "epsilon": epsilon, **row})
    report.show(f"mu, {repetitions:,} repetitions", "rows", COLUMNS)
    return int(any(row["contradicts"] for row in report.result["rows"]))


def audited(arm: UnderDP, images: int, repetitions: int, noise: Noise) -> Iterator[dict[str, Any]]:
    """Yield a row for each mechanism of an arm, and one for all that one canary shows in them together."""
    facts = PublicFacts(images, [f"class {label}" for label in range(CLASSES)], SHAPE)
    ledger = Ledger(arm.privacy.epsilon, delta_default(images), images, data_hash="canaries")
    entries = ledger.plan([each.plan for each in arm.mechanisms(facts)])
    together: list[Scores] = []
    for entry in entries:
        found, cost = measure(lambda entry=entry: scores(arm, entry, images, repetitions, noise))  # type: ignore[misc]
        for mechanism, each in found.items():
            yield compared(mechanism, [entry], each, ledger) | {"seconds": cost.seconds}
        together.append(found[entry.name])
    everything = together[0]
    for more in together[1:]:
        everything += more
    yield compared("everything", entries, everything, ledger)


def scores(
    arm: UnderDP, entry: Entry, images: int, repetitions: int, noise: Noise
) -> dict[str, Scores]:
    """Return what canaries score in a mechanism, by what the attacker sees of it."""
    if entry.mechanism == "discrete_gaussian":
        planted = vote_canaries if entry.name == VOTES else histogram_canaries
        return {entry.name: planted(entry, noise, repetitions)}
    if entry.mechanism == "subsampled_gaussian":
        schedule = arm.generator_adaptation.schedule  # type: ignore[attr-defined]
        return {entry.name: gradient_canaries(schedule, entry, noise, repetitions, images)}
    options = arm.private_teacher
    size = teacher_size(options, SHAPE, CLASSES) // CLASSES
    gradients, labels = head_canaries(options, entry, noise, repetitions, images, size)
    return {entry.name: gradients, LABELS: labels}


def compared(
    mechanism: str, entries: Sequence[Mechanism], found: Scores, ledger: Ledger
) -> dict[str, Any]:
    """Return the row of some mechanisms."""
    tight, sure = tightness(entries, found), tightness(entries, found, SURE)
    charged = gaussian_mu(entries) or mu(total_epsilon(entries, ledger.delta), ledger.delta)
    return {
        "mechanism": mechanism, "ledger": charged, "proven": tight.proven, "measured": tight.measured.value,
        "share": 100 * tight.measured.value / tight.proven, "contradicts": sure.contradicts,
        "tpr": tight.measured.tpr, "fpr": tight.measured.fpr,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
