"""Figures described as plain values are drawn as they are described, whatever they mean."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from astropy.wcs import WCS

from hpctrain.drawing.described.cloud import FEWEST, MOST_POINTS, NUM_CELLS, cloud
from hpctrain.drawing.described.draw import draw_figure, draw_figures
from hpctrain.drawing.described.figure import DATA, Figure, figure, read_figure
from hpctrain.drawing.described.sky import mollweide

CELL = {"corners": [[350.0, 0.0], [370.0, 0.0], [370.0, 10.0], [350.0, 10.0]], "value": 0.25, "num": 7}
SMALLEST = {
    "scatter": {"x": [1, 2, 3], "y": [1, np.nan, 3], "lower": {"axis": {"label": "rest"}, "x": [1], "y": [0]}},
    "histogram": {"edges": [0, 1, 2], "series": [{"values": [3, 5]}], "expected": [4, 4], "marks": [{"value": 1}]},
    "curve": {"lines": [{"x": [0, 1], "y": [0, 1], "low": [0, 0.5], "high": [0.2, 1], "name": "<one>"}]},
    "matrix": {"rows": ["<a>", "b"], "columns": ["<a>", "b"], "counts": [[9, 1], [0, 4]]},
    "bars": {"names": ["<a>", "b"], "series": [{"values": [1, 2], "low": [0, 1], "high": [2, None], "num": [5, 6]}]},
    "sky": {"cells": [CELL], "label": "<bias>", "around": 0.0},
    "table": {"heads": ["name", "value"], "rows": [["<a>", 0.5], ["b", None]]},
}


def described(kind, **more):
    return json.loads(json.dumps(figure(f"a.{kind}", "A <title>", kind, SMALLEST[kind], "A caption.", **more)))


@pytest.mark.parametrize("kind", sorted(DATA))
def test_every_kind_is_drawn_as_well_formed_html_with_escaped_texts(kind):
    html = draw_figure(read_figure(described(kind)))
    root = ElementTree.fromstring(html)
    assert root.tag == "figure"
    assert "A <title>" in "".join(root.find("figcaption").itertext())
    told = "".join(root.itertext()) + " ".join(each.get("aria-label", "") for each in root.iter())
    assert "<a>" in told or "<one>" in told or "<bias>" in told or kind in ("scatter", "histogram")


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("bars", {"names": ["a"], "series": [{"values": [1, 2]}]}, "names and values have different lengths: 1, 2"),
        ("histogram", {"edges": [0, 1], "series": [{"values": [1, 2]}]}, "have different lengths: 1, 2"),
        ("curve", {"lines": [{"x": [1, 2], "y": [1]}]}, "x, y, low and high have different lengths: 2, 1"),
        ("matrix", {"rows": ["a"], "columns": ["a"], "counts": [[1, 2]]}, "columns and each row of counts"),
        ("table", {"heads": ["a"], "rows": [["b", 1]]}, "heads and each row have different lengths: 1, 2"),
        ("scatter", {"x": [1.0], "y": [1.0], "z": [1.0]}, "Extra inputs are not permitted"),
    ],
)
def test_a_figure_whose_parts_do_not_fit_together_is_refused(kind, data, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        figure("a.b", "title", kind, data)


def test_numbers_that_are_not_finite_become_none_and_those_of_numpy_plain():
    data = described("scatter")["data"]
    assert data["y"] == [1.0, None, 3.0]
    points = figure("a.b", "t", "scatter", {"x": np.array([1e-7, np.inf]), "y": np.float32([0.1, 2])})["data"]
    assert points == {"x": [1e-7, None], "y": [0.1, 2.0]}


@pytest.mark.parametrize("kind", ["scatter", "histogram", "curve", "matrix", "bars", "sky"])
def test_a_figure_without_numbers_is_left_out(kind):
    empty = {
        "scatter": {},
        "histogram": {"edges": [0, 1], "series": [{"values": [0]}]},
        "curve": {"lines": []},
        "matrix": {"rows": [], "columns": [], "counts": []},
        "bars": {"names": ["a"], "series": [{"values": [None]}]},
        "sky": {"cells": [{**CELL, "value": None}]},
    }
    assert draw_figures([read_figure(figure("a.b", "t", kind, empty[kind]))]) == ""


def test_two_figures_are_side_by_side_and_wide_ones_alone():
    figures = [read_figure(described(kind)) for kind in ("curve", "histogram", "matrix", "bars")]
    root = ElementTree.fromstring(f"<div>{draw_figures(figures)}</div>")
    assert [(each.tag, len(each.findall("figure"))) for each in root] == [("div", 2), ("figure", 0), ("div", 1)]


def test_the_projection_of_the_sky_is_that_of_astropy():
    lon, lat = (grid.ravel() for grid in np.meshgrid(np.linspace(-179, 179, 37), np.linspace(-89.9, 89.9, 41)))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---MOL", "DEC--MOL"], [0, 0], [1, 1]
    x, y = np.radians(wcs.wcs_world2pix(np.stack([lon, lat], axis=1), 0) + 1).T
    assert np.allclose(mollweide(lon, lat), (x, y), atol=1e-6)


def test_a_cell_across_the_rim_of_the_map_is_drawn_at_both_sides():
    far = {**CELL, "corners": [[170.0, 0.0], [190.0, 0.0], [190.0, 10.0], [170.0, 10.0]]}
    html = draw_figure(Figure.model_validate({**described("sky"), "data": {"cells": [CELL, CELL, far]}}))
    paths = re.findall(r'<path class="cell z\d" d="([^"]+)"', html.split('class="on-phone"')[0])
    assert sorted(path.count("M") for path in paths) == [1, 1, 2]
    ends = [float(x) for x in re.findall(r"[ML]([\d.]+) ", max(paths, key=lambda path: path.count("M")))]
    assert min(ends) < 40
    assert max(ends) > 470


def test_every_point_is_in_a_cell_or_drawn_alone():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 20_000))
    parts = cloud(x, y, (-6, 6), (-2, 2))
    cells = np.array(parts["cells"]["filled"])
    assert cells[:, 2].min() >= FEWEST
    assert len(parts["x"]) <= MOST_POINTS
    assert cells[:, 2].sum() + len(parts["x"]) == 20_000
    counts, _, _ = np.histogram2d(x, np.clip(y, -2, 2), bins=NUM_CELLS, range=[(-6, 6), (-2, 2)])
    assert (counts[cells[:, 0], cells[:, 1]] == cells[:, 2]).mean() > 0.99  # but for points on an edge
    few = cloud(x[:100], y[:100], (-6, 6), (-2, 2))
    assert "cells" not in few
    assert len(few["x"]) == 100
