"""What an arm's ledger proves of everything that is released, beside what the attacks measured."""

from typing import Literal

from pydantic import Field

from tckr.audit.attack_results import Result


class Charge(Result):
    """A mechanism of the ledger as the report prints it: without the hash of the private images."""

    name: str = Field(description="what it makes, unique in the ledger")
    mechanism: str = Field(description="the kind of noise")
    noise_multiplier: float = Field(description="scale of the noise / sensitivity")
    sampling_rate: float = Field(description="probability with which an image enters a step")
    steps: int = Field(description="noisy answers")
    sensitivity: float = Field(description="largest L2 change of an answer by one image")
    why: str = Field(description="why one image cannot change an answer by more")
    share: float = Field(description="of the sum of mu^2, each alone, in [0, 1]")
    spent: str | None = Field(description="when it was run, ISO 8601; None: planned only")


class Declared(Result):
    """Something that is not charged, and why."""

    what: str = Field(description="such as early stopping")
    how: Literal["public", "absent", "uncharged"] = Field(
        description="known without the images, not used, or taken without noise: then nothing is proven"
    )
    why: str = Field(description="the reason")


class TprBound(Result):
    """Largest true-positive rate that any test can have at a false-positive rate."""

    fpr: float = Field(description="false-positive rate")
    tpr: float = Field(description="for one image added or removed")
    tpr_of_two: float = Field(description="for two changes, as in the audit's comparison")


class Compared(Result):
    """What one attack measured beside what is proven, at the rates of its best cut.

    Rates compare with the trade-off curve itself; as epsilons (of the Gaussian mechanism whose curve passes through the
    point, at the ledger's delta) they are the same comparison in one number.
    """

    thing: str = Field(description="its name in `THINGS`")
    attack: str = Field(description="its name; canaries are attacked alone")
    fpr: float = Field(description="upper end of the false-positive rate")
    tpr: float = Field(description="lower end of the true-positive rate")
    bound: float = Field(description="largest true-positive rate at `fpr`, for one image")
    bound_of_two: float = Field(description="the same for two changes")
    epsilon: float = Field(description="measured: at least this")
    epsilon_bound: float | None = Field(description="proven for one image: at most; None: more")
    epsilon_bound_of_two: float | None = Field(description="proven for two changes; None: more")
    changes: Literal[1, 2] = Field(
        default=2,
        description="images by which a member's case differs from a non-member's: 2 in exact halves, 1 if each is a coin",
    )

    @property
    def allowed(self) -> float:
        """Return the largest true-positive rate at `fpr` that the ledger allows in the audit's comparison."""
        return self.bound if self.changes == 1 else self.bound_of_two

    @property
    def epsilon_allowed(self) -> float | None:
        """Return the same as an epsilon; None: more."""
        return self.epsilon_bound if self.changes == 1 else self.epsilon_bound_of_two

    @property
    def alarming(self) -> bool:
        """Whether the attack found more than is proven for one image whose membership is a coin of its own."""
        return self.tpr > self.bound

    @property
    def contradicts(self) -> bool:
        """Whether it found more than is proven for the audit's comparison: ledger or code is wrong."""
        return self.tpr > self.allowed


class Guarantee(Result):
    """What the arm's ledger proves of everything that is released, and how the audit compares."""

    epsilon: float = Field(description="of all mechanisms together, at `delta`")
    delta: float = Field(description="of the ledger; also that of the audit's lower bounds")
    mu: float = Field(description="of the Gaussian mechanism that is as private")
    total_epsilon: float = Field(description="the budget that was asked for")
    n: int = Field(description="private images, a public number")
    adjacency: str = Field(description="what neighbouring private sets are")
    private: bool = Field(
        description="False if noise came from a seed, or something was taken uncharged: then nothing is proven"
    )
    auc: float = Field(description="largest AUC of any test for one image")
    auc_of_two: float = Field(description="largest AUC for two changes")
    tprs: tuple[TprBound, ...] = Field(description="one entry per audited false-positive rate")
    entries: tuple[Charge, ...] = Field(description="every mechanism that read private images")
    declarations: tuple[Declared, ...] = Field(description="what is public or absent instead")
    confidence: float = Field(description="with which all of `compared` hold together")
    compared: tuple[Compared, ...] = Field(description="every attack that has independent scores")

    @property
    def closest(self) -> Compared | None:
        """Return the attack with the largest lower bound of epsilon; None if none has one."""
        return max(self.compared, key=lambda row: row.epsilon, default=None)
