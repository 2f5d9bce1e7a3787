"""SPTI, privacy through text (NeurIPS 2025, arXiv 2506.07555): prompts evolve, and private images vote for their renderings.

Nothing is trained on private images but the teacher. A source of text writes prompts of each class, an off-the-shelf generator
renders them, every private image votes for the rendering nearest to it, the votes get noise, and the prompts with most votes
are kept and varied (`tckr.dp.evolution`). What leaves the private set is a noisy histogram an iteration; the release is drawn
from the last prompts, any number of images of each. As published the labels are the classes of the prompts (share 0 of the
teacher, `student_training.labels: hard`); labels of a teacher under differential privacy are ours.

With `voting.by: captions` captions of the private images vote in a text encoder's space instead, and nothing is rendered on the
way. With `voting.per: owner` all images of a person have one vote together, and the ledger declares another sensitivity
(`tckr.dp.voting.ballots`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from tckr.diffusion.options import RendererOptions
from tckr.dp import EvolutionOptions, check_votes, votes_plan
from tckr.dp.evolution import Voter
from tckr.dp.ledger import Ledger
from tckr.engine.content import source_state
from tckr.engine.places import place
from tckr.engine.released import release
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import ModelSource, Options
from tckr.synthesizers.base import Step
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.text_to_image import DrawingOptions, Source
from tckr.synthesizers.under_dp import (
    PLAN_BUDGET,
    TRAIN_TEACHER,
    Charged,
    PrivacyOptions,
    UnderDP,
    close_ledger_of,
    spent,
)
from tckr.text.options import CaptionOptions
from tckr.text.sources.options import TextSourceOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.dp.evolution import Generation
    from tckr.synthesizers.prompt_space import PromptSpace

VOTES = "votes"  # its name in the ledger
FEATURE = "f"  # before the numbers of the columns of `member_features`


class SptiBudget(PrivacyOptions):
    """The total and how it is shared out: shares are of mu^2 and count relative to one another.

    None was chosen by private images. A tenth leaves the teacher 95 % of its mu, and lets 3,000 images at epsilon 10 tell
    some hundred candidates apart, which is what `tckr.dp.check_votes` asks for.
    """

    votes: float = Field(0.1, gt=0, description="share of the votes, all iterations together")
    teacher: float = Field(
        0.9,
        ge=0,
        description="share of the teacher of soft labels; 0: as published, the class of the prompt is the label",
    )
    research: bool = Field(
        False,
        description="measure the true distance to the private images in every iteration: nothing pays for that, so that what"
        " the run makes is not private and is not released",
    )


class VotingOptions(Options):
    """Who votes, in which space."""

    by: Literal["images", "captions"] = Field(
        "images",
        description="images: for the nearest rendering, as SPTI; captions of private images: for the nearest prompt",
    )
    per: Voter = Field(
        "image",
        description="who has one vote: an image, sensitivity 1; or an owner with all of his images (needs ingestion.group_column"
        " or another way to name groups), sensitivity sqrt(2) for one image and 1 for the owner",
    )
    features: Literal["clip", "scattering"] = Field(
        "clip",
        description="of images: a CLIP's embedding, or the scattering transform, which has no weights; captions: a CLIP's",
    )
    encoder: Annotated[str, ModelSource("encoder")] = Field(
        description="folder of a CLIP that saw no private image"
    )
    renderings: int = Field(
        1, ge=1, le=16, description="images of a prompt, the mean of whose features it is judged by"
    )
    checkpoints: str | None = Field(
        None,
        description="folder in which answers that were paid for are kept, to go on from there; null: they are lost",
    )


class SptiDrawingOptions(DrawingOptions):
    """How prompts are rendered and the synthetic set is made."""

    generator: Annotated[str, ModelSource("generator")] = Field(
        description="folder or hub id of a diffusers text-to-image pipeline, never adapted"
    )
    resolution: int | None = Field(
        None, ge=8, description="side at which it is sampled, pixels; null: its own"
    )
    renderer: RendererOptions = RendererOptions()

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"synthetic images, {self.cardinality:g} x the members, from prompts that private images voted for"


class Spti(UnderDP):
    """Embed, evolve, teach, all under one ledger."""

    steps: ClassVar[tuple[Step, ...]] = (
        PLAN_BUDGET,
        Step("embed_members", ("member_features",), per_image=True, reads=()),
        Step(
            "evolve_prompts",
            ("population", "generations", "vote_distances", "votes_charge"),
            charges=VOTES,
            reads=("budget", "member_features"),
        ),
        TRAIN_TEACHER,
        close_ledger_of("votes_charge", "teacher_charge"),
    )
    channels: ClassVar[tuple[str, ...]] = ("prompts",)
    by_products: ClassVar[tuple[str, ...]] = (
        *("budget", "member_features", "generations", "vote_distances", "votes_charge"),
        *("teacher", "teacher_recipe", "teacher_charge", "ledger"),
    )

    privacy: SptiBudget
    text: TextSourceOptions
    evolution: EvolutionOptions
    voting: VotingOptions
    captioning: CaptionOptions
    knowledge_recycling: SptiDrawingOptions

    def source(self) -> Source:
        """Return the generator as it was downloaded."""
        options = self.knowledge_recycling
        return Source(options.generator, options.resolution)

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """There is no adapter."""
        return False

    def mechanisms(self, facts: PublicFacts) -> Sequence[Charged]:
        """Plan the votes of all iterations as one, and the teacher."""
        share = self.privacy
        return [
            Charged(votes_plan(self.evolution.iterations, share.votes, VOTES, self.voting.per)),
            self.teacher_mechanism(facts, share.teacher),
        ]

    def public(self) -> Mapping[str, str]:
        """Say what is taken from no private image."""
        told = {"source of text, encoder of images and texts": "never saw a private image"}
        if self.voting.per == "owner":
            told["number of owners of members"] = "stated with the number of members"
        return {**super().public(), **told}

    def absent(self) -> Mapping[str, str]:
        """Say what is not taken at all."""
        told = (
            "they vote, and nothing else reads them" if self.voting.by == "captions" else "not made"
        )
        return {**super().absent(), "captions of members": told}

    def caution(self) -> str | None:
        """Say so if the noise comes from a seed, or the true distance was measured."""
        if not self.privacy.research:
            return super().caution()
        return (
            "The true distance to the private images was measured (privacy.research), which nothing pays for: a study, not"
            " private."
        )

    def plan_budget(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Ledger]:
        """Calibrate the noise of every mechanism, and compare the votes with theirs before the first private image votes.

        Raises:
            UserError: owners are to vote and nothing says whose the images are; or the budget is out of range, or leaves the
                votes or the teacher more noise than signal.
        """
        owners = self._owners(private)
        (ledger,) = super().plan_budget(private, artefacts, seed, device)
        candidates = self.evolution.candidates * len(private.class_names)
        voters = ledger.n if owners is None else len(set(owners.tolist()))
        check_votes(ledger[VOTES], voters, candidates, ledger.delta, self.voting.per)
        if self.privacy.research:
            why = "to study how the evolution works, on images that need no protection"
            ledger.declare("true distance to the private images", "uncharged", why)
        return (ledger,)

    def embed_members(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[pd.DataFrame]:
        """Compute what each private image votes with, of each by itself: its features, or those of its caption.

        Returns:
            One row an image, a column a feature.

        Raises:
            UserError: owners are to vote, and nothing says whose the images are.
        """
        self._owners(private)
        space = self._space(private.facts, device)
        if self.voting.by == "captions":
            from tckr.synthesizers.tckr import TCKR

            arm = TCKR.partly(captioning=self.captioning)
            (table,) = arm.caption_members(private, {}, seed, device)
            rows = space.texts(table["caption"].tolist())
        else:
            rows = space.pictures([private.images])
        columns = [f"{FEATURE}{i}" for i in range(rows.shape[1])]
        return (pd.DataFrame(rows.cpu().numpy(), columns=columns),)

    def evolve_prompts(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
        """Evolve the prompts of each class by the noisy votes of its private images.

        Returns:
            The prompts that were kept last (`label`, `class_name`, `prompt`, `votes`); every candidate of every iteration
            (with `iteration`, and `rank`, -1 for one that was not kept); the distance of each population to the private set
            (`iteration`, 0 for the random prompts, and `distance`; see `tckr.dp.distance`); and the spent entry.
        """
        import torch

        from tckr.dp.distance import true_distances, vote_distances
        from tckr.dp.evolution import Voters, evolve
        from tckr.engine.checkpoint import Checkpoints, data_identity
        from tckr.engine.content import content_hash
        from tckr.engine.once_saved import once_saved

        table = artefacts["member_features"]
        columns = [name for name in table if name.startswith(FEATURE) and name[1:].isdigit()]
        features = torch.from_numpy(table[columns].to_numpy("float32", copy=True))
        entry, noise = self.charge(artefacts, VOTES, private)
        space = self._space(private.facts, device)
        owners = self._owners(private)
        voted = [features, private.labels, *([] if owners is None else [torch.from_numpy(owners)])]
        identity = data_identity(self._recipe(private.facts), *voted)
        unfinished = None
        if self.voting.checkpoints:
            work = content_hash(identity, self.evolution.model_dump(), entry.noise_multiplier, seed)
            unfinished = Checkpoints(place(self.voting.checkpoints) / work)
        voters = Voters(features.to(device), private.labels, owners)
        generations = evolve(
            voters,
            len(private.class_names),
            space,
            self.evolution,
            entry,
            noise,
            derive(seed, "evolution"),
            checkpoints=unfinished,
            identity=identity,
        )
        if unfinished:
            once_saved(unfinished.remove)
        distances = {"distance": vote_distances(generations, entry.sigma)}
        if self.privacy.research:
            distances["true_distance"] = true_distances(voters, generations)
        by_iteration = pd.DataFrame({"iteration": range(len(generations) + 1), **distances})
        return (
            population_table(generations[-1], private.class_names),
            candidate_table(generations, private.class_names),
            by_iteration,
            spent(entry),
        )

    def plan_prompts(
        self,
        fitted: Fitted,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Use the prompts that were kept last of each class equally often."""
        from tckr.diffusion.sampling import balanced_prompts

        if "prompts" in closed:
            return super().plan_prompts(fitted, count, seed, nested=nested)
        kept = fitted.artefacts["population"]
        chosen = balanced_prompts(
            kept["prompt"].tolist(), kept["label"].tolist(), count, derive(seed, "prompts"), nested
        )
        return chosen

    def render(
        self, facts: PublicFacts, prompts: Sequence[str], seed: int, device: str
    ) -> "Iterator[Tensor]":
        """Yield an image of each prompt that was voted for, in batches uint8 (B, C, H, W)."""
        yield from self._space(facts, device).rendered(release(prompts, "charged"), seed)

    def draw_from(
        self,
        start: int,
        fitted: Fitted,
        prompts: Sequence[str],
        seed: int,
        *,
        closed: Collection[str] = (),
    ) -> "Iterator[Tensor]":
        """Draw the images from number `start` on, with the generator or the endpoint that drew the candidates."""
        from tckr.diffusion.renderers import RemoteRenderer

        options = self.knowledge_recycling.renderer
        if options.kind == "pipeline":
            return super().draw_from(start, fitted, prompts, seed, closed=closed)
        channels, height, width = fitted.shape
        drawer = RemoteRenderer(options)
        noise = derive(seed, "sampling")
        # The prompts are the population, or names of classes.
        return drawer.render(release(prompts, "charged"), (height, width), channels, noise, start)

    def drawing(self) -> dict[str, Any]:
        """Name who draws, and how."""
        renderer = self.knowledge_recycling.renderer
        return renderer.recipe() if renderer.kind == "openai" else super().drawing()

    def count_cut(self, prompts: Sequence[str]) -> int:
        """Return how many prompts the generator does not read to their ends; of an endpoint nobody knows."""
        remote = self.knowledge_recycling.renderer.kind == "openai"
        return 0 if remote else super().count_cut(prompts)

    def _owners(self, private: PrivateSet) -> "NDArray[np.int64] | None":
        """Return whose each image is, int64 (N,), if owners vote; None if images do."""
        if self.voting.per == "image":
            return None
        if private.owners is None:
            raise UserError(
                "spti.voting.per is owner, and nothing says whose the private images are.",
                "name the column that does with ingestion.group_column (or a level of ingestion.folders, or group_pattern), or set"
                " spti.voting.per to image.",
            )
        return private.owners

    def _space(self, facts: PublicFacts, device: str) -> "PromptSpace":
        from tckr.synthesizers.prompt_space import PromptSpace

        return PromptSpace(self, facts, device)

    def _recipe(self, facts: PublicFacts) -> list[Any]:
        """Return what decides the candidates and the space in which they are voted for; who votes is of the data."""
        return [
            self.text.recipe(),
            self.voting.model_dump(mode="json", exclude={"checkpoints", "per"}),
            self.drawing(),
            *(source_state(each) for each in (self.text.model or "", self.voting.encoder)),
            list(facts.class_names),
            list(facts.shape),
        ]


def population_table(last: "Generation", class_names: Sequence[str]) -> pd.DataFrame:
    """Return the prompts that were kept of each class: label, class_name, prompt, votes with noise; the best first."""
    rows = [
        (label, name, last.prompts[label][place], int(last.votes[label, place]))
        for label, name in enumerate(class_names)
        for place in last.kept[label].tolist()
    ]
    return pd.DataFrame(rows, columns=["label", "class_name", "prompt", "votes"])


def candidate_table(
    generations: "Sequence[Generation]", class_names: Sequence[str]
) -> pd.DataFrame:
    """Return every candidate: iteration (from 1), label, class_name, prompt, votes with noise, rank (-1: not kept)."""
    rows = []
    for turn, made in enumerate(generations, 1):
        for label, name in enumerate(class_names):
            ranks = {int(place): rank for rank, place in reversed([*enumerate(made.kept[label])])}
            rows += [
                (turn, label, name, prompt, int(made.votes[label, place]), ranks.get(place, -1))
                for place, prompt in enumerate(made.prompts[label])
            ]
    columns = ["iteration", "label", "class_name", "prompt", "votes", "rank"]
    return pd.DataFrame(rows, columns=columns)
