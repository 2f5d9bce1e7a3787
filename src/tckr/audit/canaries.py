"""Canaries planted in the mechanisms of the arms under differential privacy: each adds all that one image may.

Every function runs the mechanism as an arm does, the same functions with the same noise, on many canaries at once: their vectors
are orthogonal and the noise is independent in every direction, so that the answer along one canary tells of no other, and one run
is as many repetitions as it holds canaries. Every second one is present, in turns. The other private images are known to the
attacker, who takes them away exactly; so there are none. What is audited is the arithmetic from an image's vector onwards
(clipping, sampling, sums, noise, steps), not how the image becomes that vector.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray

from tckr.audit.tight import Scores, log_likelihood_ratio
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.classifiers.private_teacher import train_head
from tckr.dp.evolution import noisy_votes
from tckr.dp.ledger import Entry
from tckr.dp.mechanisms import noisy_histogram
from tckr.dp.noise import Noise
from tckr.dp.recorder import Answer, recording
from tckr.dp.voting import nearest_of_class
from tckr.options import PrivateSchedule
from tckr.training.private import private_minimize

Present = NDArray[np.bool_]

# Canaries of one run: images of a histogram, candidates of a class, weights of DP-SGD.
WIDTH = 400
# Length of a canary's features, in units of the clipping norm. Its gradient is longer than that norm in every step: the noise
# moves its logits by 2 LENGTH / sqrt(size) only (`PrivateTeacherOptions.rate_for`), so that it is not learnt well enough.
LENGTH = 4.0


def histogram_canaries(entry: Entry, noise: Noise, repetitions: int) -> Scores:
    """Plant images that each name k cells of their own in a histogram (of words, of public categories).

    Args:
        entry: of the ledger, a discrete Gaussian of sensitivity sqrt(k) and one step.
        noise: the source.
        repetitions: answers with and without a canary, together.
    """

    def answers(present: Present) -> NDArray[np.float64]:
        cells = np.arange(len(present) * entry.cells).reshape(len(present), -1)
        counts = noisy_histogram(cells[present], cells.size, afresh(entry, noise), noise)
        return counts.reshape(1, *cells.shape).sum(2) / entry.cells**0.5

    return _repeated(answers, entry, repetitions, WIDTH)


def vote_canaries(entry: Entry, noise: Noise, repetitions: int) -> Scores:
    """Plant images that vote for a candidate of their own, the same in every iteration.

    Args:
        entry: of the ledger, planned by `tckr.dp.votes_plan` for a vote an image.
        noise: the source.
        repetitions: populations that evolve with and without a canary, together.
    """

    def answers(present: Present) -> NDArray[np.float64]:
        spent, candidates = afresh(entry, noise), torch.eye(len(present))
        voters = candidates[torch.from_numpy(present)]
        labels = torch.zeros(len(voters), dtype=torch.int64)
        rows = []
        for _ in range(entry.steps):
            found = nearest_of_class(voters, labels, candidates, 1, block=len(present))
            rows.append(noisy_votes(found, len(present), spent, noise))
        return np.array(rows, np.float64)

    return _repeated(answers, entry, repetitions, WIDTH)


def head_canaries(
    options: PrivateTeacherOptions,
    entry: Entry,
    noise: Noise,
    repetitions: int,
    count: int,
    size: int,
    width: int = WIDTH,
) -> tuple[Scores, Scores]:
    """Plant images in the private teacher's linear head whose gradients are clipped in every step.

    There are two classes, for whose cross-entropy all gradients of an image have one direction.

    Args:
        options: of the arm.
        entry: of the ledger, planned by `tckr.classifiers.private_teacher.teacher_plan`, kind `linear`.
        noise: the source.
        repetitions: teachers with and without a canary, together.
        count: private images as the ledger states it.
        size: features of the arm's images, 3,970 by the scattering transform of 28 x 28; the learning rate follows from it.
        width: features that canaries have, one each, and canaries of a teacher.

    Returns:
        Scores of who sees every noisy gradient; and of who sees the teacher's logits for the canary alone, from which
        labels are made.
    """
    rate = options.rate_for(entry.noise_multiplier, count, size)
    options = options.model_copy(update={"learning_rate": rate})
    direction = torch.tensor([-1.0, 1.0], dtype=torch.float64) / 2**0.5
    labels_alone: list[NDArray[np.float64]] = []

    def answers(present: Present) -> NDArray[np.float64]:
        kept = torch.from_numpy(present)
        features = LENGTH * options.max_grad_norm * torch.eye(len(present))[kept]
        labels = torch.zeros(len(features), dtype=torch.int64)
        with recording() as told:
            weight = train_head(features, labels, 2, options, afresh(entry, noise), noise, count)
        # A gradient points away from where the weights go.
        labels_alone.append(-(direction @ weight).numpy())
        return _outputs(told, lambda output: direction @ output)

    gradients = _repeated(answers, entry, repetitions, width)
    return gradients, _sides(labels_alone, repetitions)


def gradient_canaries(
    schedule: PrivateSchedule,
    entry: Entry,
    noise: Noise,
    repetitions: int,
    count: int,
    width: int = WIDTH,
) -> Scores:
    """Plant images in DP-SGD whose gradients are of the clipping norm, each along a weight of its own (Dirac canaries).

    Args:
        schedule: of the arm.
        entry: of the ledger, planned by `tckr.training.private.private_plan`.
        noise: the source.
        repetitions: trainings with and without a canary, together.
        count: private images as the ledger states it.
        width: weights, and canaries of a training.
    """

    def answers(present: Present) -> NDArray[np.float64]:
        inputs = 2 * schedule.max_grad_norm * torch.eye(len(present))[torch.from_numpy(present)]
        network = torch.nn.Linear(len(present), 1, bias=False)
        with recording() as told:
            private_minimize(
                network, lambda rows: network(inputs[rows]).sum(), len(inputs), schedule,
                afresh(entry, noise), noise, "canaries", count=count,
            )  # fmt: skip
        return _outputs(told, lambda output: output)

    return _repeated(answers, entry, repetitions, width)


def afresh(entry: Entry, noise: Noise) -> Entry:
    """Return an entry of a ledger as spent just now and not yet asked: a repetition is a run with a ledger of its own."""
    state = {"spent": datetime.now(UTC), "seeded": not noise.private}
    return Entry(**entry.model_dump(exclude=set(state)), **state)


def _repeated(
    answers: Callable[[Present], NDArray[np.float64]], entry: Entry, repetitions: int, width: int
) -> Scores:
    """Run a mechanism until there are enough answers, and score them.

    Args:
        answers: from which canaries are present, bool (width,), to each one's projections, (steps, width).
    """
    runs = range(-(-repetitions // width))
    scores = [log_likelihood_ratio(answers(_present(run, width)), entry) for run in runs]
    return _sides(scores, repetitions)


def _present(run: int, width: int) -> Present:
    """Return which canaries are present in a run: every second one, in the next run the others."""
    return np.arange(width) % 2 == run % 2


def _sides(scores: list[NDArray[np.float64]], repetitions: int) -> Scores:
    """Return the scores of all runs, half of `repetitions` of either side."""
    present = [_present(run, len(each)) for run, each in enumerate(scores)]
    there = np.concatenate([each[mask] for each, mask in zip(scores, present, strict=True)])
    absent = np.concatenate([each[~mask] for each, mask in zip(scores, present, strict=True)])
    return Scores(there[: repetitions // 2], absent[: repetitions // 2])


def _outputs(
    told: list[Answer], along: Callable[[torch.Tensor], torch.Tensor]
) -> NDArray[np.float64]:
    return np.stack([along(each.output).numpy() for each in told])
