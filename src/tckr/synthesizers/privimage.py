"""PrivImage (Li et al., USENIX Security 2024, arXiv 2311.12850): ask privately which public images the private ones resemble.

A classifier of a public pool's categories says which of them each class resembles most, by one noisy histogram; a generator
is pre-trained on public images of those under the private labels; DP-SGD with several noise levels an image fits it to the
private ones. All of it, and the teacher of the labels, is under one ledger. As published the labels are the classes of the
prompts (share 0 of the teacher, `student_training.labels: hard`); labels of a teacher under differential privacy are ours.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from pydantic import Field

from tckr.classifiers.options import ClassifierOptions
from tckr.diffusion.options import AdaptationOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import Options
from tckr.synthesizers.base import Step
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.text_to_image import DrawingOptions
from tckr.synthesizers.under_dp import (
    ADAPTATION,
    PLAN_BUDGET,
    TRAIN_TEACHER,
    Charged,
    PrivacyOptions,
    UnderDP,
    close_ledger_of,
    spent,
)

if TYPE_CHECKING:
    from PIL import Image

    from tckr.diffusion.adapter import Adapter
    from tckr.diffusion.update import Adaptation
    from tckr.images.pool import PublicPool

QUERY = "query"  # its name in the ledger


class PrivImageBudget(PrivacyOptions):
    """The total and how it is shared out: shares are of mu^2 and count relative to one another.

    None was chosen by private images. The published query takes a ten thousandth of 50,000 images' budget; with some
    thousand the same count needs more of it to stand out, and 2 % costs the rest one hundredth of its mu.
    """

    query: float = Field(0.02, gt=0, description="share of the semantic query")
    adaptation: float = Field(0.49, gt=0, description="share of the generator's adaptation")
    teacher: float = Field(
        0.49,
        ge=0,
        description="share of the teacher of soft labels; 0: as published, the class of the prompt is the label",
    )


class SemanticQueryOptions(Options):
    """Which public images there are, and how many categories a class may name.

    k = 2 of the shipped pool's 181 categories for each of 10 classes is a ninth of it; published are 5 to 20 % of a
    pool of 1,000 (RPGen, AAAI 2026). The sensitivity is sqrt(k), so a small k is also the cheap one.
    """

    pool: str = Field(
        description="public labelled images: a folder per category, Parquet or whatever ingestion reads"
    )
    k: int = Field(2, ge=1, description="categories that an image names, and that a class gets")
    classifier: ClassifierOptions = Field(
        ClassifierOptions(), description="recipe of the classifier of categories"
    )


class PrivImageDrawingOptions(DrawingOptions):
    """How the synthetic set is made."""

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"{self.amount()}, prompted with class names"


class PrivImage(UnderDP):
    """Query, choose, pre-train, adapt, teach, all under one ledger.

    Of the adaptation, by default: two noise levels an image and Poisson batches of 10 to 15 % are the published recipe
    (8 to 32 levels, 8 to 39 %) at the cost of two cores; the clipping norm of 0.001 is the published one. Its updates are of
    low rank, because the noise grows with the number of weights (arXiv 2110.05679); published is the whole denoiser. Steps times
    learning rate, which is how far Adam can travel, is that of 100 steps of `DPAdaptationOptions`. No private image chose any of it.
    """

    steps: ClassVar[tuple[Step, ...]] = (
        PLAN_BUDGET,
        Step("train_query", ("query",), private=False, reads=()),
        Step(
            "query_semantics",
            ("semantics", "query_charge"),
            charges=QUERY,
            reads=("budget", "query"),
        ),
        Step("choose_pool", ("chosen",), private=False, reads=("semantics",)),
        Step(
            "pretrain_generator",
            ("pretrained", "pretraining_losses"),
            private=False,
            reads=("chosen",),
        ),
        Step(
            "adapt_privately",
            ("adapter", "adaptation_charge"),
            charges=ADAPTATION,
            reads=("budget", "pretrained"),
        ),
        TRAIN_TEACHER,
        close_ledger_of("query_charge", "adaptation_charge", "teacher_charge"),
        Step("draw_choice", ("chosen_sheet",), private=False, reads=("chosen",)),
    )
    channels: ClassVar[tuple[str, ...]] = ("adapter",)
    threats: ClassVar[tuple[str, ...]] = ("generator", "images")
    public_updates: ClassVar[tuple[str, ...]] = ("pretrained",)
    by_products: ClassVar[tuple[str, ...]] = (
        *("budget", "query", "semantics", "query_charge", "chosen", "chosen_sheet"),
        *("pretraining_losses", "adaptation_charge", "teacher", "teacher_recipe", "teacher_charge"),
        "ledger",
    )

    privacy: PrivImageBudget
    semantic_query: SemanticQueryOptions
    pretraining: AdaptationOptions
    generator_adaptation: DPAdaptationOptions
    knowledge_recycling: PrivImageDrawingOptions

    def mechanisms(self, facts: PublicFacts) -> Sequence[Charged]:
        """Plan the query, the adaptation and the teacher."""
        from tckr.classifiers.query import query_plan
        from tckr.diffusion.dp_lora import adaptation_plan, adaptation_size

        share, options = self.privacy, self.generator_adaptation
        return [
            Charged(query_plan(self.semantic_query.k, share.query, QUERY)),
            Charged(
                adaptation_plan(options, share.adaptation, ADAPTATION), adaptation_size(options)
            ),
            self.teacher_mechanism(facts, share.teacher),
        ]

    def public(self) -> Mapping[str, str]:
        """Say what is taken from no private image."""
        told = "never saw a private image"
        return {**super().public(), "public pool, classifier of its categories": told}

    def absent(self) -> Mapping[str, str]:
        """Say what is not taken at all."""
        return {**super().absent(), "captions": "prompts are the names of the classes"}

    def train_query(
        self, facts: PublicFacts, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Any]:
        """Train the classifier of public categories, at the size and colour of the private images.

        Raises:
            UserError: the pool has too few categories.
        """
        from tckr.classifiers.names import named
        from tckr.classifiers.query import check_enough, train_query

        pool, options = self._pool(facts), self.semantic_query.classifier
        check_enough(len(pool.categories), len(facts.class_names), self.semantic_query.k)
        network = train_query(pool, options, derive(seed, "semantic_query"), device)
        return (named(network, pool.categories),)

    def query_semantics(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Count, with noise, the k categories that each private image resembles most.

        Returns:
            Tensors `counts` int64 (classes, categories) and `sigma` float64 (1,) of their noise, and the spent entry.
        """
        import torch

        from tckr.classifiers.query import query_histogram

        network, n_classes = artefacts["query"].to(device), len(private.class_names)
        entry, noise = self.charge(artefacts, QUERY, private)
        counts = query_histogram(
            network, private.images, private.labels, n_classes, network.n_classes, entry, noise
        )
        network.to("cpu")
        sigma = torch.tensor([entry.sigma], dtype=torch.float64)
        return {"counts": torch.from_numpy(counts), "sigma": sigma}, spent(entry)

    def choose_pool(
        self, facts: PublicFacts, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[pd.DataFrame]:
        """Give each class the k categories with the largest noisy counts that no class before it took.

        Returns:
            `label`, `class_name`, `category`, `noisy_count`, one row per chosen category.
        """
        from tckr.classifiers.query import choice_table, choose

        counts = artefacts["semantics"]["counts"].numpy()
        chosen = choose(counts, self.semantic_query.k)
        return (choice_table(chosen, counts, facts.class_names, self._pool(facts).categories),)

    def draw_choice(
        self, facts: PublicFacts, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> "tuple[Image.Image]":
        """Draw public images of the categories that each class chose, with their noisy counts."""
        from tckr.classifiers.query import choice_sheet

        return (choice_sheet(self._pool(facts), artefacts["chosen"]),)

    def pretrain_generator(
        self, facts: PublicFacts, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> "tuple[Adapter, pd.DataFrame]":
        """Fine-tune the denoiser (LoRA) on the chosen public images under the private class names.

        Returns:
            The adapter, and the loss by step (`step`, `loss`).
        """
        from tckr.classifiers.query import chosen_images
        from tckr.diffusion.lora import adapt
        from tckr.diffusion.pipeline import load

        options = self.pretraining
        if options.snapshots > 1 or options.snapshot is not None:
            raise UserError(
                "privimage keeps one pre-trained generator: choosing among snapshots would take private images.",
                "leave out privimage.pretraining.snapshots and snapshot.",
            )
        images, labels = chosen_images(self._pool(facts), artefacts["chosen"])
        names = [facts.class_names[label] for label in labels.tolist()]
        pipeline = load(options.generator, device, options.resolution)
        return adapt(pipeline, images, names, names, options, derive(seed, "pretraining"))

    def adapt_privately(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> "tuple[Adaptation, dict[str, Any]]":
        """Fine-tune the pre-trained denoiser by DP-SGD on the private images, prompted with their class names."""
        from tckr.diffusion.pipeline import load

        options, pretrained = self.generator_adaptation, artefacts["pretrained"]
        pipeline = pretrained.apply(load(options.generator, device, options.resolution))
        prompts = self.prompts_of(private, artefacts)
        return self.adapt_denoiser(pipeline, private, prompts, artefacts, seed, pretrained)

    def _pool(self, facts: PublicFacts) -> "PublicPool":
        from tckr.images.pool import read_pool

        channels, height, _ = facts.shape
        return read_pool(self.semantic_query.pool, height, channels)
