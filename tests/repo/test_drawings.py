"""The drawings of the documentation: files as their descriptions say, legible in any font, and open to diagrams.net."""

from __future__ import annotations

import itertools
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from drawings.all_drawings import drawings, texts
from drawings.as_drawio import drawio_of
from drawings.as_svg import svg_of
from drawings.shapes import LINE_HEIGHT, WIDTH, Arrow, Box, Drawing
from matplotlib.ft2font import FT2Font

DOCS = Path(__file__).resolve().parents[2] / "docs"
IMAGES = DOCS / "img"
ALL = drawings()
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SVG = "{http://www.w3.org/2000/svg}"
Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom [px]."""


@pytest.mark.parametrize("name", texts())
def test_the_file_is_what_its_description_says(name):
    """Make it with: python docs/drawings."""
    current = (IMAGES / name).read_text(encoding="utf-8") == texts()[name]
    assert current, f"docs/img/{name} differs from its description; make it again: python docs/drawings"


@pytest.mark.parametrize("drawing", ALL, ids=lambda each: each.name)
def test_a_page_shows_the_drawing_and_links_to_its_source(drawing):
    pages = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    assert any(re.search(rf"!\[[^\]]+\]\(img/{drawing.name}\.svg\)", page) for page in pages)
    assert any(f"(img/{drawing.name}.drawio)" in page for page in pages)


# ── SVG ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("drawing", ALL, ids=lambda each: each.name)
def test_the_svg_says_what_it_shows_and_asks_nobody_for_anything(drawing):
    text = svg_of(drawing)
    root = ElementTree.fromstring(text)
    named = [root.find(f"{SVG}{tag}") for tag in ("title", "desc")]
    assert [each.text for each in named] == [drawing.title, drawing.description]
    assert root.get("aria-labelledby") == " ".join(each.get("id") for each in named)
    assert not re.search(r"href|@import|@font-face|<image|<foreignObject|<script", text)
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("drawing", ALL, ids=lambda each: each.name)
def test_every_colour_of_the_svg_is_known_on_light_and_on_dark_pages(drawing):
    text = svg_of(drawing)
    light, dark = re.findall(r":root \{(.*?)\}", text)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    for shades in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", shades))


# ── What diagrams.net needs ──────────────────────────────────────────────────────────────────────────────────────────


class Label(HTMLParser):
    """Tags of a label in HTML that are open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.open += [tag] * (tag != "br")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("drawing", ALL, ids=lambda each: each.name)
def test_diagrams_net_can_open_the_source(drawing):
    """The rules are those of its own description of the format: two first cells, one geometry each, ends that exist."""
    file = ElementTree.fromstring(drawio_of(drawing))
    assert [file.tag, file[0].tag, file[0][0].tag, file[0][0][0].tag] == ["mxfile", "diagram", "mxGraphModel", "root"]
    cells = list(file[0][0][0])
    assert [(cell.tag, cell.attrib) for cell in cells[:2]] == [
        ("mxCell", {"id": "0"}),
        ("mxCell", {"id": "1", "parent": "0"}),
    ]
    names = [cell.get("id") for cell in cells]
    assert len(set(names)) == len(names) == 2 + len(drawing.boxes) + len(drawing.arrows)
    vertices = {cell.get("id") for cell in cells if cell.get("vertex") == "1"}
    for cell in cells[2:]:
        assert (cell.get("parent"), (cell.get("vertex") == "1") + (cell.get("edge") == "1")) == ("1", 1)
        assert re.fullmatch(r"(\w+=[^;=]+;)+", cell.get("style"))
        (geometry,) = cell
        assert (geometry.tag, geometry.get("as")) == ("mxGeometry", "geometry")
        if cell.get("edge") == "1":
            assert {cell.get("source"), cell.get("target")} <= vertices
            assert geometry.get("relative") == "1"
        else:
            assert float(geometry.get("width")) > 0
            assert float(geometry.get("height")) > 0
            assert Label(cell.get("value")).open == []


# ── Nothing is in the way of anything ────────────────────────────────────────────────────────────────────────────────


@cache
def font(name: str) -> FT2Font:
    """Return a font of DejaVu, which is the widest of those that usually replace a missing one."""
    return FT2Font(str(FONTS / f"{name}.ttf"))


def width_of(text: str, size: float, bold: bool, code: bool) -> float:
    """Return the width of a text [px]."""
    used = font("DejaVuSansMono" if code else "DejaVuSans-Bold" if bold else "DejaVuSans")
    used.set_size(size, 72)
    used.set_text(text)
    return used.get_width_height()[0] / 64


