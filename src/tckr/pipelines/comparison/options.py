"""Typed parameters of the stage."""

from pydantic import Field, field_validator

from tckr.options import Options
from tckr.synthesizers.registry import SYNTHESIZERS


class ComparisonOptions(Options):
    """Which arms are compared; how each is made and audited, its own parameters and those of the audit say."""

    arms: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of arms, each one once; null: all that are registered",
    )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The arms, in the order of the registry.

        >>> ComparisonOptions(arms=["unadapted", "tckr"]).chosen
        ('tckr', 'unadapted')
        """
        return tuple(arm for arm in SYNTHESIZERS if self.arms is None or arm in self.arms)

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        return f"{', '.join(self.chosen)} in one table and one picture"

    @field_validator("arms")
    @classmethod
    def _are_registered(cls, arms: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for arm in arms or ():
            if arm not in SYNTHESIZERS:
                raise ValueError(
                    f"there is no arm {arm!r}; registered are {', '.join(SYNTHESIZERS)}"
                )
        if arms is not None and len(set(arms)) < len(arms):
            raise ValueError("an arm is named twice")
        return arms
