"""Private Evolution: a population of prompts of each class, that private images vote for and a source of text varies.

SPTI (NeurIPS 2025, arXiv 2506.07555), after Aug-PE (arXiv 2403.01749, algorithm 1) and PE (arXiv 2305.15560, algorithm 1):

    candidates = random prompts                                     # RANDOM_API
    repeat T times:
        votes = histogram of nearest candidates + noise             # the one thing that reads private images
        selected = candidates with the most votes
        candidates = selected + L - 1 variations of each            # VARIATION_API

An image names one candidate of its own class, so that one image changes the histogram over all classes by 1 in L2 norm,
and one noisy answer an iteration serves every class (the classes are disjoint). Where an owner votes once for all of his
images, one image may move that vote from one count to another, sqrt(2) in L2 norm, and a whole owner changes one count by 1
(`tckr.dp.voting.ballots`). All T answers are one entry of the ledger, planned before the first. Everything else is
post-processing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tckr.dp.accounting import epsilon_of_mu
from tckr.dp.budget import Plan
from tckr.dp.ledger import Entry, code_of
from tckr.dp.mechanisms import noisy_histogram
from tckr.dp.noise import Noise
from tckr.engine.released import release
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import Options

if TYPE_CHECKING:
    from torch import Tensor

    from tckr.dp.voting import Nearest
    from tckr.engine.checkpoint import Checkpoints

Counts = NDArray[np.int64]
Voter = Literal["image", "owner"]

# How many counts of the histogram one image changes by 1, and why no more.
MOVED: Mapping[Voter, tuple[int, str]] = {
    "image": (1, "an image votes for the nearest candidate of its class: it adds 1 to one cell"),
    "owner": (
        2,
        "an owner votes once, by the image that is nearest to any candidate: one image fewer moves that vote from one cell to"
        " another at most, 1 in each, which is sqrt(2); all images of an owner together change one cell by 1",
    ),
}


class EvolutionOptions(Options):
    """How a population evolves.

    Published: 2,000 kept and 6 variations of each, 9 or 10 iterations, by rank, for 300,000 images. How many candidates
    some private images can tell apart follows from theory: an average candidate has to get more votes than noise
    (`check_votes`).
    """

    population: int = Field(8, ge=1, description="prompts of each class that are kept")
    variations: int = Field(
        3, ge=1, description="of each prompt that is kept, beside itself: L - 1; published: 6"
    )
    iterations: int = Field(4, ge=1, description="noisy votes, T; published: 9 and 10")
    selection: Literal["rank", "sample"] = Field(
        "rank",
        description="rank: the most votes, as SPTI; sample: in proportion to votes above the threshold, as PE",
    )
    threshold: float = Field(
        1.0,
        ge=0,
        description="sample: fewer votes than so many standard deviations of the noise are none; PE: 1 to 1.4",
    )

    @property
    def candidates(self) -> int:
        """Candidates of each class that are voted for."""
        return self.population * (1 + self.variations)


class Api(Protocol):
    """What evolution needs of the world; nothing private is given to it."""

    def random(self, label: int, count: int, seed: int) -> list[str]:
        """Return `count` prompts of a class that no private image shaped."""

    def vary(self, prompts: Sequence[str], labels: Sequence[int], seed: int) -> list[str]:
        """Return one variation of each prompt."""

    def embed(self, prompts: Sequence[str], seed: int) -> "Tensor":
        """Return features of what each prompt stands for, float (M, D), in the voters' space."""


@dataclass(frozen=True)
class Generation:
    """One iteration, as the noisy votes see it.

    Attributes:
        prompts: candidates, class by class, equally many of each.
        votes: int64 (classes, candidates of a class), with noise; may be negative.
        kept: int64 (classes, population), places of the selected candidates, the best first.
        features: float32 (classes * candidates of a class, D), of the candidates, on the CPU.
    """

    prompts: tuple[tuple[str, ...], ...]
    votes: Counts
    kept: Counts
    features: "Tensor"

    @property
    def selected(self) -> tuple[tuple[str, ...], ...]:
        """The prompts that were kept of each class, the best first."""
        return tuple(
            tuple(own[place] for place in places)
            for own, places in zip(self.prompts, self.kept.tolist(), strict=True)
        )

    def of_class(self, label: int) -> "Tensor":
        """Return the features of the candidates of a class, float32 (candidates, D)."""
        each = self.votes.shape[1]
        return self.features[label * each : (label + 1) * each]


