"""Private recycling: a teacher under differential privacy labels images that no private image shaped.

What it says of them is post-processing, and so is the student. The captioner speaks of every member, and a noisy histogram
of its words is all that is used of that; prompts are drawn from it. The generator stays as it was downloaded (share 0), or is
adapted under differential privacy too, the own caption of each image inside its clipped gradient.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from pydantic import Field

from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.engine.seeds import derive
from tckr.synthesizers.base import Step
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.tckr import TCKR
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
from tckr.text.options import CaptionOptions, WordsOptions

if TYPE_CHECKING:
    from tckr.diffusion.update import Adaptation

WORDS = "words"  # its name in the ledger


class PrivateBudget(PrivacyOptions):
    """The total and how it is shared out: shares are of mu^2 and count relative to one another.

    None of the shares was chosen by private images. Words need little: a count of hundreds stands out of noise of some tens.
    The adaptation has none by default, since some thousand images do not outweigh the noise on 100,000 weights
    (`tckr.dp.check_signal`); what is left makes the teacher better, and the labels are what the student learns.
    """

    words: float = Field(
        0.05, ge=0, description="share of the words of the prompts; 0: class names alone"
    )
    adaptation: float = Field(0.0, ge=0, description="share of the generator's adaptation; 0: none")
    teacher: float = Field(0.95, gt=0, description="share of the teacher")


class PrivateDrawingOptions(DrawingOptions):
    """How the synthetic set is made."""

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"{self.amount()}, prompted with words from a noisy histogram"


class Private(UnderDP):
    """Count words, adapt if asked, teach, all under one ledger."""

    steps: ClassVar[tuple[Step, ...]] = (
        PLAN_BUDGET,
        Step("caption_members", ("captions",), per_image=True, reads=()),
        Step(
            "count_words",
            ("word_counts", "words_charge"),
            charges=WORDS,
            reads=("budget", "captions"),
        ),
        Step(
            "adapt_privately",
            ("adapter", "adaptation_charge"),
            charges=ADAPTATION,
            reads=("budget", "captions"),
        ),
        TRAIN_TEACHER,
        close_ledger_of("words_charge", "adaptation_charge", "teacher_charge"),
    )
    channels: ClassVar[tuple[str, ...]] = ("adapter", "words")
    threats: ClassVar[tuple[str, ...]] = ("generator", "images")
    by_products: ClassVar[tuple[str, ...]] = (
        *("budget", "captions", "words_charge", "adaptation_charge"),
        *("teacher", "teacher_recipe", "teacher_charge", "ledger"),
    )

    privacy: PrivateBudget
    captioning: CaptionOptions
    words: WordsOptions
    generator_adaptation: DPAdaptationOptions
    knowledge_recycling: PrivateDrawingOptions

    @property
    def open_threats(self) -> tuple[str, ...]:
        """The threats that there are with these options: without a share the adapter changes nothing."""
        return self.threats if self.privacy.adaptation else ("images",)

    def mechanisms(self, facts: PublicFacts) -> Sequence[Charged]:
        """Plan the words, the adaptation and the teacher."""
        from tckr.text.vocabulary import vocabulary
        from tckr.text.words import words_plan

        share = self.privacy
        charged = [
            # Every vocabulary of these options has the same sensitivity.
            Charged(words_plan(vocabulary(self.words, 0.0, 1.0), share.words, WORDS)),
            self.teacher_mechanism(facts, share.teacher),
        ]
        if share.adaptation:
            from tckr.diffusion.dp_lora import adaptation_plan, adaptation_size

            size = adaptation_size(self.generator_adaptation)
            plan = adaptation_plan(self.generator_adaptation, share.adaptation, ADAPTATION)
            charged.insert(1, Charged(plan, size))
        return charged

    def public(self) -> Mapping[str, str]:
        """Say what is taken from no private image."""
        return {
            **super().public(),
            "captioner": "never saw a private image",
            "cells of the words": "the captioner's grammar, or captions of public images",
        }

    def absent(self) -> Mapping[str, str]:
        """Say what is not taken at all."""
        told = "read by the histogram and inside clipped gradients alone"
        return {**super().absent(), "captions of members": told}

    def caption_members(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[pd.DataFrame]:
        """Describe each image in one sentence; see `TCKR.caption_members`."""
        return TCKR.partly(captioning=self.captioning).caption_members(private, {}, seed, device)

    def count_words(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Count the words of each class's captions, with noise.

        Returns:
            Tensors `counts` int64 (classes, cells) and `sigma` float64 () of their noise, and the spent entry.

        Raises:
            UserError: the noise is louder than a class.
        """
        import torch

        from tckr.text.vocabulary import vocabulary
        from tckr.text.words import check_classes, count_words

        if not self.privacy.words:
            return {"counts": torch.zeros(0, 0, dtype=torch.int64), "sigma": torch.zeros(1)}, {}
        entry, noise = self.charge(artefacts, WORDS, private)
        captions, names = artefacts["captions"]["caption"].tolist(), private.class_names
        # Chosen by public numbers alone: members, classes, and the noise that was planned.
        cells = vocabulary(self.words, artefacts["budget"].n / len(names), entry.sigma)
        found = count_words(captions, private.labels.tolist(), len(names), cells, entry, noise)
        check_classes(found, names)
        counted = {
            "counts": torch.from_numpy(found.counts),
            "sigma": torch.tensor([found.sigma], dtype=torch.float64),
        }
        return counted, spent(entry)

    def adapt_privately(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> "tuple[Adaptation, dict[str, Any]]":
        """Fine-tune the denoiser by DP-SGD; with share 0 the adapter changes nothing, and no image is read."""
        from tckr.diffusion.dp_lora import untouched
        from tckr.diffusion.pipeline import load

        options = self.generator_adaptation
        pipeline = load(options.generator, device, options.resolution)
        if not self.privacy.adaptation:
            return untouched(pipeline, options), {}
        prompts = self.prompts_of(private, artefacts)
        return self.adapt_denoiser(pipeline, private, prompts, artefacts, seed)

    def prompts_of(self, private: PrivateSet, artefacts: Mapping[str, Any]) -> list[str]:
        """Return the caption of each image, its class before it."""
        prompts: list[str] = artefacts["captions"]["prompt"].tolist()
        return prompts

    def plan_prompts(
        self,
        fitted: Fitted,
        count: int,
        seed: int,
        *,
        nested: bool = False,
        closed: Collection[str] = (),
    ) -> pd.DataFrame:
        """Draw words of each class from the noisy histogram; every prefix is balanced over the classes."""
        from tckr.text.vocabulary import vocabulary_of
        from tckr.text.words import WordHistogram, draw_prompts

        if not self.privacy.words or "words" in closed:
            return super().plan_prompts(fitted, count, seed, nested=nested)
        names, found = fitted.class_names, fitted.artefacts["word_counts"]
        counts, sigma = found["counts"].numpy(), float(found["sigma"])
        histogram = WordHistogram(counts, sigma, vocabulary_of(self.words, counts.shape[1]))
        return draw_prompts(histogram, names, count, derive(seed, "prompts"))

    def adapted(self, closed: Collection[str] = ()) -> bool:
        """Whether the adapter is merged in: there is none without a share."""
        return self.privacy.adaptation > 0 and super().adapted(closed)
