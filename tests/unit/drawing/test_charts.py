"""Charts in the terminal and as pictures: of metrics of a run, and of one spectrum, image or light curve of a file."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.cli import run_command
from hpctrain.drawing.chart.parts import MODEL, POINTS, Chart, Curve, Panel, stretched
from hpctrain.drawing.chart.terminal import draw_in_terminal
from hpctrain.kinds.guess import guess_kind


def drawn(*curves: Curve, width: int = 40, height: int = 8, **panel: object) -> list[str]:
    chart = Chart("chart", [Panel("panel", "x", curves=list(curves), **panel)])  # type: ignore[arg-type]
    return draw_in_terminal(chart, width, height).splitlines()


def rows_with_dots(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if any("\u2800" < sign <= "\u28ff" for sign in line)]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right_without_a_gap():
    x = np.arange(3.0)
    lines = drawn(Curve("a", x, x))
    plot = [line[10:].ljust(30) for line in lines if line[9:10] in ("┤", "│")]
    assert len(plot) == 8
    assert len(plot[0].rstrip()) == 30
    assert plot[-1][0] != " "
    assert all(any(row[column] != " " for row in plot) for column in range(30))
    assert max(map(len, lines)) <= 40


def test_a_gap_stays_a_gap_and_a_lone_point_is_drawn():
    y = np.array([1.0, np.nan, 1.0, 1.0, np.nan, 2.0])
    lines = drawn(Curve("a", np.arange(6.0), y))
    assert rows_with_dots(lines)[0] < rows_with_dots(lines)[-1]
    assert drawn(Curve("a", np.arange(2.0), np.full(2, np.nan)))[-1] == "  no finite values"


def test_magnitudes_are_drawn_with_bright_ones_at_the_top_and_markers_tell_bands_apart():
    x = np.array([0.0, 1.0])
    lines = drawn(
        Curve("g", x, np.array([15.0, 20.0]), POINTS), Curve("r", x, np.array([16.0, 19.0]), POINTS), flip_y=True
    )
    text = "\n".join(lines)
    assert "• g, × r" in text
    first = next(line for line in lines if "•" in line and "┤" in line)
    assert first.startswith("       15┤")


def test_a_model_is_drawn_over_the_data_and_colours_are_escape_sequences_only_if_asked_for():
    x = np.arange(5.0)
    chart = Chart("chart", [Panel("p", curves=[Curve("model", x, x, MODEL), Curve("data", x, x)])])
    assert "\x1b" not in draw_in_terminal(chart)
    coloured = draw_in_terminal(chart, colour=True)
    row = next(line for line in coloured.splitlines() if "┤" in line)
    assert "\x1b[36m" in row
    assert "\x1b[33m" not in row


def test_an_image_keeps_faint_structure_beside_a_bright_core():
    image = np.zeros((20, 20))
    image[8:12, 8:12] = 1.0
    image[10, 10] = 1000.0
    assert stretched(image)[9, 9] > 0.9
    image[0, 0] = np.nan
    assert stretched(image)[0, 0] == 0


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "runs" / "tiny" / "20261126-120000-0001"
    folder.mkdir(parents=True)
    (folder / "profile.yaml").write_text("name: tiny\n")
    records = [
        {"kind": "train", "step": step, "time": 1.0, "attempt": 1, "loss": 1 / step, "lr": 1e-3} for step in range(1, 9)
    ]
    records.append({"kind": "eval", "step": 8, "time": 1.0, "attempt": 1, "loss": 0.2})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    monkeypatch.chdir(tmp_path)
    return folder


def test_metrics_of_a_run_are_drawn_in_80_columns_and_as_pictures(run, capsys):
    assert run_command("plot", ["tiny", "loss", "learning_rate", "--height", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny/20261126-120000-0001"
    assert "loss: training, × evaluations" in lines
    assert max(map(len, lines)) <= 80
    assert run_command("plot", ["tiny", "-o", "loss.svg"]) == 0
    assert run_command("plot", ["tiny", "--log", "-o", "loss.png"]) == 0
    assert Path("loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("loss.svg").read_text()
    capsys.readouterr()
    for words, said in (
        (["tiny", "losss"], "did you mean 'loss'?"),
        (["tiny", "-o", "loss.gif"], "must end in one of .png, .svg, .pdf"),
        (["tiny", "--row", "3"], "is for a data file"),
    ):
        assert run_command("plot", words) == 2
        assert said in capsys.readouterr().err


def test_a_light_curve_is_found_by_its_object_and_a_table_is_refused(tmp_path, capsys):
    path = tmp_path / "curves.h5"
    with h5py.File(path, "w") as file:
        file["offsets"] = np.array([0, 2, 5])
        file["time"] = np.arange(5.0)
        file["value"] = np.arange(5, dtype=np.float32)
        file["value"].attrs["unit"] = "mag"
        file["error"] = np.ones(5, np.float32)
        file["band"] = np.array([0, 1, 0, 1, 1], np.int16)
        file["bands"] = ["g", "\x1b[31mr"]
        file["target_id"] = np.array([11, 12])
    assert guess_kind(path) == "light_curves"
    assert run_command("plot", [str(path), "--id", "12"]) == 0
    said = capsys.readouterr().out
    assert "object 12, row 1 of curves.h5: 3 points" in said
    assert "\\x1b[31mr" in said
    assert "\x1b" not in said
    assert run_command("plot", [str(path), "--id", "13"]) == 4
    assert "the first ones are 11, 12" in capsys.readouterr().err
    table = tmp_path / "table.h5"
    with h5py.File(table, "w") as file:
        file["MAG"] = np.zeros(3)
    assert run_command("plot", [str(table)]) == 2
    assert run_command("plot", [str(tmp_path / "gone.h5")]) == 4