def votes_plan(iterations: int, share: float, name: str = "votes", per: Voter = "image") -> Plan:
    """Return what to plan in the ledger: one discrete Gaussian with an answer an iteration.

    The ledger's neighbours differ in one image, whoever votes: the sensitivity is 1 with a vote an image and sqrt(2) with a
    vote an owner, of which `tckr.dp.voting.ballots` has the proof. For a whole owner, with all of his images, that of
    votes an owner is 1: there the entry has 1 / sqrt(2) of the mu that it has for one image.

    Args:
        iterations: noisy answers.
        share: of mu^2.
        name: in the ledger.
        per: who has one vote.

    >>> votes_plan(iterations=10, share=1).sensitivity, round(votes_plan(10, 1, per="owner").sensitivity, 3)
    (1.0, 1.414)
    """
    cells, why = MOVED[per]
    return Plan(
        name=name,
        mechanism="discrete_gaussian",
        steps=iterations,
        sensitivity=math.sqrt(cells),
        share=share,
        why=why,
        code=code_of(noisy_votes),
    )


def check_votes(entry: Entry, n: int, candidates: int, delta: float, per: Voter = "image") -> None:
    """Check that an average candidate gets more votes than noise, before any private image votes.

    Published runs have 21 votes a candidate against a noise of 13; with 200 images for 14,000 candidates nothing evolves.

    Args:
        entry: of `votes_plan`, calibrated.
        n: voters, which count as public: private images, or their owners.
        candidates: of all classes together.
        delta: of the ledger.
        per: who has one vote.

    Raises:
        UserError: the noise is louder; says which number of candidates, of voters, or which epsilon would do.
    """
    each = n / candidates
    if entry.sigma <= each:
        return
    # sigma = sensitivity * sqrt(T) / mu has to come down to n / candidates.
    needed = epsilon_of_mu(entry.sensitivity * math.sqrt(entry.steps) / each, delta)
    smaller = math.floor(n / entry.sigma)
    raise UserError(
        f"More noise than votes: {n:,} {per}s for {candidates:,} candidates are {each:.2g} votes each, the noise of a count"
        f" is {entry.sigma:.3g}.",
        (
            f"lower evolution.population or evolution.variations to {smaller:,} candidates in all, "
            if smaller
            else ""
        )
        + f"give at least {math.ceil(candidates * entry.sigma):,} {per}s, or raise epsilon until the votes alone have"
        f" {needed:.2g}.",
    )


def noisy_votes(
    found: "Nearest",
    candidates: int,
    entry: Entry,
    noise: Noise,
    owners: NDArray[np.int64] | None = None,
) -> Counts:
    """Count, with noise, the votes for each candidate: one answer of the entry's steps.

    Args:
        found: the nearest candidate of each private image (`tckr.dp.voting.nearest_of_class`).
        candidates: of all classes together.
        entry: what the ledger charged, planned by `votes_plan`.
        noise: the source.
        owners: whose each image is, for a vote an owner; see `tckr.dp.voting.ballots`.

    Returns:
        int64 (candidates,), which may be negative.

    Raises:
        UserError: the entry was not spent, or has answered all of its steps.
        ValueError: votes of owners under an entry that was planned for votes of images.
    """
    from tckr.dp.voting import ballots

    if owners is not None and entry.cells < MOVED["owner"][0]:
        raise ValueError(
            f"'{entry.name}' declares that one image changes one count, and may move the vote of its owner from one to another"
        )
    return noisy_histogram(ballots(found, owners), candidates, entry, noise)


class Voters(NamedTuple):
    """Private images, as they vote.

    Attributes:
        features: float (N, D), on the device where to search.
        labels: int64 (N,).
        owners: int64 (N,), whose each image is, and an owner has one vote; None: every image has one.
    """

    features: "Tensor"
    labels: "Tensor"
    owners: NDArray[np.int64] | None = None


