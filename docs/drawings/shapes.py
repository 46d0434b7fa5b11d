"""What a drawing is made of: boxes with text, and arrows between them; ``as_svg`` and ``as_drawio`` write it."""

from __future__ import annotations

from dataclasses import dataclass, field

WIDTH = 560.0
"""Width of all drawings [about CSS pixels]: a text of 14 is still readable where a phone shows it 360 wide."""
TITLE_SIZE, TEXT_SIZE, LINE_HEIGHT = 15.0, 14.0, 18.0
"""Sizes of a bold first line and of other text, and the distance of lines [px]."""
MARGIN = 8.0
"""Room between the edge of a box and text that is aligned with it [px]."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How boxes or arrows of a kind look; colours are names of variables in ``hpctrain/drawing/style.css``.

    Parameters
    ----------
    fill, stroke : str
        Names of colours; empty for none.
    tint : float
        Opacity of the fill, in [0, 1].
    text : str
        Colour of the text.
    dashed : bool
        Whether the outline, or the line of an arrow, is dashed.
    radius : float
        Of the corners [px].
    """

    fill: str = "card"
    stroke: str = "soft"
    tint: float = 1.0
    text: str = "ink"
    dashed: bool = False
    radius: float = 5.0


LOOKS = {
    "box": Look(),
    "file": Look(fill="code", stroke="raw"),
    "outside": Look(fill="card", stroke="soft", dashed=True),
    "good": Look(fill="good", stroke="good", tint=0.14),
    "bad": Look(fill="bad", stroke="bad", tint=0.12),
    "held": Look(fill="held", stroke="held", tint=0.14),
    "blue": Look(fill="c1", stroke="c1", tint=0.16),
    "orange": Look(fill="c2", stroke="c2", tint=0.16),
    "green": Look(fill="c3", stroke="c3", tint=0.16),
    "pink": Look(fill="c4", stroke="c4", tint=0.16),
    "text": Look(fill="", stroke=""),
    "soft": Look(fill="", stroke="", text="soft"),
    "bad text": Look(fill="", stroke="", text="bad"),
    "good text": Look(fill="", stroke="", text="good"),
    "band": Look(fill="code", stroke="", radius=4.0),
    "life": Look(fill="raw", stroke="", radius=0.0),
    "waiting": Look(fill="waiting", stroke="", radius=2.0),
    "running": Look(fill="busy", stroke="", radius=2.0),
    "ended": Look(fill="good", stroke="", radius=2.0),
    "killed": Look(fill="bad", stroke="", radius=2.0),
    "saved": Look(fill="good", stroke="", radius=6.0),
    "flow": Look(stroke="soft"),
    "flow good": Look(stroke="good"),
    "flow bad": Look(stroke="bad"),
    "flow blue": Look(stroke="c1"),
}
"""Looks by the ``kind`` of a box or an arrow."""


@dataclass(frozen=True)
class Box:
    """A rectangle with centred or left-aligned text; without fill and outline it is a label.

    Parameters
    ----------
    name : str
        Its identifier, unique in the drawing.
    x, y, width, height : float
        Left, top and size [px].
    title : str
        First line, in bold.
    lines : tuple of str
        Further lines.
    kind : str
        A key of `LOOKS`.
    align : str
        ``center``, ``left`` or ``right``.
    code : bool
        Whether the text is a name of a file or a command, in letters of one width.
    """

    name: str
    x: float
    y: float
    width: float
    height: float
    title: str = ""
    lines: tuple[str, ...] = ()
    kind: str = "box"
    align: str = "center"
    code: bool = False

    @property
    def look(self) -> Look:
        """How it looks."""
        return LOOKS[self.kind]

    @property
    def text(self) -> list[tuple[str, float, bool]]:
        """Its lines with their sizes [px], and whether each is bold."""
        first = [(self.title, TITLE_SIZE, True)] if self.title else []
        return [*first, *((line, TEXT_SIZE, False) for line in self.lines)]

    def anchor(self) -> tuple[float, str]:
        """Return where its text is anchored (x), and how SVG calls that."""
        places = {
            "center": (self.x + self.width / 2, "middle"),
            "left": (self.x + (MARGIN if self.look.fill or self.look.stroke else 0.0), "start"),
            "right": (self.x + self.width - (MARGIN if self.look.fill or self.look.stroke else 0.0), "end"),
        }
        return places[self.align]

    def baselines(self) -> list[float]:
        """Return the y of the baseline of each line; the block of lines is centred in the box."""
        top = self.y + self.height / 2 - LINE_HEIGHT * len(self.text) / 2
        return [top + LINE_HEIGHT * (number + 0.72) for number in range(len(self.text))]

    def at(self, place: Point) -> Point:
        """Return a point of the box from its fractions of width and height."""
        return self.x + place[0] * self.width, self.y + place[1] * self.height


@dataclass(frozen=True)
class Arrow:
    """A line of straight parts from a box to another, with a head at its end.

    Parameters
    ----------
    source, target : str
        Names of boxes.
    leave, enter : (float, float)
        Where it touches them, in fractions of their width and height.
    via : tuple of (float, float)
        Corners between [px].
    kind : str
        A key of `LOOKS`.
    """

    source: str
    target: str
    leave: Point = (1.0, 0.5)
    enter: Point = (0.0, 0.5)
    via: tuple[Point, ...] = ()
    kind: str = "flow"

    @property
    def look(self) -> Look:
        """How it looks."""
        return LOOKS[self.kind]


@dataclass
class Drawing:
    """A drawing: its name (of the files), its title and description for those who cannot see it, and its parts."""

    name: str
    title: str
    description: str
    height: float
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def box(self, name: str) -> Box:
        """Return a box by its name.

        Raises
        ------
        KeyError
            There is no such box.
        """
        found = {each.name: each for each in self.boxes}
        return found[name]

    def add(self, *parts: Box | Arrow) -> None:
        """Add boxes and arrows."""
        for part in parts:
            if isinstance(part, Box):
                self.boxes.append(part)
            else:
                self.arrows.append(part)

    def points(self, arrow: Arrow) -> list[Point]:
        """Return the points of an arrow, from the source to the target."""
        return [self.box(arrow.source).at(arrow.leave), *arrow.via, self.box(arrow.target).at(arrow.enter)]
