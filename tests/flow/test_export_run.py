"""From a trained run to a bundle that a device runs: good ones, rejected ones, interrupted ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from small_network import SMALL_CONVOLUTIONS, SMALL_NETWORK

from hpctrain.cli import run_command
from hpctrain.edge import tensorrt
from hpctrain.edge.bundle import read_bundle
from hpctrain.edge.sparsify import prunable, zeros
from hpctrain.families.store import load_model
from hpctrain.profile.sections.data import SplitSection
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TRAIN, assign_split

LENIENT = ["edge.gates.chi2=5.0", "edge.gates.latent_error=0.2", "edge.gates.anomaly_rank=0.9"]
SPLIT = SplitSection(validation=0.3)
PYTHON = sys.executable
"""A Python whose children die with its group; those of ``warm_python`` do not."""


def train(folder, spectra_file, model, fork_server):
    """Train a network; tests work on copies of the run."""
    run = RunDir.create(folder, "exported", "run")
    profile = {
        "name": "exported",
        "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "cluster": "local"},
        "data": {"files": [str(spectra_file)], "reader_threads": 1, "split": {"validation": 0.3}},
        "model": model,
        "train": {"batch_size": 16, "accumulation": 2, "max_steps": 60, "warmup_steps": 5, "learning_rate": 5e-3}
        | {"device": "cpu", "log_every_steps": 1},
        "checkpoint": {"every_steps": 50},
        "track": {"tensorboard": False},
        "edge": {"max_held_out": 60, "calibration_spectra": 32, "latency_batch": 4, "latency_calls": 30}
        | {"gates": {"min_spectra": 5}},
    }
    run.profile.write_text(yaml.safe_dump(profile))
    process = fork_server.start("hpctrain.train", [str(run.path)], os.environ)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, spectra_file, fork_server):
    """A finished run of the default network."""
    return train(tmp_path_factory.mktemp("trained"), spectra_file, SMALL_NETWORK, fork_server)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run."""
    return RunDir(shutil.copytree(trained.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory, spectra_file, fork_server):
    """A finished run of a network of convolutions."""
    return train(tmp_path_factory.mktemp("convolutions"), spectra_file, SMALL_CONVOLUTIONS, fork_server)


@pytest.fixture(autouse=True)
def _no_tensorrt(monkeypatch, tmp_path):
    """None but what a test puts on PATH."""
    monkeypatch.setattr(tensorrt, "JETPACK", tmp_path / "no-trtexec")


def export(run, *arguments, lenient=True):
    sets = [word for setting in LENIENT for word in ("--set", setting)] if lenient else []
    return run_command("export", [str(run.path), *sets, *map(str, arguments)])


@pytest.fixture(scope="module", params=["trained", "convolutions"])
def each_run(request):
    """The run of each network."""
    return request.getfixturevalue(request.param)


def test_an_int8_bundle_says_on_the_device_what_the_trained_model_says(each_run, spectra_file, tmp_path, capsys):
    run = RunDir(shutil.copytree(each_run.path, tmp_path / "run"))
    assert export(run, "--quantise", "int8") == 0, capsys.readouterr()
    said = capsys.readouterr().out
    path = run.path / "export" / "onnx-int8"
    assert f"good: int8 in {path}" in said
    assert "latent_error" in said
    assert "batch 1: p50" in said
    assert sorted(item.name for item in path.parent.iterdir()) == ["onnx-int8"]  # nothing half-made is left
    bundle = read_bundle(path)
    assert bundle.is_good
    assert bundle.forest is not None
    entries = bundle.entries
    assert entries["network"]["precision"] == "int8"
    assert entries["network"]["inputs"][0] == {"name": "flux", "dtype": "float32", "shape": ["N", 200]}
    assert "int8" in {layer["precision"] for layer in entries["network"]["layers"]}
    assert {gate["gate"] for gate in entries["gates"]} == {"chi2", "latent_error", "anomaly_rank"}
    assert entries["held_out"]["side"] == "validation"
    assert [(item["batch"], item["calls"]) for item in entries["latency"]["measured"]] == [(1, 30), (4, 30)]
    assert entries["provenance"]["weights_sha256"]
    num_judged = entries["held_out"]["num_spectra"]
    ids = np.array(entries["calibration"]["target_ids"])
    assert len(ids) == len(set(ids)) == 32
    assert set(assign_split(ids, SPLIT)) == {TRAIN}  # calibration never sees a held-out spectrum

    out, whole = tmp_path / "device.h5", tmp_path / "whole.h5"
    assert run_command("infer", [str(path), str(spectra_file), "--out", str(out)]) == 0
    assert run_command("encode", [str(run.path), str(spectra_file), "--out", str(whole)]) == 0
    with h5py.File(out) as ours, h5py.File(whole) as theirs:
        np.testing.assert_array_equal(ours["target_id"][:], theirs["target_id"][:])
        assert ours.attrs["anomaly_reference"] == f"{num_judged} held-out spectra in the bundle"
        ours_latents, latents = ours["LATENT_VEC"][:].astype("f4"), theirs["LATENT_VEC"][:].astype("f4")
    error = (ours_latents - latents) / np.nanstd(latents, axis=0)
    has_convolutions = hasattr(load_model(run.path)[0].encoder, "blocks")
    assert np.sqrt(np.nanmean(error**2)) < (0.2 if has_convolutions else 0.02)


def test_a_network_without_half_its_science_is_rejected_and_not_run(convolutions, tmp_path, spectra_file, capsys):
    """One of convolutions: without hidden units, the default network is still PCA."""
    run = RunDir(shutil.copytree(convolutions.path, tmp_path / "run"))
    assert export(run, "--prune", "0.9", "--finetune-steps", "0", lenient=False) == 7
    captured = capsys.readouterr()
    path = run.path / "export" / "onnx-fp32-structured-90.rejected"
    assert str(path) in captured.err
    assert "gates failed: chi2, all" in captured.err
    assert "FAILED" in captured.out
    assert f"NOT GOOD: fp32 in {path}" in captured.out
    assert not path.with_name("onnx-fp32-structured-90").exists()
    bundle = read_bundle(path)
    assert not bundle.is_good
    assert any(not gate.get("passed", True) for gate in bundle.entries["gates"])
    assert run_command("infer", [str(path), str(spectra_file)]) == 5
    assert "did not pass its gates (chi2, all" in capsys.readouterr().err
    assert run_command("infer", [str(path), str(spectra_file), "--force"]) == 0


def test_a_gate_nothing_passes_says_what_was_tried_and_why_not(run, capsys):
    """No layer may be INT8 where nothing may change, and FP16 changes something, too."""
    nothing = ["--set", "edge.gates.latent_error=1e-9", "--set", "edge.gates.chi2=0"]
    assert export(run, "--quantise", "int8", *nothing, lenient=False) == 7
    assert "int8 was tried and not used: even a single layer in INT8 would exceed" in capsys.readouterr().out
    bundle = read_bundle(run.path / "export" / "onnx-fp16.rejected")
    assert bundle.entries["network"]["precision"] == "fp16"
    (tried,) = bundle.entries["tried"]
    assert (tried["precision"], tried["good"]) == ("int8", False)
    assert "latent_error" in {gate["gate"] for gate in bundle.entries["gates"] if not gate.get("passed", True)}


def test_a_latency_nobody_reaches_fails_its_gate(run, capsys):
    assert export(run, "--target", "torch", "--set", "edge.latency_ms=0.0001") == 7
    assert "latency_ms, batch 1" in capsys.readouterr().err
    assert load_model(run.path / "export" / "torch-fp32.rejected")[1]["status"] == "rejected"


def test_classes_are_judged_where_a_column_names_them(run, spectra_file, tmp_path, capsys):
    classed = tmp_path / "classed.h5"
    shutil.copyfile(spectra_file, classed)
    with h5py.File(classed, "r+") as file:
        file["kind"] = np.where(file["redshift"][:] > 0.3, b"FAR", b"NEAR")
    assert export(run, "--target", "torch", "--data", classed, "--set", "edge.class_column=kind") == 0
    assert "class_f1" in capsys.readouterr().out


PRUNE = ("--prune", "0.5", "--rounds", "2", "--finetune-steps", "24")


@pytest.mark.usefixtures("warm_python")
def test_half_the_filters_are_gone_and_the_model_is_an_ordinary_one(run, capsys):
    """Structured pruning with fine-tuning, for PyTorch: what is written loads and encodes like any model."""
    assert export(run, *PRUNE, "--target", "torch", "--set", "edge.gates.chi2=1e3") == 0, capsys.readouterr()
    path = run.path / "export" / "torch-fp32-structured-50"
    assert sorted(item.name for item in path.iterdir()) == ["model.json", "model.safetensors"]
    model, card = load_model(path)
    assert card["section"]["encoder_hidden"] == card["section"]["decoder_hidden"] == [8]
    assert card["export"]["pruned"]["layers_after"] == {"encoder_hidden": [8], "decoder_hidden": [8]}
    assert model.encoder.mean.weight.shape == (3, 8)
    for part in ("mean", "components"):
        assert getattr(model.decoder, part).equal(getattr(load_model(run.path)[0].decoder, part))
    assert card["export"]["pruned"]["weights_after"] < card["export"]["pruned"]["weights_before"]
    original, _ = load_model(run.path)
    assert model.grid == original.grid
    rounds = run.path / "export" / "structured-50.work"
    for number in (1, 2):
        tuned = RunDir(rounds / f"round-{number}" / "run")
        steps = [record["step"] for record in tuned.read_metrics("train")]
        assert steps[-1] == 24
    first, last = (list(tuned.read_metrics("eval"))[index]["loss"] for index in (0, -1))
    assert last < first  # fine-tuning has helped


@pytest.mark.usefixtures("warm_python")
def test_half_of_the_convolutions_go_with_the_layers_behind_them(convolutions, tmp_path, capsys):
    run = RunDir(shutil.copytree(convolutions.path, tmp_path / "run"))
    once = ("--prune", "0.5", "--rounds", "1", "--finetune-steps", "8")
    assert export(run, *once, "--target", "torch", "--set", "edge.gates.chi2=1e3") == 0, capsys.readouterr()
    model, card = load_model(run.path / "export" / "torch-fp32-structured-50")
    assert card["section"]["encoder_channels"] == [2, 4]
    assert card["section"]["decoder_hidden"] == [8]
    assert model.encoder.blocks[1].conv.weight.shape[:2] == (4, 2)


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize(("method", "amount"), [("unstructured", "0.6"), ("2:4", "0.5")])
def test_weights_that_were_set_to_zero_are_zero_after_training(run, method, amount, capsys):
    code = export(
        run, "--prune", amount, "--prune-method", method, "--rounds", "1", "--finetune-steps", "12",
        "--target", "torch", "--set", "edge.gates.chi2=1e3",
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said
    assert ("nothing faster" if method == "unstructured" else "--sparsity=enable") in said.out
    name = "unstructured-60" if method == "unstructured" else "2of4"
    model, card = load_model(run.path / "export" / f"torch-fp32-{name}")
    shares = zeros(model)
    skipped = card["export"]["pruned"].get("skipped", [])
    assert set(shares) - set(skipped)
    for layer, share in shares.items():
        if layer not in skipped:
            assert share == pytest.approx(float(amount), abs=0.02), layer
    work = run.path / "export" / f"{name}.work"
    last = max(work.glob("round-*"))
    before, after = load_file(last / "pruned" / "model.safetensors"), load_file(last / "run/model/model.safetensors")
    assert any(not before[layer].equal(after[layer]) for layer in prunable(model))


@pytest.mark.usefixtures("warm_python")
def test_an_export_that_was_killed_goes_on_and_ends_with_the_same_bits(run, trained, tmp_path):
    """Killed in the second fine-tuning; the first is not repeated, the second resumes, and zeros stay."""
    straight = RunDir(shutil.copytree(trained.path, tmp_path / "straight"))
    settings = [word for setting in (*LENIENT, "edge.gates.chi2=1e3") for word in ("--set", setting)]
    command = [PYTHON, "-m", "hpctrain", "export"]
    options = [
        "--target",
        "torch",
        "--prune",
        "0.5",
        "--prune-method",
        "unstructured",
        "--rounds",
        "2",
        "--finetune-steps",
        "30",
        *settings,
    ]
    assert run_command("export", [str(straight.path), *options]) == 0

    process = subprocess.Popen([*command, str(run.path), *options], start_new_session=True, stderr=subprocess.DEVNULL)
    rounds = run.path / "export" / "unstructured-50.work"
    second = RunDir(rounds / "round-2" / "run")
    deadline = time.monotonic() + 600
    while max((record["step"] for record in second.read_metrics("train")), default=0) < 18:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run.path / "export" / "torch-fp32-unstructured-50").exists()

    assert run_command("export", [str(run.path), *options]) == 0
    assert len(RunDir(rounds / "round-1" / "run").read_attempts()) == 1
    assert next(iter(r["step"] for r in second.read_metrics("event") if r["event"] == "resumed")) in (8, 16)
    name = "export/torch-fp32-unstructured-50/model.safetensors"
    assert (run.path / name).read_bytes() == (straight.path / name).read_bytes()


def put_trtexec(folder, monkeypatch, fails_at):
    """Put a trtexec on PATH that fails at networks whose file is named so, and notes what it was asked."""
    folder.mkdir()
    program = folder / "trtexec"
    program.write_text(
        "#!/usr/bin/env python3\nimport pathlib, sys\n"
        f"open({str(folder / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"if {fails_at!r} in sys.argv[1]: sys.exit('[E] Error[10]: Myelin: dequantize fails on sm_87')\n"
        "pathlib.Path(sys.argv[2].partition('=')[2]).write_bytes(b'plan')\n"
        "print('[TensorRT v100300]')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "asked"


def test_an_engine_that_int8_cannot_have_is_built_in_fp16(run, tmp_path, monkeypatch, capsys):
    asked = put_trtexec(tmp_path / "bin", monkeypatch, fails_at="int8.onnx")
    assert export(run, "--target", "tensorrt", "--quantise", "int8") == 0, capsys.readouterr()
    captured = capsys.readouterr()
    assert "Myelin: dequantize fails" in captured.err
    bundle = read_bundle(run.path / "export" / "tensorrt-fp16")
    assert (bundle.path / "model.engine").read_bytes() == b"plan"
    assert bundle.entries["tensorrt"]["version"] == "100300"
    assert "Myelin" in bundle.entries["tried"][0]["fault"]
    assert len(asked.read_text().splitlines()) == 2


def test_an_engine_that_cannot_be_built_at_all_is_an_error_and_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    put_trtexec(tmp_path / "bin", monkeypatch, fails_at=".onnx")
    assert export(run, "--target", "tensorrt", "--quantise", "fp16") == 3
    assert "[E] Error[10]: Myelin" in capsys.readouterr().err
    assert list((run.path / "export").iterdir()) == []


def test_without_tensorrt_the_command_is_told(run, capsys):
    assert export(run, "--target", "tensorrt") == 0
    said = capsys.readouterr().out
    assert "trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped --noTF32" in said
    assert "--maxShapes=flux:4x200,ivar:4x200,pixel:4x200,fraction:4x200,bins:4x256,redshift:4" in said
    assert "command" in read_bundle(run.path / "export" / "tensorrt-fp32").entries["tensorrt"]


def test_a_bundle_is_not_overwritten_unless_asked_for(run, tmp_path, capsys):
    out = tmp_path / "bundle"
    torch = ("--target", "torch", "--out", out)
    assert export(run, *torch) == 0
    assert export(run, *torch) == 5
    assert "exists already" in capsys.readouterr().err
    assert export(run, *torch, "--replace", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["good"]) == (str(out), True)
    assert Path(found["path"]).is_dir()


def test_a_model_folder_is_exported_with_the_spectra_that_are_named(run, spectra_file, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(run.model, model)
    assert run_command("export", [str(model)]) == 2
    assert "is a model folder without spectra; name the files that it was trained on" in capsys.readouterr().err
    limits = ["--set", "edge.gates.min_spectra=5", "--set", "edge.max_held_out=60"]
    assert run_command("export", [str(model), "--data", str(spectra_file), "--target", "torch", *limits]) == 0
    assert load_model(model / "export" / "torch-fp32")[1]["status"] == "good"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["--prune", "1.5"], 2, "--prune: 1.5 is not between 0 and 1"),
        (["--prune-method", "2:4"], 2, "--prune: --prune-method 2:4 needs a share"),
        (["--prune", "0.3", "--prune-method", "2:4"], 2, "2:4 takes two of each four, which is 0.5"),
        (["--prune", "0.5", "--rounds", "0", "--finetune-steps", "-1"], 2, "2 problems"),
        (["--target", "torch", "--quantise", "int8"], 2, "a model folder holds float32 weights"),
        (["--set", "edge.gates.ch2=1"], 2, "did you mean 'chi2'?"),
        (["--data", "/no/such/file.h5"], 4, "/no/such/file.h5"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(run, arguments, exit_code, said, capsys):
    assert run_command("export", [str(run.path), *arguments]) == exit_code
    assert said in capsys.readouterr().err
    assert not (run.path / "export").exists()


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    assert run_command("export", [str(tmp_path / "nothing")]) == 5
    assert "no run directory or model folder here" in capsys.readouterr().err


def test_a_missing_package_is_named_with_what_installs_it(run, tmp_path):
    """An onnx that cannot be imported stands before the real one."""
    (tmp_path / "absent" / "onnx").mkdir(parents=True)
    (tmp_path / "absent" / "onnx" / "__init__.py").write_text("raise ImportError('not here')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'absent'}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "hpctrain", "export", str(run.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert "onnx (not here); run: pip install 'hpctrain[export]'" in done.stderr
    assert "Traceback" not in done.stderr
