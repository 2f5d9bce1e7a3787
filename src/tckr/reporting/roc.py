"""The ROC curves of everything released below the limit that a ledger proves, as SVG: it follows from a certificate alone.

`figures.draw_roc` draws the same for the report from all scores. A certificate is drawn again by whoever verifies it, to the
byte, so its picture must not depend on the version of a drawing library.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from tckr.audit.attack_results import Roc
from tckr.release.certificate import Limit
from tckr.reporting.style import FORBIDDEN, IMPOSSIBLE, LIMIT, LIMIT_OF_TWO

WIDTH, ACROSS, UP, LEFT, TOP, GAP, BELOW = 860, 352, 160, 50, 20, 62, 38
PITCH, ENTRY = 16, 420  # of the legend: height of a line, width of a column
# By the names in `tckr.audit.things.THINGS`: colour, and dashes that tell the lines apart without it.
LINES = {
    "student": ("#2563eb", ""),
    "weights": ("#0e7490", "7 3"),
    "released": ("#16a34a", "2 2"),
    "teacher": ("#b45309", "9 3 2 3"),
    "generator": ("#7c3aed", "5 2"),
    "images": ("#4b5563", "1 3"),
    "prompts": ("#be185d", "4 4"),
}
FURTHER = ("#1c2128", "8 2 2 2")  # of a thing that has no line of its own
GUESSING = "#9ca3af"
PLAIN_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

Point = tuple[float, float]


def draw_roc(curves: Mapping[str, tuple[str, Roc]], limit: Limit | None) -> str:
    """Return two panels as one `<svg>`: the curves on plain axes, and on logarithmic ones, where leaks show at the left.

    Args:
        curves: title and curve by name in `tckr.audit.things.THINGS`.
        limit: what is proven; None: the picture says that nothing is.

    >>> drawn = draw_roc({"student": ("Student", Roc(fpr=(0.1, 1), tpr=(0.2, 1)))}, None)
    >>> drawn.count("<polyline"), "no formal bound" in drawn
    (6, True)
    """
    start = min((curve.fpr[0] for _, curve in curves.values()), default=0.1)
    start = min(start, 0.1)
    plain, steep = _Panel(LEFT, 0.0), _Panel(LEFT + ACROSS + GAP, start)
    entries = list(_legend(curves, limit))
    top = TOP + UP + BELOW + 12
    height = top + PITCH * math.ceil(len(entries) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="ROC curves of everything released" font-family="inherit" font-size="12">'
    ]
    for panel in (plain, steep):
        parts += panel.frame()
        if limit is not None:
            parts += panel.limits(limit)
        parts.append(panel.line([(start, start), (1, 1)] if panel.start else [(0, 0), (1, 1)], GUESSING, "4 3", 1))  # fmt: skip
        for name, (_, curve) in curves.items():
            parts.append(
                panel.line(_from(curve.fpr, curve.tpr, panel.start), *LINES.get(name, FURTHER), 1.8)
            )
    if limit is None:
        x, y = plain.at((0.03, 0.87))
        parts.append(f'<text x="{x}" y="{y}" fill="{FORBIDDEN}">no formal bound: nothing is proven</text>')  # fmt: skip
    for number, (sample, text) in enumerate(entries):
        x, y = LEFT + ENTRY * (number % 2), top + PITCH * (number // 2)
        parts.append(f'<g transform="translate({x} {y})">{sample}<text x="34" y="4">{escape(text)}</text></g>')  # fmt: skip
    return "\n".join([*parts, "</svg>"])


class _Panel:
    """One pair of axes, from `start` to 1 both ways; from 0 they are plain, else logarithmic."""

    def __init__(self, left: float, start: float) -> None:
        self.left, self.start = left, start
        self._scale: Callable[[float], float] = (
            (lambda value: value)
            if not start
            else (lambda value: 1 - math.log(max(value, start)) / math.log(start))
        )

    def at(self, point: Point) -> Point:
        """Return the place of a point in the picture."""
        x, y = (self._scale(value) for value in point)
        return round(self.left + ACROSS * x, 1), round(TOP + UP * (1 - y), 1)

    def line(self, points: Sequence[Point], colour: str, dashes: str, width: float) -> str:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<polyline points="{self._joined(points)}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'

    def limits(self, limit: Limit) -> list[str]:
        """Draw what is proven: the limit for one image, and above that for two nothing can be."""
        one, two = (_from(limit.fpr, tpr, self.start) for tpr in (limit.tpr, limit.tpr_of_two))
        above = [*two, (1.0, 1.0), (self.start, 1.0)]
        return [
            f'<polygon points="{self._joined(above)}" fill="{FORBIDDEN}" fill-opacity="0.09"/>',
            self.line(one, FORBIDDEN, "", 1.6),
            self.line(two, FORBIDDEN, "2 3", 1.3),
        ]

    def frame(self) -> Iterator[str]:
        """Draw the grid, its numbers and what the axes are."""
        left, right, bottom = self.left, self.left + ACROSS, TOP + UP
        for tick in self._ticks():
            (x, y), text = self.at((tick, tick)), f"{100 * tick:g}"
            yield f'<path d="M{x} {TOP}V{bottom}M{left} {y}H{right}" stroke="#e6e6e6" fill="none"/>'
            yield f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{text}</text>'
            yield f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
        kind = "logarithmic axes: few false alarms" if self.start else "plain axes"  # fmt: skip
        yield f'<path d="M{left} {TOP}V{bottom}H{right}" stroke="#1c2128" fill="none"/>'
        yield f'<text x="{left}" y="{TOP - 8}" fill="#5b6470">{kind}</text>'
        yield f'<text x="{left + ACROSS / 2}" y="{bottom + 32}" text-anchor="middle">false alarms, % of outside images</text>'
        middle = TOP + UP / 2
        yield f'<text transform="translate({left - 38} {middle}) rotate(-90)" text-anchor="middle">found, % of private images</text>'

    def _ticks(self) -> Sequence[float]:
        if not self.start:
            return PLAIN_TICKS
        return [tick for tick in (0.001, 0.01, 0.1, 0.5, 1) if tick >= self.start] or [self.start]

    def _joined(self, points: Sequence[Point]) -> str:
        return " ".join(f"{x},{y}" for x, y in map(self.at, points))


def _from(fpr: Sequence[float], tpr: Sequence[float], start: float) -> list[Point]:
    """Return the points at `start` and above; plain axes begin at the corner."""
    points = [(x, y) for x, y in zip(fpr, tpr, strict=True) if x >= start]
    return points if start else [(0.0, 0.0), *points]


def _legend(
    curves: Mapping[str, tuple[str, Roc]], limit: Limit | None
) -> Iterator[tuple[str, str]]:
    def sample(colour: str, dashes: str, width: float = 1.8) -> str:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<polyline points="0,0 28,0" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'

    for name, (title, _) in curves.items():
        yield sample(*LINES.get(name, FURTHER)), title
    yield sample(GUESSING, "4 3", 1), "guessing"
    if limit is not None:
        yield sample(FORBIDDEN, "", 1.6), LIMIT
        yield sample(FORBIDDEN, "2 3", 1.3), LIMIT_OF_TWO
        yield (
            f'<rect y="-6" width="28" height="11" fill="{FORBIDDEN}" fill-opacity="0.12"/>',
            IMPOSSIBLE,
        )
