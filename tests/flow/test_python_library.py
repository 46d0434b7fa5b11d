"""hpctrain in Python: the page about it runs block by block, on a run that it submits itself."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import hpctrain
from hpctrain.errors import CheckpointError, ProfileError
from hpctrain.rundir import RunDir, write_json

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^(?P<expression>\S.*?)  # -> (?P<value>.+)$", flags=re.MULTILINE)
QUICKSTART = f"""\
extends: {REPOSITORY}/profiles/quickstart.yaml
platform: null
checkpoint: {{every_steps: 10}}
launch: {{ranks_per_node: 1}}
data: {{simulate: {{num_spectra: 240, num_pixels: 200}}}}
model: {{latent_size: 3, start_simulated: 0, encoder_hidden: [8], decoder_hidden: [8]}}
train: {{epochs: 2, batch_size: 16, warmup_steps: 2, log_every_steps: 1, evaluate_every_steps: 5}}
track: {{tensorboard: false, histogram_every_steps: null, figure_every_steps: null}}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder in which all blocks of the page have run, their variables, and each value with what the page says."""
    import matplotlib

    matplotlib.use("Agg")
    folder = tmp_path_factory.mktemp("page")
    (folder / "profiles").mkdir()
    (folder / "profiles" / "quickstart.yaml").write_text(QUICKSTART)
    before = Path.cwd()
    os.chdir(folder)
    try:
        names: dict = {}
        values = []
        text = PAGE.read_text()
        for block in BLOCK.finditer(text):
            lines_before = text.count("\n", 0, block.start(1))  # so that a traceback names the line of the page
            exec(compile("\n" * lines_before + block[1], str(PAGE), "exec"), names)
            for found in SHOWN.finditer(block[1]):
                expression, value = eval(found["expression"], names), eval(found["value"])
                values.append((found["expression"], expression, value))
    finally:
        os.chdir(before)
    return folder, names, values


@pytest.fixture
def run(page, monkeypatch):
    monkeypatch.chdir(page[0])
    return page[1]["run"]


@pytest.mark.slow
def test_every_block_of_the_page_runs_and_shows_what_it_says(page):
    _, names, values = page
    assert len(values) >= 7
    for expression, value, said in values:
        assert value == said, expression
    assert len(names["plt"].gcf().axes) == 1


@pytest.mark.slow
def test_a_run_gives_its_metrics_as_arrays(run):
    metrics = run.metrics
    records = list(RunDir(run.path).read_metrics("train"))
    assert metrics.train.step.tolist() == [record["step"] for record in records]
    np.testing.assert_array_equal(metrics.train["loss"], [record["loss"] for record in records])
    assert metrics.train["loss"].dtype == np.float64
    assert metrics.best["loss"] == metrics.evaluation["loss"].min()
    assert metrics.train.table.colnames[:3] == ["step", "time", "attempt"]
    assert [event["event"] for event in run.events][-1] == "finished"
    with pytest.raises(KeyError, match="no metric 'los'; there is"):
        metrics.train["los"]


@pytest.mark.slow
def test_predictions_are_those_of_the_model_for_the_held_out_objects(run):
    held_out = run.predictions
    assert isinstance(held_out, Table)
    assert held_out.colnames[0] == "target_id"
    assert held_out["NUM_PIXELS"].unit == "pix"
    again = run.model().encode("quickstart.h5")
    rows = np.flatnonzero(np.isin(again["target_id"], held_out["target_id"]))
    assert again["target_id"][rows].tolist() == held_out["target_id"].tolist()
    used = held_out["STATUS"] == 0
    np.testing.assert_array_equal(again["STATUS"][rows], held_out["STATUS"])
    np.testing.assert_allclose(again["RECON_MSE"][rows][used], held_out["RECON_MSE"][used], rtol=1e-3)


@pytest.mark.slow
def test_a_run_shows_itself_in_a_notebook_and_as_text(run):
    assert repr(run).startswith(f"<hpctrain.Run quickstart/{run.id}: finished, step ")
    shown = run._repr_html_()
    assert "finished" in shown
    assert str(run.path) in shown
    assert "finished" in hpctrain.runs()._repr_html_()
    assert "loss" in run.metrics._repr_html_()
    assert run.report().read_text().startswith("<!doctype html>")
    assert "finished at step" in run.logs()
    assert run.logs(lines=1).count("\n") == 1
    with pytest.raises(ProfileError, match="there is no log of rank 9"):
        run.logs(rank=9)
    assert "nothing to cancel" in run.cancel()


@pytest.mark.slow
def test_runs_are_found_by_name_state_and_profile(run):
    assert hpctrain.runs() == [run]
    assert hpctrain.runs(name="quick*", state=["finished", "failed"], train__seed=7) == [run]
    assert hpctrain.runs(state="running") == hpctrain.runs(train__seed=8) == hpctrain.runs(no__such__key=1) == []
    assert len(hpctrain.runs(state="running").table) == 0
    (row,) = hpctrain.runs().table
    assert (row["objective"], row["best"]) == ("loss", run.metrics.evaluation["loss"].min())
    with pytest.raises(ProfileError, match=r"found 'finnished'; did you mean 'finished'"):
        hpctrain.runs(state="finnished")
    assert hpctrain.Run(run.id) == hpctrain.Run(run.path) == run
    with pytest.raises(ProfileError, match=r"did you mean 'quickstart'"):
        hpctrain.Run("quickstrat")


@pytest.mark.slow
def test_a_checkpoint_is_a_model_too(run):
    newest = sorted((run.path / "checkpoints").glob("step-*"))[-1]
    for model in (run.model(checkpoint=newest.name), hpctrain.load(newest)):
        np.testing.assert_array_equal(
            model.encode("quickstart.h5")["LATENT_VEC"], run.model().encode("quickstart.h5")["LATENT_VEC"]
        )


@pytest.mark.slow
def test_the_profile_of_a_run_starts_another_one_which_can_be_cancelled(run, tmp_path):
    """It waits for a job that never ends, so nothing is trained."""
    waits_for = RunDir.create(tmp_path / "runs", "earlier")
    waits_for.profile.write_text("name: earlier\n")
    write_json(waits_for.job, {"name": "earlier", "cluster": "slurm", "submissions": [{"job_id": "7"}]})
    write_json(
        waits_for.heartbeat(0),
        {"rank": 0, "attempt": 1, "interval_s": 3000.0, "host": "n1", "state": "running", "time": 1.7e9 * 1.06},
    )
    assert hpctrain.Run(waits_for.path).state == "running"
    (tmp_path / "registry").mkdir()
    again = hpctrain.submit(run.profile, {"train": {"seed": 9}}, after=waits_for.path, runs_dir=tmp_path / "runs")
    assert again.profile.train.seed == 9
    assert again.profile.data == run.profile.data
    assert again.wait(timeout_s=0.1).state == "pending"
    with pytest.warns(UserWarning, match="the run is pending, and predictions are written at its end"):
        assert again.predictions is None
    with pytest.raises(CheckpointError):
        again.model()
    assert "asked supervisor" in again.cancel()
    assert again.wait().state in ("cancelled", "stopped", "unknown")
    entries = map(json.loads, (tmp_path / "registry/audit.jsonl").read_text().splitlines())
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("submit", str(again.path)),
        ("cancel", str(again.path)),
    ]


@pytest.mark.slow
def test_a_finished_run_is_trained_further_with_resume(run, tmp_path):
    copy = hpctrain.Run(shutil.copytree(run.path, tmp_path / "runs" / run.name / run.id))
    last = copy.metrics.train.step[-1]
    with pytest.warns(UserWarning, match=f"is finished at step {last}; there is nothing to do"):
        assert copy.resume() == copy
    with pytest.raises(ProfileError, match=r"train\.seed: is 7 in this run and cannot become 8"):
        copy.resume({"train.seed": 8})
    assert copy.status.num_attempts == 1
    assert copy.resume({"train.epochs": 3}, cluster="local") == copy
    assert copy.wait().state == "finished"
    assert copy.status.num_attempts == 2
    assert copy.metrics.train.step[-1] == last * 3 // 2
