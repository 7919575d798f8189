"""Small plots as SVG: points, and curves through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 90, 30, 44  # margins; labels of points need room on the right
RADIUS = 4.5  # of a point
GAP = 8  # between the centre of a point and its label
CHARACTER, LINE, DESCENT = 5.8, 12, 2  # mean width of a letter of 11 px, height of a line
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True)
class Point:
    """A point of a plot.

    Attributes:
        x: horizontal value.
        y: vertical value.
        label: stands beside it; may be empty.
        series: points of one series share a colour, and a curve in the order that they come in.
    """

    x: float
    y: float
    label: str
    series: int


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what it shows, with its unit.
        logarithmic: spaced by factors; all values are positive then.
    """

    title: str
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies before it is scaled to the plot."""
        return math.log10(value) if self.logarithmic else value


def plot(
    title: str,
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    joined: bool = False,
    guides: Sequence[float] = (),
) -> str:
    """A plot as one SVG element; empty where there is no finite point.

    Args:
        title: stands above it.
        x: the horizontal axis.
        y: the vertical axis.
        points: what is drawn.
        joined: draw a curve through the points of each series.
        guides: horizontal values marked by dashed lines, where they lie within the plot.
    """
    drawn = [point for point in points if _can_place(x, point.x) and _can_place(y, point.y)]
    if not drawn:
        return ""
    to_x = _Scale(x, [point.x for point in drawn], LEFT, WIDTH - RIGHT)
    to_y = _Scale(y, [point.y for point in drawn], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text class="heading" x="{LEFT}" y="18">{escape(title)}</text>',
        f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x.title)}</text>",
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>',
    ]
    for tick in to_x.ticks:
        place = to_x(tick)
        parts.append(
            f'<path class="axis" d="M{place:.1f} {HEIGHT - BOTTOM}v4"/><text x="{place:.1f}" '
            f'y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.4g}</text>'
        )
    for tick in to_y.ticks:
        place = to_y(tick)
        parts.append(
            f'<path class="axis" d="M{LEFT} {place:.1f}h-4"/><text x="{LEFT - 7}" '
            f'y="{place + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    parts += [
        f'<path class="guide" d="M{to_x(guide):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        for guide in guides
        if LEFT <= to_x(guide) <= WIDTH - RIGHT
    ]
    places = [(to_x(point.x), to_y(point.y)) for point in drawn]
    if joined:
        for series in dict.fromkeys(point.series for point in drawn):
            path = "L".join(
                f"{place_x:.1f} {place_y:.1f}"
                for point, (place_x, place_y) in zip(drawn, places, strict=True)
                if point.series == series
            )
            parts.append(f'<path class="curve" stroke="{_colour(series)}" d="M{path}"/>')
    beside = label_places(places, [point.label for point in drawn])
    for point, (place_x, place_y), (label_x, label_y) in zip(drawn, places, beside, strict=True):
        parts.append(
            f'<circle cx="{place_x:.1f}" cy="{place_y:.1f}" r="{RADIUS}" '
            f'fill="{_colour(point.series)}"/>'
        )
        if point.label:
            parts.append(f'<text x="{label_x:.1f}" y="{label_y:.1f}">{escape(point.label)}</text>')
    return "".join([*parts, "</svg>"])


def label_places(
    points: Sequence[tuple[float, float]], labels: Sequence[str]
) -> list[tuple[float, float]]:
    """Where each label begins (left end of its base line) so that it covers no other, if it can.

    It stands to the right of its point, else to the left, else as little above or below as is free.

    Args:
        points: centres, in pixels, y downwards.
        labels: their texts.
    """
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in points]
    places = []
    for (x, y), label in zip(points, labels, strict=True):
        width, half = CHARACTER * len(label), LINE / 2
        shifts = [0.0, *(sign * LINE * n for n in range(1, len(labels) + 1) for sign in (-1, 1))]
        starts = (x + GAP, x - GAP - width)
        boxes = [
            (start, y + shift - half, start + width, y + shift + half)
            for shift in shifts
            for start in starts
            if start >= LEFT and 0 <= y + shift <= HEIGHT - BOTTOM
        ]
        free = [box for box in boxes if not any(_overlap(box, other) for other in taken)]
        box = (free or boxes or [(x + GAP, y - half, x + GAP + width, y + half)])[0]
        taken.append(box)
        places.append((box[0], box[3] - DESCENT))
    return places


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def round_factors(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive values, powers alone where many.

    Where fewer than two lie between them, those of `ticks`.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        shown = [value for value in values if low <= value <= high]
        if len(shown) <= most:
            break
    return shown if len(shown) > 1 else ticks(low, high, most)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) between low and high, at most so many."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


class _Scale:
    """From values to pixels, with a margin of a tenth around the values."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        placed = [axis.place(value) for value in values]
        low, high = min(placed), max(placed)
        margin = 0.1 * (high - low) or 0.1 * abs(high) or 0.5
        self._axis, self._start, self._end = axis, start, end
        self._low, self._high = low - margin, high + margin
        self.ticks = (
            round_factors(10**self._low, 10**self._high)
            if axis.logarithmic
            else ticks(self._low, self._high)
        )

    def __call__(self, value: float) -> float:
        share = (self._axis.place(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def _colour(series: int) -> str:
    return COLOURS[series % len(COLOURS)]


def _can_place(axis: Axis, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.logarithmic)
