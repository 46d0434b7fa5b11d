"""The proof that a user runs: real ranks, real signals, a table that says identical, and one that does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
import yaml
from families import EXAMPLES
from small_network import SMALL_NETWORK

from hpctrain.cli import main
from hpctrain.verify.certificate import check_tables


@pytest.fixture
def profile(tmp_path, spectra_file, monkeypatch, warm_python):
    """A profile whose run takes a second after its start."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "small",
                "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1},
                "data": {"files": [str(spectra_file)], "reader_threads": 1, "split": {"validation": 0.2}},
                "model": SMALL_NETWORK,
                "train": {
                    "batch_size": 16,
                    "accumulation": 2,
                    "epochs": 6,
                    "warmup_steps": 5,
                    "device": "cpu",
                    "ema_decay": 0.9,
                },
                "track": {"tensorboard": False},
            }
        )
    )
    return path


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name `folder`, but for zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


@pytest.mark.parametrize(("ranks", "kills"), [(1, 3), (2, 1)])
def test_a_run_that_is_cut_at_random_is_identical_and_its_table_says_so(profile, tmp_path, capsys, ranks, kills):
    table = tmp_path / "table.md"
    shape = ["--steps", "30", "--kills", str(kills), "--ranks", str(ranks)]
    code = main(["verify-resume", str(profile), *shape, "--out", str(table), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = json.loads(printed.out)
    assert found["identical"] is True
    assert len(found["cuts"]) == kills or found["too_late"]
    assert any(cut["how"] == "SIGKILL to all ranks" for cut in found["cuts"])
    assert {len(cut["exit_codes"]) for cut in found["cuts"]} == {ranks}
    names = " ".join(part["name"] for part in found["compared"])
    for part in ("model.safetensors", "optimizer.safetensors", "ema.safetensors", "training", "validation", "spectra"):
        assert part in names
    assert list(check_tables(table.read_text())) == [("Resume check of `small`: identical", True)]
    assert Path(found["table"]).read_text() == table.read_text()
    assert not processes_of(tmp_path)


CARELESS = """
import numpy as np
from examples.linear_autoencoder import LinearAutoencoder, LinearFamily

class Careless(LinearAutoencoder):
    def forward(self, batch, step=0):
        sums = super().forward(batch, step)
        return sums | {"loss_sum": sums["loss_sum"] * np.random.uniform(0.9, 1.1)}

class CarelessFamily(LinearFamily):
    def network(self, section, facts):
        return Careless(section, facts)

FAMILY = CarelessFamily()
"""


def test_runs_that_differ_are_called_so_with_exit_code_5(profile, tmp_path, monkeypatch, capsys):
    """A user's own network draws random numbers that nobody has seeded."""
    (tmp_path / "careless").mkdir()
    (tmp_path / "careless" / "network.py").write_text(CARELESS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    values = yaml.safe_load(profile.read_text()) | {"model": {"family": "careless.network"}}
    profile.write_text(yaml.safe_dump(values))
    assert main(["verify-resume", str(profile), "--steps", "12", "--kills", "1"]) == 5
    printed = capsys.readouterr()
    assert "Resume check of `small`: NOT identical" in printed.out
    assert "differs from the undisturbed one: SHA-256 of `model.safetensors`" in printed.err
    assert "step 1 loss" in printed.out
    assert "Traceback" not in printed.err


def test_a_run_that_does_not_finish_alone_is_an_error_with_the_ranks_last_words(
    profile, tmp_path, spectra_file, capsys
):
    broken = tmp_path / "broken.h5"
    shutil.copy(spectra_file, broken)
    with h5py.File(broken, "r+") as file:
        file["flux"][17, 150] = 1e30
    changes = ["--set", f"data.files=[{broken}]", "--set", "data.split.validation=0.0"]
    assert main(["verify-resume", str(profile), "--steps", "12", *changes]) == 6
    said = capsys.readouterr().err
    assert "the undisturbed run does not finish: exit codes 6" in said
    assert "target_id 1017" in said
    assert str(next(tmp_path.glob("runs/small-verify/*-straight"))) in said
    assert "Traceback" not in said
    assert not processes_of(tmp_path)


def test_ctrl_c_leaves_no_rank_behind_and_says_where_the_runs_are(profile, tmp_path):
    command = [sys.executable, "-m", "hpctrain", "verify-resume", str(profile), "--ranks", "2", "--set"]
    process = subprocess.Popen([*command, "train.epochs=5000"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("runs/small-verify/*-straight/attempts/0001.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert str(next(tmp_path.glob("runs/small-verify/*-straight"))) in said
    assert not [line for line in processes_of(tmp_path) if "hpctrain.train" in line]