def text_places(box: Box) -> list[tuple[str, Rectangle]]:
    """Return each line of a box and where it is."""
    x, anchor = box.anchor()
    found = []
    for (text, size, bold), baseline in zip(box.text, box.baselines(), strict=True):
        width = width_of(text, size, bold, box.code)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        found.append((text, (left, baseline - 0.72 * LINE_HEIGHT, left + width, baseline + 0.28 * LINE_HEIGHT)))
    return found


def edges(box: Box) -> Rectangle:
    return box.x, box.y, box.x + box.width, box.y + box.height


def overlap(one: Rectangle, other: Rectangle, slack: float = 0.5) -> bool:
    return all(one[i] < other[i + 2] - slack and other[i] < one[i + 2] - slack for i in range(2))


def holds(outer: Rectangle, inner: Rectangle, slack: float = 0.5) -> bool:
    return all(outer[i] <= inner[i] + slack and inner[i + 2] <= outer[i + 2] + slack for i in range(2))


def is_seen(box: Box) -> bool:
    return bool(box.look.fill or box.look.stroke)


def crosses(points: list[tuple[float, float]], place: Rectangle) -> bool:
    """Return whether a line of horizontal, vertical or slanted parts goes through a rectangle."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        along = [(x0 + (x1 - x0) * part / 200, y0 + (y1 - y0) * part / 200) for part in range(201)]
        if any(place[0] + 1 < x < place[2] - 1 and place[1] + 1 < y < place[3] - 1 for x, y in along):
            return True
    return False


def obstacles(drawing: Drawing) -> list[str]:
    """Return what is in the way of something else in a drawing, as sentences."""
    found, page = [], (0.0, 0.0, WIDTH, drawing.height)
    written = [(box, text, place) for box in drawing.boxes for text, place in text_places(box)]
    for box, text, place in written:
        if not (holds(edges(box), place) and holds(page, place)):
            found.append(f"'{text}' is larger than {box.name}")
        for other in filter(is_seen, drawing.boxes):
            if other is not box and overlap(place, edges(other)) and not holds(edges(other), edges(box)):
                found.append(f"{other.name} is in the way of '{text}'")
    for (_, text, place), (_, other_text, other_place) in itertools.combinations(written, 2):
        if overlap(place, other_place):
            found.append(f"'{text}' and '{other_text}' overlap")
    for one, other in itertools.combinations(filter(is_seen, drawing.boxes), 2):
        apart = not overlap(edges(one), edges(other))
        inside = holds(edges(one), edges(other)) or holds(edges(other), edges(one))
        if not apart and not inside and "saved" not in (one.kind, other.kind):  # a checkpoint is wider than the bar
            found.append(f"{one.name} and {other.name} overlap")
    for arrow in drawing.arrows:
        found += [f"{arrow.source} to {arrow.target} goes through {what}" for what in crossed(drawing, arrow, written)]
    return found


def crossed(drawing: Drawing, arrow: Arrow, written: list[tuple[Box, str, Rectangle]]) -> list[str]:
    """Return the boxes and texts through which an arrow goes; a box below one of its ends does not count."""
    points, ends = drawing.points(arrow), [drawing.box(name) for name in (arrow.source, arrow.target)]
    middles = [end.at((0.5, 0.5)) for end in ends]
    below = [
        box
        for box in drawing.boxes
        for x, y in middles
        if edges(box)[0] <= x <= edges(box)[2] and edges(box)[1] <= y <= edges(box)[3]
    ]
    found = [box.name for box in filter(is_seen, drawing.boxes) if box not in below and crosses(points, edges(box))]
    return found + [f"'{text}'" for _, text, place in written if crosses(points, place)]


@pytest.mark.parametrize("drawing", ALL, ids=lambda each: each.name)
def test_no_text_box_or_arrow_is_in_the_way_of_another_in_a_wide_font(drawing):
    assert obstacles(drawing) == []


def test_what_is_in_the_way_is_found():
    drawing = Drawing("planted", "", "", 200.0)
    drawing.add(
        Box("left", 10, 10, 80, 30, lines=("too long a text",)),
        Box("middle", 110, 10, 80, 30),
        Box("right", 210, 10, 80, 30),
        Box("label", 300, 10, 80, 20, lines=("a",), kind="text"),
        Box("other", 310, 10, 60, 20, lines=("b",), kind="text"),
        Box("corner", 200, 30, 60, 30, lines=("c",)),
        Arrow("left", "right"),
        Arrow("right", "corner", (1, 0.5), (0.5, 1), via=((340, 25), (340, 80), (230, 80))),
    )
    assert set(obstacles(drawing)) == {
        "'too long a text' is larger than left",
        "'a' and 'b' overlap",
        "right and corner overlap",
        "right is in the way of 'c'",
        "left to right goes through middle",
        "left to right goes through 'too long a text'",
        "right to corner goes through 'a'",
        "right to corner goes through 'b'",
    }
