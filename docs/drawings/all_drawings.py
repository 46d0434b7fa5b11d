"""All drawings, and the files that are made from them."""

from __future__ import annotations

from drawings import order, requeue, resume, save, stages
from drawings.as_drawio import drawio_of
from drawings.as_svg import svg_of
from drawings.shapes import Drawing


def drawings() -> list[Drawing]:
    """Return every drawing."""
    return [each.drawing() for each in (stages, requeue, order, save, resume)]


def texts() -> dict[str, str]:
    """Return the text of every file by its name in ``docs/img``."""
    found = {}
    for each in drawings():
        found |= {f"{each.name}.svg": svg_of(each), f"{each.name}.drawio": drawio_of(each)}
    return found