def evolve(
    voters: Voters,
    n_classes: int,
    api: Api,
    options: EvolutionOptions,
    entry: Entry,
    noise: Noise,
    seed: int,
    *,
    checkpoints: "Checkpoints | None" = None,
    identity: Mapping[str, Any] | None = None,
) -> list[Generation]:
    """Evolve a population of prompts of each class.

    Args:
        voters: the private images.
        n_classes: classes in all, as the owner names them.
        api: writes, varies and embeds prompts.
        options: sizes and selection.
        entry: what the ledger charged, planned by `votes_plan` with as many steps as there are iterations.
        noise: the source.
        seed: of texts and renderings, which need not be secret.
        checkpoints: every iteration is saved there, its noisy votes before they are used, so that an answer once paid for is
            read again and not asked for again.
        identity: plain values, such as a hash of the data, that the checkpoints must match.

    Returns:
        One generation an iteration; `selected` of the last is the population that the release is drawn from.

    Raises:
        UserError: the entry was not spent or is of another number of iterations, or the checkpoints are of other work.
    """
    if entry.steps != options.iterations:
        raise UserError(
            f"'{entry.name}' is charged for {entry.steps} iterations, and {options.iterations} are asked for.",
            "run the arm from its start.",
        )
    fingerprint = {
        "options": options.model_dump(mode="json"), "noise_multiplier": entry.noise_multiplier, "classes": n_classes,
        "seed": seed, **(identity or {}),
    }  # fmt: skip
    done: list[Generation] = []
    for turn in range(options.iterations):
        part = checkpoints.of(f"iteration-{turn + 1}") if checkpoints else None
        saved = part.load(fingerprint) if part else None
        if saved is not None:
            if noise.private:
                entry.count_answer()
            done.append(_restored(saved))
            continue
        if done:
            prompts = _offspring(done[-1], api, options, derive(seed, "vary", turn))
        else:
            prompts = _first(n_classes, api, options, seed)
        flat = [prompt for own in prompts for prompt in own]
        features = api.embed(flat, derive(seed, "embed", turn))
        votes = _ask(voters, features, n_classes, entry, noise)
        kept = select(votes, options, entry.sigma, derive(seed, "select", turn))
        made = Generation(prompts, votes, kept, features.float().cpu())
        if part:
            part.save(fingerprint, _plain(made))
        done.append(made)
    return done


def select(votes: Counts, options: EvolutionOptions, sigma: float, seed: int) -> Counts:
    """Return the places of the candidates that each class keeps, int64 (classes, population), the best first.

    Args:
        votes: noisy, (classes, candidates).
        options: how.
        sigma: standard deviation of the noise.
        seed: of sampling.

    >>> few = EvolutionOptions(population=2, variations=1)
    >>> select(np.array([[3, 9, -1, 5]]), few, sigma=1.0, seed=0).tolist()
    [[1, 3]]
    """
    if options.selection == "rank":
        return np.argsort(-votes, axis=1, kind="stable")[:, : options.population]
    draw = np.random.default_rng(seed)
    kept = []
    for own in votes:
        # PE, algorithm 2: h' = max(h - H, 0); parents in proportion to h'.
        weights = np.maximum(own - options.threshold * sigma, 0.0)
        total = weights.sum()
        shares = weights / total if total else np.full(len(own), 1 / len(own))
        drawn = draw.choice(len(own), options.population, p=shares)
        kept.append(drawn[np.argsort(-own[drawn], kind="stable")])
    return np.array(kept, np.int64)


def _ask(voters: Voters, features: "Tensor", n_classes: int, entry: Entry, noise: Noise) -> Counts:
    """Return the noisy votes for the candidates at these features, (classes, candidates of a class)."""
    from tckr.dp.voting import nearest_of_class

    found = nearest_of_class(
        voters.features, voters.labels, features.to(voters.features), n_classes
    )
    return noisy_votes(found, len(features), entry, noise, voters.owners).reshape(n_classes, -1)


def _first(
    n_classes: int, api: Api, options: EvolutionOptions, seed: int
) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(api.random(label, options.candidates, derive(seed, "random", label)))
        for label in range(n_classes)
    )


def _offspring(
    before: Generation, api: Api, options: EvolutionOptions, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Return what is kept and its variations."""
    parents = before.selected
    asked = [
        (label, prompt)
        for label, own in enumerate(parents)
        for _ in range(options.variations)
        for prompt in own
    ]
    varied = api.vary([prompt for _, prompt in asked], [label for label, _ in asked], seed)
    each = options.population * options.variations
    return tuple(
        (*own, *varied[label * each : (label + 1) * each]) for label, own in enumerate(parents)
    )


def _plain(generation: Generation) -> dict[str, Any]:
    """Return a generation as a checkpoint keeps it."""
    import torch

    return {
        "prompts": [list(own) for own in generation.prompts],
        "votes": torch.from_numpy(generation.votes),
        "kept": torch.from_numpy(generation.kept),
        "features": generation.features,
    }


def _restored(plain: Mapping[str, Any]) -> Generation:
    # Written of what noisy votes had selected, and paid for: a source of text may see it again.
    for own in plain["prompts"]:
        release(own, "charged")
    return Generation(
        tuple(tuple(own) for own in plain["prompts"]),
        plain["votes"].numpy(),
        plain["kept"].numpy(),
        plain["features"],
    )
