"""Numbers as SVG coordinates: what the report's templates draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Of the viewBox; the picture itself is as wide as its column.
WIDTH, HEIGHT = 360, 216
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 348, 12, 184
_TOPS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
# Lines differ in colour and in the shape of their points: colour alone is lost in print and on many eyes.
_SHAPES = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z",
    "M-3.5-3.5H3.5V3.5H-3.5Z",
    "M0-4.6L4.4 3.4H-4.4Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M-4.4-3.4H4.4L0 4.6Z",
    "M-4.5-1.5H4.5V1.5H-4.5Z",
    "M-1.5-4.5H1.5V4.5H-1.5Z",
)
SHAPES = len(_SHAPES)


@dataclass(frozen=True)
class Point:
    """A value in the units of its axes, and its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in coordinates of the picture, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point as drawn: where it is, and what a person who points at it reads."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Line:
    """One system: `path` and `band` are path data; `style` chooses colour and the shape of the points."""

    name: str
    style: int
    path: str
    band: str
    marks: list[Mark]
    shape: str


@dataclass(frozen=True)
class Chart:
    """All that a template needs to draw lines over two axes."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_title: str
    y_title: str
    diagonal: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def axis_top(values: Sequence[float]) -> float:
    """Where an axis of shares ends: the least round number that no value exceeds, at most 1.

    >>> axis_top([0.12, 0.31]), axis_top([])
    (0.4, 1.0)
    """
    highest = max(values, default=1.0)
    return next((top for top in _TOPS if highest <= top), 1.0)


def shape(style: int) -> str:
    """Path data of the point that goes with a style, about the origin."""
    return _SHAPES[style % SHAPES]


def depth_chart(
    series: Mapping[str, Sequence[Point]], y_title: str, names: Mapping[float, str] | None = None
) -> Chart:
    """Lines over the number of passages, its values evenly spaced: 1, 3, 5, 10, 100 would else crowd at the left.

    Args:
        series: per line its points, x being the number of passages and y between 0 and 1.
        y_title: what is measured.
        names: how to write a number of passages, where it is not its digits.
    """
    depths = sorted({point.x for points in series.values() for point in points})
    step = (_RIGHT - _LEFT - 24) / max(len(depths) - 1, 1)
    places = {depth: _LEFT + 12 + step * position for position, depth in enumerate(depths)}
    ticks = [Tick(round(at, 1), (names or {}).get(depth, f"{depth:g}")) for depth, at in places.items()]
    return _chart(series, places, ticks, "passages", y_title)


def share_chart(series: Mapping[str, Sequence[Point]], x_title: str, y_title: str, *, diagonal: bool = False) -> Chart:
    """Lines over a share from 0 to 1, such as accuracy over confidence.

    Args:
        series: per line its points, x and y between 0 and 1.
        x_title: of the axis.
        y_title: of the axis.
        diagonal: also draw where x equals y; then the y axis goes to 1.
    """
    span = _RIGHT - _LEFT
    places = {point.x: _LEFT + span * point.x for points in series.values() for point in points}
    ticks = [Tick(_LEFT + span * share, f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return _chart(series, places, ticks, x_title, y_title, diagonal=diagonal)


def _chart(
    series: Mapping[str, Sequence[Point]],
    places: Mapping[float, float],
    x_ticks: list[Tick],
    x_title: str,
    y_title: str,
    *,
    diagonal: bool = False,
) -> Chart:
    heights = [y for points in series.values() for p in points for y in (p.y, p.high) if y is not None]
    top = 1.0 if diagonal else axis_top(heights)

    def height(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * min(max(value, 0.0), top) / top, 1)

    lines = []
    for style, (name, points) in enumerate(series.items()):
        # A value that is not a number has no place: the line goes on at the next one.
        drawn = [p for p in sorted(points, key=lambda p: p.x) if math.isfinite(p.y)]
        marks = [Mark(round(places[p.x], 1), height(p.y), _describe(name, p)) for p in drawn]
        banded = [p for p in drawn if p.low is not None and p.high is not None]
        upper = [(round(places[p.x], 1), height(p.high)) for p in banded if p.high is not None]
        lower = [(round(places[p.x], 1), height(p.low)) for p in reversed(banded) if p.low is not None]
        band = _path([*upper, *lower]) + "Z" if len(banded) > 1 else ""
        lines.append(Line(name, style % SHAPES, _path([(m.x, m.y) for m in marks]), band, marks, shape(style)))
    return Chart(
        lines=lines,
        x_ticks=x_ticks,
        y_ticks=[Tick(height(top * part / 4), f"{top * part / 4:.3g}") for part in range(5)],
        x_title=x_title,
        y_title=y_title,
        diagonal=_path([(_LEFT, _BOTTOM), (_RIGHT, _TOP)]) if diagonal else "",
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _describe(name: str, point: Point) -> str:
    interval = f" ({point.low:.3f} to {point.high:.3f})" if point.low is not None and point.high is not None else ""
    return f"{name}, {point.x:.3g}: {point.y:.3f}{interval}"
