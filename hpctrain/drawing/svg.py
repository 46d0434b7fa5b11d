"""Draw axes, lines, bands and labels as inline SVG with the colours of the style sheet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files

import numpy as np

from hpctrain.drawing.decimate import decimate
from hpctrain.drawing.scale import Scale

WIDE, HALF, PHONE = 1040, 508, 400
"""Widths of drawings [approximately CSS pixels]: the whole column, half of it, and the screen of a phone."""
LEFT, RIGHT = 62, 26
"""Margins of most drawings."""
SMALL, SMALL_ON_PHONE = 150, 112
"""Heights of the frame of small curves."""

_numbers = itertools.count(1)
_LABEL_ROOM = 16.0
"""Smallest distance of a line from the left edge for a label to its left; other labels are to the right."""
_HEAD = 56
"""Height of title and legend above a self-contained drawing."""
_RULES = ("svg .", "svg path", "svg text", ".c1", ".ink", ".good")
"""Beginnings of the lines of the style sheet that a drawing needs."""
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


def number(value: float) -> str:
    """Return a coordinate with one decimal, in its shortest form."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def path_of(x: np.ndarray, y: np.ndarray) -> str:
    """Return the ``d`` of a path through points; a NaN interrupts it."""
    parts, pen_down = [], False
    for a, b in zip(x, y, strict=True):
        if np.isnan(a) or np.isnan(b):
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{number(a)} {number(b)}")
        pen_down = True
    return "".join(parts)


