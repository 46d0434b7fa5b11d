"""Write a drawing as a file that diagrams.net (draw.io) opens and edits: plain XML, nothing compressed."""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree

from drawings.as_svg import number, palette
from drawings.shapes import MARGIN, TEXT_SIZE, WIDTH, Arrow, Box, Drawing

LAYER = "1"
"""Identifier of the layer that holds all parts; the root of a page is 0."""


def drawio_of(drawing: Drawing) -> str:
    """Return the text of a ``.drawio`` file with one page."""
    file = ElementTree.Element("mxfile", host="hpctrain")
    page = ElementTree.SubElement(file, "diagram", id=drawing.name, name=drawing.title)
    size = {"pageWidth": number(WIDTH), "pageHeight": number(drawing.height)}
    flags = {"grid": "1", "gridSize": "10", "guides": "1", "tooltips": "1", "connect": "1", "arrows": "1", "fold": "1"}
    more = {"page": "1", "pageScale": "1", **size, "math": "0", "shadow": "0"}
    model = ElementTree.SubElement(page, "mxGraphModel", **flags, **more)
    root = ElementTree.SubElement(model, "root")
    ElementTree.SubElement(root, "mxCell", id="0")
    ElementTree.SubElement(root, "mxCell", id=LAYER, parent="0")
    for box in drawing.boxes:
        _add_box(root, box)
    for place, arrow in enumerate(drawing.arrows, 1):
        _add_arrow(root, f"arrow-{place}", arrow)
    ElementTree.indent(file)
    return ElementTree.tostring(file, encoding="unicode") + "\n"


def _colour(name: str) -> str:
    return palette()[0][name] if name else "none"


def _style(**settings: object) -> str:
    return "".join(f"{key}={value};" for key, value in settings.items() if value is not None)


def _label(box: Box) -> str:
    lines = []
    for text, _, bold in box.text:
        lines.append(f"<b>{escape(text)}</b>" if bold else escape(text))
    return "<br>".join(lines)


def _add_box(root: ElementTree.Element, box: Box) -> None:
    look = box.look
    is_label = not (look.fill or look.stroke)
    style = _style(
        rounded=1 if look.radius else 0,
        arcSize=number(2 * look.radius) if look.radius else None,
        absoluteArcSize=1 if look.radius else None,
        html=1,
        fillColor=_colour(look.fill),
        fillOpacity=round(100 * look.tint) if look.tint < 1 else None,
        strokeColor=_colour(look.stroke),
        dashed=1 if look.dashed else None,
        fontColor=_colour(look.text),
        fontSize=number(TEXT_SIZE),
        fontFamily="Courier New" if box.code else "Helvetica",
        align=box.align,
        verticalAlign="middle",
        spacing=0,
        spacingLeft=0 if is_label or box.align != "left" else number(MARGIN),
        spacingRight=0 if is_label or box.align != "right" else number(MARGIN),
    )
    cell = ElementTree.SubElement(root, "mxCell", id=box.name, value=_label(box), style=style, vertex="1", parent=LAYER)
    place = {key: number(getattr(box, key)) for key in ("x", "y", "width", "height")}
    ElementTree.SubElement(cell, "mxGeometry", **place, **{"as": "geometry"})


def _add_arrow(root: ElementTree.Element, name: str, arrow: Arrow) -> None:
    (leave_x, leave_y), (enter_x, enter_y) = arrow.leave, arrow.enter
    style = _style(
        html=1,
        rounded=0,
        endArrow="block",
        endFill=1,
        endSize=5,
        strokeColor=_colour(arrow.look.stroke),
        strokeWidth=1.5,
        dashed=1 if arrow.look.dashed else None,
        exitX=f"{leave_x:.4g}",
        exitY=f"{leave_y:.4g}",
        exitPerimeter=0,
        entryX=f"{enter_x:.4g}",
        entryY=f"{enter_y:.4g}",
        entryPerimeter=0,
    )
    ends = {"source": arrow.source, "target": arrow.target}
    cell = ElementTree.SubElement(root, "mxCell", id=name, style=style, edge="1", parent=LAYER, **ends)
    geometry = ElementTree.SubElement(cell, "mxGeometry", relative="1", **{"as": "geometry"})
    if arrow.via:
        corners = ElementTree.SubElement(geometry, "Array", **{"as": "points"})
        for x, y in arrow.via:
            ElementTree.SubElement(corners, "mxPoint", x=number(x), y=number(y))
