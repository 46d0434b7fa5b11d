"""Write a drawing as SVG: for light and dark pages, with title and description, and nothing from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.resources import files

from drawings.shapes import TEXT_SIZE, WIDTH, Arrow, Box, Drawing, Point

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
CODE_FONTS = "Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace"


@cache
def palette() -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours of the project's drawings by their names: those of a light and those of a dark page."""
    style = files("hpctrain.drawing").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)[:2]
    return tuple(dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in (light, dark))  # type: ignore[return-value]


def number(value: float) -> str:
    """Return a coordinate with one decimal, in its shortest form."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def svg_of(drawing: Drawing) -> str:
    """Return the text of an SVG file."""
    name, height = drawing.name, number(drawing.height)
    parts = [*map(_box, drawing.boxes), *(_arrow(name, drawing, arrow) for arrow in drawing.arrows)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(WIDTH)}" height="{height}" '
        f'viewBox="0 0 {number(WIDTH)} {height}" role="img" aria-labelledby="{name}-title {name}-description" '
        f'font-family="{FONTS}" font-size="{number(TEXT_SIZE)}">'
    )
    lines = [
        head,
        f'<title id="{name}-title">{escape(drawing.title)}</title>',
        f'<desc id="{name}-description">{escape(drawing.description)}</desc>',
        f"<style>{_style(drawing)}</style>",
        f"<defs>{_heads(drawing)}</defs>",
        '<rect width="100%" height="100%" rx="8" style="fill: var(--paper)"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _style(drawing: Drawing) -> str:
    """Return the style sheet: the colours that the drawing uses, light and dark."""
    looks = [part.look for part in (*drawing.boxes, *drawing.arrows)]
    used = sorted({colour for look in looks for colour in (look.fill, look.stroke, look.text) if colour} | {"paper"})
    light, dark = ("; ".join(f"--{colour}: {shades[colour]}" for colour in used) for shades in palette())
    code = f"text.code {{ font-family: {CODE_FONTS}; }}"
    return f":root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} {code}"


def _heads(drawing: Drawing) -> str:
    colours = sorted({arrow.look.stroke for arrow in drawing.arrows})
    return "".join(
        f'<marker id="{drawing.name}-{colour}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 1L9 5L0 9z" style="fill: var(--{colour})"/></marker>'
        for colour in colours
    )


def _box(box: Box) -> str:
    look, parts = box.look, []
    if look.fill or look.stroke:
        style = [f"fill: {f'var(--{look.fill})' if look.fill else 'none'}"]
        if look.fill and look.tint < 1:
            style.append(f"fill-opacity: {look.tint:g}")
        if look.stroke:
            style.append(f"stroke: var(--{look.stroke}); stroke-width: 1.3")
        if look.dashed:
            style.append("stroke-dasharray: 4 3")
        place = " ".join(f'{key}="{number(getattr(box, key))}"' for key in ("x", "y", "width", "height"))
        parts.append(f'<rect {place} rx="{number(look.radius)}" style="{"; ".join(style)}"/>')
    x, anchor = box.anchor()
    for (text, size, bold), y in zip(box.text, box.baselines(), strict=True):
        weight = ' font-weight="600"' if bold else ""
        sort = ' class="code"' if box.code else ""
        parts.append(
            f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" font-size="{number(size)}"{weight}{sort} '
            f'style="fill: var(--{look.text})">{escape(text)}</text>'
        )
    return "".join(parts)


def _arrow(name: str, drawing: Drawing, arrow: Arrow) -> str:
    look, points = arrow.look, drawing.points(arrow)
    dashes = "; stroke-dasharray: 4 3" if look.dashed else ""
    return (
        f'<path d="{_path(points)}" marker-end="url(#{name}-{look.stroke})" '
        f'style="fill: none; stroke: var(--{look.stroke}); stroke-width: 1.5{dashes}"/>'
    )


def _path(points: list[Point]) -> str:
    return "".join(f"{'L' if index else 'M'}{number(x)} {number(y)}" for index, (x, y) in enumerate(points))
