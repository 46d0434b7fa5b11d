"""``hpctrain diff`` and ``hpctrain rerun``: what differs between two runs; a new run with the profile of an old one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpctrain.cli import run_command
from hpctrain.report.differences.curves import parting_of
from hpctrain.report.differences.origins import compare_data, differing
from hpctrain.rundir import RunDir, read_json, write_json

PROFILE = """\
name: tiny
launch: {{gpus_per_node: 0, cpus_per_rank: 1, cluster: slurm, runs_dir: {runs}}}
data: {{files: [{data}]}}
train: {{seed: {seed}, epochs: 2}}
"""


def a_run(folder: Path, number: int, losses: Sequence[float], seed: int = 1, **origin: object) -> RunDir:
    run = RunDir(folder / "runs" / "tiny" / f"20261126-120000-{number:04x}")
    run.path.mkdir(parents=True)
    data = folder / "spectra.h5"
    if not data.exists():
        data.write_bytes(b"\x89HDF\r\n\x1a\n")
    run.profile.write_text(PROFILE.format(runs=folder / "runs", data=data, seed=seed))
    facts = data.stat()
    file = {"path": str(data), "bytes": facts.st_size, "modified": facts.st_mtime, "columns": {}}
    write_json(run.provenance, {"host": "login", "packages": {"torch": "2.13"}, "data": [file], **origin})
    records = [
        {"kind": "train", "step": step, "time": 1.0, "attempt": 1, "loss": loss}
        for step, loss in enumerate(losses, start=1)
    ]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run


def test_lists_of_sections_are_compared_element_by_element_and_other_lists_as_a_whole():
    one = {"a": {"b": [1, 2], "labels": [{"column": "Z"}]}, "same": True, "empty": {}}
    other = {"a": {"b": [1, 3], "labels": [{"column": "Z", "kind": "value"}]}, "same": 1, "empty": {"x": 1.0}}
    found = [(each.name, each.before, each.after) for each in differing(one, other)]
    assert found == [
        ("a.b", [1, 2], [1, 3]),
        ("same", True, 1),
        ("a.labels.0.kind", "(absent)", "value"),
        ("empty.x", "(absent)", 1.0),
    ]


def test_stored_hashes_decide_whether_data_are_the_same_also_after_a_copy():
    before = [
        {"path": "/a.h5", "bytes": 10, "modified": 1.0, "columns": {"x": "1" * 64}},
        {"path": "/b.h5", "bytes": 10, "modified": 1.0, "columns": {}},
        {"path": "/c.h5", "bytes": 10, "modified": 1.0, "columns": {"x": "2" * 64}},
        {"path": "/gone.h5", "bytes": 1, "modified": 1.0},
    ]
    after = [
        {"path": "/copy/a.h5", "bytes": 10, "modified": 9.0, "columns": {"x": "1" * 64}},
        {"path": "/b.h5", "bytes": 10, "modified": 9.0, "columns": {}},
        {"path": "/c.h5", "bytes": 10, "modified": 1.0, "columns": {"x": "3" * 64}},
        {"path": "/new.h5", "bytes": 1, "modified": 1.0},
    ]
    states = {each.path: each.state for each in compare_data(before, after)}
    assert states == {
        "/copy/a.h5": "the same",
        "/b.h5": "perhaps changed",
        "/c.h5": "changed",
        "/gone.h5": "only first",
        "/new.h5": "only second",
    }


def test_curves_part_at_the_first_step_whose_loss_differs_in_its_last_bit(tmp_path):
    one = a_run(tmp_path, 1, [3.0, 2.0, 1.5, 1.2])
    other = a_run(tmp_path, 2, [3.0, 2.0, 1.5 + 2**-50, 1.3])
    assert parting_of(one, one).first_step is None
    found = parting_of(one, other)
    assert (found.num_common, found.last_equal, found.first_step, found.visible_step) == (4, 2, 3, 4)
    again = json.dumps({"kind": "train", "step": 3, "time": 2.0, "attempt": 2, "loss": 1.5}) + "\n"
    other.metrics.write_text(other.metrics.read_text() + again)  # a later attempt repeats step 3 and has no step 4
    assert parting_of(one, other).num_common == 3
    assert parting_of(one, other).first_step is None


def test_a_diff_fits_80_columns_and_says_the_same_as_its_json(tmp_path, capsys):
    one = a_run(tmp_path, 1, [3.0, 2.0])
    git = {"commit": "ab" * 20, "diff": "+" + "x" * 200}
    other = a_run(tmp_path, 2, [3.0, 2.5], 7, code={"git": git}, packages={"torch": "2.14"})
    runs = [str(one.path), str(other.path)]
    assert run_command("diff", runs) == 0
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if not line.startswith(("first ", "second "))) <= 80
    for text in (
        "1 key of",
        "train.seed  1 → 7",
        "data: the same (1 file)",
        "torch        2.13 → 2.14",
        "up to step 1",
    ):
        assert text in said
    assert run_command("diff", [*runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == [{"name": "train.seed", "before": 1, "after": 7}]
    assert (found["loss"]["first_step"], found["loss"]["losses"]) == (2, [2.0, 2.5])


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> None:
    """An sbatch on PATH that takes every job."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text("#!/bin/sh\necho 'Submitted batch job 77'\n")
    (commands / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)


def test_a_rerun_keeps_profile_and_seed_says_what_differs_and_records_its_parent(tmp_path, sbatch, capsys):
    old = a_run(tmp_path, 1, [3.0], seed=5)
    assert run_command("rerun", [str(old.path), "--no-memory", "--set", "train.epochs=3"]) == 0
    said = capsys.readouterr()
    assert "train.epochs  2 → 3" in said.err.replace("2.0", "2").replace("3.0", "3")
    assert "train.seed" not in said.err
    (new,) = (path for path in old.path.parent.iterdir() if path != old.path and not path.is_symlink())
    assert f"run directory  runs/tiny/{new.name}" in said.out
    parent = read_json(new / "provenance.json")["parent"]
    assert parent["run"] == str(old.path)
    assert list(parent["profile"]) == ["train.epochs"]
    assert parent["code"]["torch"][0] == "2.13"
    assert run_command("rerun", [str(tmp_path)]) == 2
    old.profile.unlink()
    assert run_command("rerun", [str(old.path)]) == 2