class Axes:
    """A frame with two scales for drawings.

    Parameters
    ----------
    left, top, width, height : float
        Position and size of the frame in units of the drawing (approximately CSS pixels).
    x_limits, y_limits : (float, float)
        Values at the edges of the frame.
    x_kind, y_kind : str
        ``linear``, ``log``, ``time`` or ``names``.
    x_names : sequence of str
        Labels of the values 0, 1, 2, ... of an x axis of the kind ``names``.
    """

    def __init__(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        x_limits: tuple[float, float],
        y_limits: tuple[float, float],
        x_kind: str = "linear",
        y_kind: str = "linear",
        x_names: Sequence[str] = (),
    ) -> None:
        self.left, self.top, self.width, self.height = left, top, width, height
        self.x = Scale(*x_limits, left, left + width, x_kind, tuple(x_names))
        self.y = Scale(*y_limits, top + height, top, y_kind)
        self._below: list[str] = []
        self._inside: list[str] = []
        self._above: list[str] = []
        self._x_label = ""

    def add_grid(self, x_label: str = "", y_label: str = "", x_ticks: int = 8, y_ticks: int = 5) -> Axes:
        """Draw grid lines, tick labels and axis labels.

        An x axis without a label has no tick labels; a y axis with 0 ticks has no grid.
        """
        bottom, right = self.top + self.height, self.left + self.width
        self._x_label = x_label
        for value, label in self.y.ticks(y_ticks) if y_ticks else ():
            y = number(float(self.y.place(value)))
            self._below.append(f'<path class="grid" d="M{number(self.left)} {y}H{number(right)}"/>')
            self._above.append(
                f'<text class="tick" x="{number(self.left - 8)}" y="{y}" dy=".32em" text-anchor="end">{label}</text>'
            )
        for value, label in self.x.ticks(x_ticks):
            x = number(float(self.x.place(value)))
            self._below.append(f'<path class="axis" d="M{x} {number(bottom)}v4"/>')
            if x_label:
                self._above.append(
                    f'<text class="tick" x="{x}" y="{number(bottom + 17)}" text-anchor="middle">{escape(label)}</text>'
                )
        self._below.append(f'<path class="axis" d="M{number(self.left)} {number(bottom)}H{number(right)}"/>')
        if x_label:
            self._above.append(
                f'<text class="label" x="{number(right)}" y="{number(bottom + 35)}" text-anchor="end">'
                f"{escape(x_label)}</text>"
            )
        if y_label:
            self._above.append(
                f'<text class="label" x="{number(self.left)}" y="{number(self.top - 9)}">{escape(y_label)}</text>'
            )
        return self

    def line(self, x: np.ndarray, y: np.ndarray, css: str, name: str = "") -> None:
        """Draw a line through (x, y) with no more points than the page can show.

        Parameters
        ----------
        x, y : ndarray, shape (n,)
            Values; NaN interrupts the line.
        css : str
            CSS class of the line.
        name : str
            Name beside the value under the pointer; a line without a name shows no value.
        """
        places = decimate(self.x.place(x), self.y.place(y), int(self.width))
        self._path(*places, css, name)

    def _path(self, x: np.ndarray, y: np.ndarray, css: str, name: str = "") -> None:
        data = f' data-name="{escape(name)}"' if name else ""
        y = np.clip(y, self.top - 4 * self.height, self.top + 5 * self.height)
        self._inside.append(f'<path class="line {css}"{data} d="{path_of(x, y)}"/>')

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, css: str, kind: str = "band") -> None:
        """Fill the area between two lines with all their points; NaN in either interrupts it.

        The `kind` is ``band``, or ``interval`` for one through which other lines are seen.
        """
        finite = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(finite.astype(np.int8), prepend=0, append=0))
        far = (self.top - 4 * self.height, self.top + 5 * self.height)
        px, py_low, py_high = self.x.place(x), self.y.place(low).clip(*far), self.y.place(high).clip(*far)
        pieces = []
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            part = slice(start, end)
            pieces.append(
                path_of(np.concatenate([px[part], px[part][::-1]]), np.concatenate([py_low[part], py_high[part][::-1]]))
                + "Z"
            )
        self._inside.append(f'<path class="{kind} {css}" d="{"".join(pieces)}"/>')

    def boxes(self, low: np.ndarray, high: np.ndarray, bottom: np.ndarray, top: np.ndarray, css: str) -> None:
        """Fill rectangles between values, shape (n,) each, as one path."""
        x0, x1, y0, y1 = self.x.place(low), self.x.place(high), self.y.place(bottom), self.y.place(top)
        d = "".join(
            f"M{number(a)} {number(c)}H{number(b)}V{number(d)}H{number(a)}Z"
            for a, b, c, d in zip(x0, x1, y0, y1, strict=True)
        )
        self._inside.append(f'<path class="boxes {css}" d="{d}"/>')

    def dots(self, x: np.ndarray, y: np.ndarray, css: str, radius: float = 2.5) -> None:
        """Draw points as one path of round dots, which takes a dozen bytes per dot."""
        px, py = self.x.place(x), self.y.place(y)
        good = np.isfinite(px) & np.isfinite(py)
        d = "".join(f"M{number(a)} {number(b)}h0" for a, b in zip(px[good], py[good], strict=True))
        self._inside.append(f'<path class="dots {css}" stroke-width="{2 * radius:g}" d="{d}"/>')

    def ring(self, x: float, y: float, css: str, title: str = "") -> None:
        """Draw a circle around a point."""
        px, py = number(float(self.x.place(x))), number(float(self.y.place(y)))
        told = f"<title>{escape(title)}</title>" if title else ""
        self._above.append(f'<circle class="ring {css}" cx="{px}" cy="{py}" r="5.5">{told}</circle>')

    def bar(
        self, low: float, high: float, bottom: float, top: float, css: str, title: str = "", thinnest: float = 1.0
    ) -> None:
        """Draw a rectangle between values; it is at least `thinnest` units wide, so that it is visible."""
        x0, x1 = float(self.x.place(low)), float(self.x.place(high))
        y0, y1 = sorted((float(self.y.place(bottom)), float(self.y.place(top))))
        told = f"<title>{escape(title)}</title>" if title else ""
        self._inside.append(
            f'<rect class="{css}" x="{number(x0)}" y="{number(y0)}" width="{number(max(thinnest, x1 - x0))}" '
            f'height="{number(y1 - y0)}">{told}</rect>'
        )

    def vertical(self, x: float, css: str, label: str = "", title: str = "") -> None:
        """Draw a line from bottom to top with a label along its upper end, on its left if there is room."""
        px = float(self.x.place(x))
        told = f"<title>{escape(title)}</title>" if title else ""
        self._below.append(
            f'<path class="{css}" d="M{number(px)} {number(self.top)}v{number(self.height)}">{told}</path>'
        )
        if label:
            side = "-.35em" if px - self.left > _LABEL_ROOM else "1.05em"
            self._above.append(
                f'<text class="mark" transform="translate({number(px)} {number(self.top + 3)}) rotate(-90)" '
                f'text-anchor="end" dy="{side}">{escape(label)}</text>'
            )

    def horizontal(self, y: float, css: str, label: str = "") -> None:
        """Draw a line from left to right with a label below its left end."""
        py = float(self.y.place(y))
        self._below.append(f'<path class="{css}" d="M{number(self.left)} {number(py)}h{number(self.width)}"/>')
        if label:
            self.text(self.left + 8, py + (13 if py + 16 < self.top + self.height else -5), label, "mark")

    def text(self, left: float, top: float, text: str, css: str = "label", anchor: str = "start") -> None:
        """Write a text at a position of the drawing (not at values)."""
        self._above.append(
            f'<text class="{css}" x="{number(left)}" y="{number(top)}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """Return the SVG of these axes, with lines and bands clipped to the frame."""
        clip = f"clip{next(_numbers)}"
        box = (
            f'x="{number(self.left)}" y="{number(self.top)}" width="{number(self.width)}" '
            f'height="{number(self.height)}"'
        )
        scales = (
            f'data-x="{self.x.low:.10g} {self.x.high:.10g} {self.x.kind}" '
            f'data-y="{self.y.low:.10g} {self.y.high:.10g} {self.y.kind}" data-label="{escape(self._x_label)}"'
        )
        frame = " ".join(number(value) for value in (self.left, self.top, self.width, self.height))
        return (
            f'<g class="axes" data-frame="{frame}" {scales}><clipPath id="{clip}"><rect {box}/></clipPath>'
            f'{"".join(self._below)}<g clip-path="url(#{clip})">{"".join(self._inside)}</g>{"".join(self._above)}</g>'
        )


def num_ticks(width: int) -> int:
    """Return the approximate number of labelled ticks for an axis of a drawing of this width."""
    return min(10, width // 80)


def on_both(width: int, draw: Callable[[int], str]) -> str:
    """Return a drawing twice, for a wide screen and for a phone; the style sheet shows the one that fits.

    Parameters
    ----------
    width : int
        Width on a wide screen.
    draw : callable
        Takes a width and returns HTML, which is empty if there is nothing to draw.
    """
    wide = draw(width)
    return f'<div class="on-wide">{wide}</div><div class="on-phone">{draw(PHONE)}</div>' if wide else ""


def drawing(width: int, height: int, axes: list[Axes], description: str) -> str:
    """Return a whole ``<svg>`` that scales with the page and has a description for screen readers."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(part.render() for part in axes)}</svg>"
    )


def legend(entries: list[tuple[str, str]]) -> str:
    """Return a legend in HTML from pairs of (CSS class of the sign, text)."""
    items = "".join(f'<span class="key {css}">{escape(text)}</span>' for css, text in entries)
    return f'<div class="legend">{items}</div>'


def standalone(width: int, height: int, axes: list[Axes], title: str, entries: list[tuple[str, str]]) -> str:
    """Return an SVG file with its own colours, title and legend for pages without our style sheet.

    Parameters
    ----------
    width, height : int
        Size of the axes; title and legend add to the height of the file.
    axes : list of Axes
    title : str
    entries : list of (str, str)
        Entries of the legend, as for :func:`legend`.
    """
    style = files("hpctrain.drawing").joinpath("style.css").read_text(encoding="utf-8")
    colours = style[: style.index("* {")]
    rules = "\n".join(line for line in style.splitlines() if line.startswith(_RULES))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + _HEAD}" font-size="12" '
        f'font-family="{_FONTS}" role="img">\n<title>{escape(title)}</title>\n<style>\n{colours}{rules}\n</style>\n'
        f'<rect width="100%" height="100%" rx="8" style="fill: var(--paper)"/>\n'
        f'<text x="16" y="28" style="fill: var(--ink); font-size: 15px; font-weight: 600">{escape(title)}</text>\n'
        f"{_legend_row(entries)}\n"
        f'<g transform="translate(0 {_HEAD})">{"".join(part.render() for part in axes)}</g>\n</svg>\n'
    )


def _legend_row(entries: list[tuple[str, str]]) -> str:
    """Draw a legend in one row, with estimated widths of the texts."""
    parts, left = [], 16.0
    for css, text in entries:
        kind, _, colour = css.partition(" ")
        shape = {
            "line": f'<path class="line {colour}" d="M{number(left)} 46h20"/>',
            "dot": f'<path class="dots {colour}" stroke-width="7" d="M{number(left + 10)} 46h0"/>',
            "box": f'<rect class="attempt {colour}" x="{number(left + 4)}" y="40" width="12" height="12"/>',
        }[kind]
        parts.append(f'{shape}<text x="{number(left + 26)}" y="50">{escape(text)}</text>')
        left += 26 + 6.4 * len(text) + 24
    return "".join(parts)
