"""The notebooks of the documentation: their cells run in their order, on fewer data, and git has no output of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpctrain.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))
COMMAND = re.compile(r"^!(.+)$", flags=re.MULTILINE)
"""What Jupyter gives to a shell; names in braces are variables."""
SMALL = {"num_spectra": 120, "num_pixels": 100, "epochs": 2, "sizes": (2,)}


def cells_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_git_has_the_notebook_without_what_its_cells_have_printed(path):
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert max(len(cell["source"]) for cell in code) <= 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_every_link_of_the_notebook_leads_to_a_page(path):
    text = "\n".join(source_of(cell) for cell in cells_of(path) if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert len(links) > 3
    assert [link for link in links if not (path.parent / link).exists()] == []


def shell(text: str) -> None:
    """Run a command of ours in this process, as a shell would."""
    program, *words = shlex.split(text)
    assert (program, main(words)) == ("hpctrain", 0), text


def run_cells(name: str) -> dict[str, Any]:
    """Run the code cells of a notebook in the current folder, with the numbers of `SMALL`; return its variables."""
    names: dict[str, Any] = {"shell": shell}
    for number, cell in enumerate(cells_of(REPOSITORY / "docs" / "notebooks" / f"{name}.ipynb"), 1):
        if cell["cell_type"] == "code":
            source = COMMAND.sub(lambda found: f"shell(f{found[1]!r})", source_of(cell))
            exec(compile(source, f"{name}, cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {name: value for name, value in SMALL.items() if name in names}
    return names


@pytest.fixture
def pyplot(tmp_path, monkeypatch, warm_python):
    """matplotlib without a screen, in a folder of its own; its figures are closed afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    yield pyplot
    pyplot.close("all")


@pytest.mark.slow
def test_the_first_look_trains_draws_and_ranks(pyplot, capsys):
    names = run_cells("first-look")
    assert names["run"].state == "finished"
    assert names["residual"].shape == (SMALL["num_pixels"],)
    assert (np.diff(names["catalogue"]["ANOMALY_SCORE"]) <= 0).all()
    assert len(pyplot.get_fignums()) == 5
    assert f"at the places {names['places'].tolist()} of {len(names['catalogue'])}" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_run_tells_is_read_compared_and_drawn(pyplot, capsys):
    with pytest.warns(UserWarning, match=r"train.learning_rate: 0.2 is very high for AdamW"):
        names = run_cells("what-a-run-tells")
    assert {run.state for run in (*names["runs"], names["mistyped"])} == {"finished"}
    assert len(names["table"]) == 1 + len(SMALL["sizes"])
    middle, low, high = names["medians"].T
    assert len(names["common"]) > 5
    assert ((low <= middle) & (middle <= high)).all()
    assert Path("latents.pdf").stat().st_size > 1000
    said = capsys.readouterr().out
    assert re.search(r"train\.learning_rate +0\.002 → 0\.2$", said, flags=re.MULTILINE)  # hpctrain diff
    assert said.count("no rule finds anything to change") == 2  # so few steps give no advice
    assert f"{len(names['common'])} objects in all runs" in said
