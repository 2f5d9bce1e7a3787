"""Typed parameters of the stage."""

from typing import ClassVar

from pydantic import Field, field_validator

from tckr.options import Options
from tckr.synthesizers.recycling import images_at


class SweepOptions(Options):
    """Which students the sweep trains; how they are trained and audited, the other stages' parameters say."""

    size_field: ClassVar[str] = "cardinalities"
    about: ClassVar[str] = "draw_sets"  # the node whose work `describe` tells of

    cardinalities: tuple[float, ...] = Field(
        (0.1, 0.2, 1, 5, 10, 20),
        min_length=1,
        description="synthetic images as multiples of the members, ascending, at most 100; one student each",
    )
    control: bool = Field(
        True,
        description="also a student that nothing private reaches: unadapted generator, class names, hard labels",
    )

    audit: bool = Field(True, description="attack teacher and students; false: accuracy alone")

    def describe(self) -> str:
        """Say in a few words what the stage will do."""
        sizes = ", ".join(f"{value:g}" for value in self.cardinalities)
        return f"students on {sizes} x the members{', each attacked' if self.audit else ''}"

    @field_validator("cardinalities")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value <= 100 for value in values):
            raise ValueError("every cardinality must lie above 0 and be at most 100")
        if list(values) != sorted(set(values)):
            raise ValueError("cardinalities must ascend, each one once")
        return values

    def n_images(self, members: int) -> int:
        """Return the number of synthetic images of the largest cardinality."""
        return images_at(self.cardinalities[-1], members)

    def students(self, members: int) -> dict[str, tuple[float, int]]:
        """Return cardinality and number of synthetic images of each student, by its name: `0.1x`, `20x`."""
        return {
            f"{value:.12g}x": (value, images_at(value, members)) for value in self.cardinalities
        }
