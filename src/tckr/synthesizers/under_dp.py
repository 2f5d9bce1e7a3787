"""What arms under differential privacy share: a budget planned before anything is read, a private teacher, a ledger.

The steps of such an arm begin with `plan_budget`, which plans every mechanism, and end with `close_ledger`. Each step that
reads private images names the mechanism that pays for it (`Step.charges`), asks `charge` for its entry, and returns the
spent entry beside what it made. A step without `charges` sees private images only to say something of each alone
(`per_image`), which only a charged step may read.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from tckr.classifiers.options import ClassifierOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.dp import Entry, Ledger, Noise, Plan, check_signal, delta_default
from tckr.engine.places import place
from tckr.engine.rows import PART
from tckr.engine.seeds import derive
from tckr.errors import UserError
from tckr.options import Options
from tckr.synthesizers.base import Step
from tckr.synthesizers.private_set import PrivateSet, PublicFacts
from tckr.synthesizers.text_to_image import TextToImage

if TYPE_CHECKING:
    from tckr.diffusion.private_options import DPAdaptationOptions
    from tckr.diffusion.update import Adaptation

ADAPTATION = "generator adaptation"  # its name in the ledger
PLAN_BUDGET = Step("plan_budget", ("budget",), reads=())
TRAIN_TEACHER = Step(
    "train_teacher",
    ("teacher", "teacher_recipe", "teacher_charge"),
    charges="teacher",
    reads=("budget",),
)
CLOSE_LEDGER = Step("close_ledger", ("ledger",), private=False)


def close_ledger_of(*charges: str) -> Step:
    """Return the step that closes the ledger with these spent entries, by the names of their artefacts."""
    return CLOSE_LEDGER._replace(reads=("budget", *charges))


class PrivacyOptions(Options):
    """The budget of everything together."""

    epsilon: float = Field(10.0, gt=0, allow_inf_nan=False, description="total of all mechanisms")
    delta: float | None = Field(
        None, gt=0, lt=1, description="total of all mechanisms; null: 1 / (N ln N)"
    )
    noise_seed: int | None = Field(
        None,
        ge=0,
        description="tests only: noise that anybody can compute again; what it made protects nobody and is not released",
    )
    teacher: float = Field(1.0, ge=0, description="share of the teacher; 0: none")

    def describe(self) -> str:
        """Say in a few words what is promised."""
        return f"differential privacy, epsilon {self.epsilon:g} in all"


class Charged(NamedTuple):
    """A mechanism to plan, and how many numbers its noise falls on, where a sum of vectors could drown in it."""

    plan: Plan
    dimension: int | None = None


class UnderDP(TextToImage):
    """An arm whose images, labels, teacher and student are under one ledger."""

    own_teacher: ClassVar[tuple[str, ...]] = ("plan_budget", "train_teacher")

    privacy: PrivacyOptions
    private_teacher: PrivateTeacherOptions
    classifier: ClassifierOptions

    @abstractmethod
    def mechanisms(self, facts: PublicFacts) -> Sequence[Charged]:
        """Return everything that will read private images, each with its share of the budget; share 0 leaves it out."""

    def public(self) -> Mapping[str, str]:
        """Return what is taken from no private image, and why it need not be."""
        return {
            "number of members, names of the classes, size of the images": "stated by the owner",
            "normalisation": "constants",
            "generator, features of the teacher": "never saw a private image",
            "hyper-parameters and number of steps": "fixed by theory, papers and public images, whatever the private ones are",
        }

    def absent(self) -> Mapping[str, str]:
        """Return what others take from private images and this arm does not, and why it can do without."""
        return {
            "class counts": "the set is balanced over the named classes",
            "validation images, early stopping, choice of a checkpoint": "nothing is chosen by them",
        }

    def caution(self) -> str | None:
        """Say so if the noise comes from a seed."""
        if self.privacy.noise_seed is None:
            return None
        return "The noise came from a seed (privacy.noise_seed), with which anybody can take it away: a test, not private."

    def plan_budget(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Ledger]:
        """Calibrate the noise of every mechanism, before the first one runs; of the images, only their hash is taken.

        Raises:
            UserError: the budget is out of range, or leaves a mechanism more noise than signal.
        """
        facts = PublicFacts(len(private.labels), private.class_names, private.images.shape[1:])
        n = facts.n_members
        delta = self.privacy.delta or delta_default(n)
        ledger = Ledger(self.privacy.epsilon, delta, n, data_hash(private))
        charged = [each for each in self.mechanisms(facts) if each.plan.share > 0]
        ledger.plan([each.plan for each in charged])
        for plan, dimension in charged:
            if dimension is not None:
                check_signal(ledger[plan.name], n, dimension, delta)
        mixed = [each.name for each in self.knowledge_recycling.mixture]  # none is fitted: `check`
        further = {f"generator of {name}": "never saw a private image" for name in mixed}
        for how, declared in (("public", {**self.public(), **further}), ("absent", self.absent())):
            for what, why in declared.items():
                ledger.declare(what, how, why)  # type: ignore[arg-type]
        return (ledger,)

    def charge(
        self, artefacts: Mapping[str, Any], name: str, private: PrivateSet
    ) -> tuple[Entry, Noise]:
        """Spend a planned mechanism, just before it reads the private images; return its entry and source of noise.

        Raises:
            UserError: it is not planned, was spent already, or the images are not those of the ledger.
        """
        budget: Ledger = artefacts["budget"]
        found = data_hash(private)
        if budget.data_hash != found:
            raise UserError(
                f"The budget was planned for other private images ({budget.data_hash[:8]}) than '{name}' would read"
                f" ({found[:8]}).",
                "run the arm from its start: a ledger is of one private set.",
            )
        noise = Noise(self.privacy.noise_seed)
        return budget.spend(name, noise), noise

    def adapt_denoiser(
        self,
        pipeline: Any,
        private: PrivateSet,
        prompts: Sequence[str],
        artefacts: Mapping[str, Any],
        seed: int,
        start: Any = None,
    ) -> "tuple[Adaptation, dict[str, Any]]":
        """Fine-tune a generator's denoiser by DP-SGD, from where it stands; unfinished work is found again and goes on.

        Args:
            pipeline: the generator.
            private: images to adapt to.
            prompts: of each image, which may tell of that image alone.
            artefacts: with the budget.
            seed: of the run.
            start: the adapter that is merged into the pipeline already, if any.

        Returns:
            The adapter, and the spent entry.
        """
        from tckr.diffusion.dp_lora import adapt_privately, adaptation_fingerprint
        from tckr.engine.checkpoint import Checkpoints
        from tckr.engine.content import content_hash
        from tckr.engine.once_saved import once_saved

        options: DPAdaptationOptions = getattr(self, "generator_adaptation")  # noqa: B009 - of arms that adapt
        names = [private.class_names[label] for label in private.labels.tolist()]
        entry, noise = self.charge(artefacts, ADAPTATION, private)
        unfinished = None
        if options.checkpoints:
            told = adaptation_fingerprint(private.images, prompts, names, options)
            # With the noise: the same arm with another budget may be at work beside this one.
            noisy = (entry.noise_multiplier, artefacts["budget"].n)
            work = content_hash(told, start, *noisy, seed)
            unfinished = Checkpoints(place(options.checkpoints) / work)
        adapter = adapt_privately(
            pipeline,
            private.images,
            prompts,
            names,
            options,
            entry,
            noise,
            derive(seed, "generator_adaptation"),
            count=artefacts["budget"].n,
            checkpoint=unfinished.of("adapter") if unfinished else None,
        )
        if unfinished:
            once_saved(unfinished.remove)
        return adapter, spent(entry)

    def teacher_mechanism(self, facts: PublicFacts, share: float) -> Charged:
        """Return the plan of the teacher.

        Raises:
            UserError: it has no share, and a filter would ask it.
        """
        from tckr.classifiers.private_teacher import teacher_plan, teacher_size

        if not share and self.knowledge_recycling.filters:
            raise UserError(
                "knowledge_recycling.filter asks a teacher which images to keep, and this run has none: its share of the"
                " budget is 0.",
                "set the arm's knowledge_recycling.filter.threshold to null, or give its privacy.teacher a share.",
            )
        classes = len(facts.class_names)
        size = teacher_size(self.private_teacher, facts.shape, classes, self._network())
        return Charged(teacher_plan(self.private_teacher, share), size)

    def train_teacher(
        self, private: PrivateSet, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Train the teacher under differential privacy; no validation image is looked at.

        Without a share it says of every image that all classes are alike, which reads no image and costs nothing.

        Returns:
            The teacher, the recipe of its students and their shadows, and the spent entry.
        """
        from tckr.classifiers.names import named
        from tckr.classifiers.private_teacher import train_private_teacher

        if not self.privacy.teacher:
            return (
                named(self._ignorant(private.facts), private.class_names),
                self.student_recipe(private.facts),
                {},
            )
        entry, noise = self.charge(artefacts, "teacher", private)
        options = self.private_teacher
        teacher = train_private_teacher(
            private.images,
            private.labels,
            len(private.class_names),
            options,
            entry,
            noise,
            device,
            network=self._network(),
            count=artefacts["budget"].n,
        )
        return named(teacher, private.class_names), self.student_recipe(private.facts), spent(entry)

    def student_recipe(self, facts: PublicFacts) -> dict[str, Any]:
        """Return the recipe of the students and of their shadows; no validation image was looked at."""
        import numpy as np

        from tckr.images.degenerate import validation_facts

        return {
            "classifier": self.classifier.model_dump(mode="json"),
            "steps": self.classifier.steps(facts.n_members),
            "classes": list(facts.class_names),
            "validation": validation_facts(np.zeros(0, np.int64), np.zeros(0, np.int64)),
        }

    def _ignorant(self, facts: PublicFacts) -> Any:
        """Return a classifier to which all classes are alike."""
        from tckr.classifiers.features import LinearOnFeatures, Scattering

        return LinearOnFeatures(Scattering(*facts.shape), len(facts.class_names)).eval()

    def _network(self) -> Any:
        """Return the network that the teacher starts from, if it is of that kind."""
        from tckr.classifiers.models import load

        options = self.private_teacher
        if not options.needs_network:
            return None
        if options.network is None:
            raise UserError(
                "This kind of private teacher starts from a network that was trained before, and none is named.",
                "set private_teacher.network to a folder of a classifier that saw public images alone.",
            )
        return load(options.network)

    def close_ledger(
        self, facts: PublicFacts, artefacts: Mapping[str, Any], seed: int, device: str
    ) -> tuple[Ledger]:
        """Return the ledger with every mechanism as it was run.

        Raises:
            UserError: a planned mechanism was not run, or not as planned.
        """
        ledger: Ledger = artefacts["budget"]
        for name, made in artefacts.items():
            if name.endswith("_charge") and made:
                ledger.record(Entry.model_validate(made))
        unspent = [entry.name for entry in ledger if entry.spent is None]
        if unspent:
            raise UserError(
                f"Planned and not run: {', '.join(unspent)}.", "run the arm from its start."
            )
        return (ledger,)


def spent(entry: Entry | None) -> dict[str, Any]:
    """Return a spent entry as the catalog keeps it; nothing for a mechanism without a share."""
    return {} if entry is None else entry.model_dump(mode="json")


def data_hash(private: PrivateSet) -> str:
    """Return the SHA-256 of images and labels: which private set a ledger is of. It stays with the owner.

    Whose the images are has no part in it. What an entry declares holds whoever owns them, and two ledgers of the same images
    add up: they must not look like ledgers of different ones because a column beside the images changed.
    """
    digest = hashlib.sha256(str(tuple(private.images.shape)).encode())
    digest.update(private.labels.numpy().tobytes())
    for part in private.images.split(PART):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
