"""Profiles that are right, warnings, the memory of devices, and what the command prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from kinds.spectra import write_file

from hpctrain.cli import run_command
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.profile.check import add_memory, check_profile
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import load_profile
from hpctrain.profile.memory import Measurement, MemoryNeed, measure, measurement_key
from hpctrain.profile.platforms import PLATFORMS, find_platform

REPOSITORY = Path(__file__).resolve().parents[3]
MINIMAL = "name: run\ndata: {files: [spectra.h5]}\n"
SMALL_MODEL = (
    "model: {latent_size: 2, encoder_channels: [4, 8], encoder_kernels: [5, 5], encoder_hidden: [8], "
    "decoder_hidden: [8], rest_pixels: 100}\n"
)
DESI_VAE = Measurement(0.2, 0.01122, 0.5, 0.05, 13_000_000, 7781, "the data", 1000, 900)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 400 spectra of 300 pixels."""
    rng = np.random.default_rng(0)
    flux = rng.normal(1, 0.1, (400, 300)).astype(np.float32)
    redshift = rng.uniform(0, 1, 400).astype(np.float32)
    write_file(tmp_path / "spectra.h5", flux, ivar=np.full(flux.shape, 100, np.float32), redshift=redshift)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_spectra_that_cannot_be_right_are_a_problem_and_rejected_ones_are_noted(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    profile = profile_file(here, MINIMAL + SMALL_MODEL + "train: {warmup_steps: 1, batch_size: 8}\n")
    with h5py.File(here / "spectra.h5", "a") as file:
        file["ivar"][:20] = 0
    assert run_command("check", [str(profile)]) == 0
    assert "inspected spectra carry no weight" in capsys.readouterr().out
    with h5py.File(here / "spectra.h5", "a") as file:
        file["wavelength"][...] = file["wavelength"][:] / 10
    assert run_command("check", [str(profile)]) == 2
    error = capsys.readouterr().err
    assert "data.normalise.windows_aa: All" in error
    assert "this looks like nanometres" in error


def profile_file(here: Path, text: str) -> Path:
    path = here / "profile.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["hpc", "workstation", "jetson", "quickstart"])
def test_the_shipped_profiles_are_right(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what everybody starts from."""
    (here / "desi-vae" / "model").mkdir(parents=True)
    (here / "data").mkdir()
    for path in here.glob("*.h5"):
        path.rename(here / "data" / path.name)
    monkeypatch.chdir(here)
    findings = check_profile(REPOSITORY / "profiles" / f"{name}.yaml", memory=False)
    assert findings.problems == []
    assert findings.warnings == []
    text = (REPOSITORY / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_cluster_profile_is_what_was_asked_for() -> None:
    """Four A100, fp16, 128 per GPU, accumulation 2, 100 epochs, 1e-3 with warm-up, a checkpoint each 1000 steps, 5."""
    profile = load_profile(REPOSITORY / "profiles" / "hpc.yaml")
    train, checkpoint = profile.train, profile.checkpoint
    assert (profile.launch.gpus_per_node, profile.launch.world_size, profile.platform) == (4, 4, "a100-40")
    assert (train.precision, train.batch_size, train.accumulation, train.epochs) == ("fp16", 128, 2, 100)
    assert (train.learning_rate, train.warmup_steps) == (1e-3, 500)
    assert (checkpoint.every_steps, checkpoint.keep_last) == (1000, 5)


def test_the_jetson_profile_is_what_was_asked_for() -> None:
    """Batch 16, accumulation 16, a rate to fine-tune with, and the network of hpc.yaml, whose weights it takes."""
    profile = load_profile(REPOSITORY / "profiles" / "jetson.yaml")
    assert (profile.train.batch_size, profile.train.accumulation) == (16, 16)
    assert 1e-4 <= profile.train.learning_rate <= 5e-4
    assert profile.train.gradient_checkpointing
    assert profile.model == load_profile(REPOSITORY / "profiles" / "hpc.yaml").model


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "launch: {gpus_per_node: 4, ranks_per_node: 2}\n",
            "line 3: launch.ranks_per_node: 2 ranks leaves 2 GPUs of each node idle; remove ranks_per_node",
        ),
        (
            "launch: {gpus_per_node: 1, ranks_per_node: 2}\n",
            "line 3: launch.ranks_per_node: 2 ranks share each GPU, and their sums go through the host, because NCCL "
            "refuses a shared GPU; this is slow, and only good to try several ranks",
        ),
        (
            "launch: {time_limit: 00:05:00}\n",
            "line 3: launch.signal_lead_s: 180 s is more than half of the time limit (00:05:00); "
            "most of the time is lost",
        ),
        (
            "launch: {slices: {shortest: 00:15:00}}\n",
            "line 3: launch.slices.shortest: of a slice of 00:15:00, 27% go to start and warning; lower "
            "launch.signal_lead_s if saves are fast, or take longer slices",
        ),
        (
            "launch: {signal_lead_s: 20}\n",
            "line 3: launch.signal_lead_s: 20 s is short: Slurm may warn 30 s late, and the save must fit too; use 60 "
            "or more",
        ),
        (
            "train: {learning_rate: 0.1}\n",
            "line 3: train.learning_rate: 0.1 is very high for AdamW; 1e-3 is usual, 1e-4 to fine-tune",
        ),
        (
            "train: {device: cpu}\n",
            "line 3: train.device: cpu leaves 1 GPU per node idle; set launch.gpus_per_node: 0",
        ),
        (
            "platform: h100\nlaunch: {gpus_per_node: 0}\n",
            "line 3: platform: NVIDIA H100 80 GB, but launch.gpus_per_node is 0: the CPUs would train",
        ),
        (
            "train: {max_steps: 100, warmup_steps: 1, evaluate_every_steps: 200}\ncheckpoint: {every_steps: 10}\n",
            "line 3: train.evaluate_every_steps: 200 is beyond max_steps (100): evaluated only at the end",
        ),
        (
            "train: {max_steps: 100, warmup_steps: 1}\n",
            "checkpoint.every_steps: 1000 is beyond max_steps (100): only the last step is saved",
        ),
    ],
)
def test_what_works_but_is_hardly_meant_is_a_warning(here: Path, text: str, warning: str) -> None:
    """Warnings stop nobody; --strict makes problems of them."""
    findings = check_profile(profile_file(here, MINIMAL + text), memory=False)
    assert findings.problems == []
    assert warning in [str(found) for found in findings.warnings]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_check_knows_the_steps_and_the_memory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """World size, global batch, length and memory in a few lines, the memory by running the update on fake tensors."""
    text = MINIMAL + SMALL_MODEL + "platform: t4\ntrain: {batch_size: 32, epochs: 10, warmup_steps: 5}\n"
    assert run_command("check", [str(profile_file(here, text)), "--set", "checkpoint.every_steps=10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("profile.yaml: good")
    assert lines[2] == "  global batch 32 = 32 x accumulation 1 x 1 rank, fp32"
    assert lines[3].startswith("  3")
    assert "of 400 spectra to train on: 11" in lines[3]
    assert "GiB (" in lines[4]
    assert "of NVIDIA T4 16 GB" in lines[4]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_the_length_of_the_run_is_judged(here: Path) -> None:
    """A warm-up longer than the run, a global batch larger than the data."""
    text = MINIMAL + SMALL_MODEL + "train: {batch_size: 512, epochs: 10}\n"
    assert check_profile(profile_file(here, text)).problems == [], "the default warm-up adapts"
    findings = check_profile(profile_file(here, text.replace("epochs", "warmup_steps: 500, epochs")))
    assert [str(problem)[:80] for problem in findings.problems] == [
        "line 4: train.warmup_steps: 500 is not less than the 8 steps of the whole run (1"
    ]
    assert any("the global batch is 512" in str(warning) for warning in findings.warnings)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_data_that_cannot_be_used_are_a_problem(here: Path) -> None:
    """The look at the data's size is also one at its columns."""
    text = MINIMAL.replace("}", ", columns: {flux: fluxes}}") + SMALL_MODEL
    findings = check_profile(profile_file(here, text))
    assert any("fluxes" in problem.message for problem in findings.problems)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_measurement_is_remembered_until_something_changes(here: Path) -> None:
    """Three seconds once, not at every check."""
    path = profile_file(here, MINIMAL + SMALL_MODEL + "train: {warmup_steps: 5}\n")
    first = check_profile(path).measurement
    again = check_profile(path, ["train.batch_size=64", "train.seed=3"]).measurement
    assert again == first
    changed = check_profile(path, ["model.latent_size=3"]).measurement
    assert changed is not None
    assert first is not None
    assert changed.num_parameters > first.num_parameters


def test_tasks_of_an_array_share_a_measurement(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing can be remembered on the disk, as with a read-only home."""
    (here / "no-folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "no-folder"))
    path = profile_file(here, MINIMAL + SMALL_MODEL + "train: {warmup_steps: 5}\n")
    tasks = [check_profile(path, [f"train.seed={seed}"], memory=False) for seed in (1, 2)]
    assert [task.measurement for task in tasks] == [None, None]
    measured = {measurement_key(tasks[0].raise_problems()): DESI_VAE}  # of an earlier task
    for task in tasks:
        add_memory(task, measured)
    assert [task.measurement for task in tasks] == [DESI_VAE, DESI_VAE]
    assert len(measured) == 1


def need(platform: str, **train: object) -> MemoryNeed:
    profile = profile_of({"name": "x", "data": {"files": ["x.h5"]}, "train": train})
    found = find_platform(platform)
    assert found is not None
    return MemoryNeed(DESI_VAE, profile, found, found.memory_gib, 1)


def test_a_batch_that_does_not_fit_is_told_what_would() -> None:
    """The same global batch, in smaller pieces."""
    need_of_8192 = need("a100", batch_size=8192)
    assert need_of_8192.complaint() == (
        "8192 would need 103.9 of the 39.4 GiB of NVIDIA A100 40 GB; batch_size 2048 with accumulation 4 gives the "
        "same global batch and fits"
    )
    best = need_of_8192.best_batch()
    assert best is not None
    assert need_of_8192.needed_gib(best[0]) < 39.4 < need_of_8192.needed_gib(2 * best[0])
    odd = need("t4", batch_size=1500, accumulation=3).best_batch()
    assert odd is not None
    assert odd[0] * odd[1] == 4500


def test_a_nearly_empty_card_is_remarked_on() -> None:
    """2 to 4 % of a card is what rules of thumb made for transformers give this network."""
    assert need("a100-80", batch_size=128, accumulation=8).remark() == (
        "128 uses 3% of NVIDIA A100 80 GB (memory); batch_size 1024 with accumulation 1 gives the same global batch in "
        "fewer passes"
    )
    assert need("h200", batch_size=16).remark() == (
        "16 uses 1% of NVIDIA H200 141 GB (memory); a larger batch_size, or fewer GPUs, would use it better"
    )
    assert need("a100", batch_size=1024).remark() is None
    assert need("agx-orin", batch_size=16).remark() is None


def test_a_network_that_never_fits_is_told_so() -> None:
    """No accumulation helps where the weights alone are too large."""
    profile = profile_of({"name": "x", "data": {"files": ["x.h5"]}})
    huge = Measurement(60.0, 0.01, 60.0, 15.0, 4_000_000_000, 7781, "the data")
    complaint = MemoryNeed(huge, profile, PLATFORMS["t4"], 14.6, 1).complaint()
    assert complaint is not None
    assert complaint.endswith("and even 1 needs 68.0; use a smaller model or a larger device")


def test_json_holds_everything(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts and editors."""
    path = profile_file(here, MINIMAL + "train: {epochs: 0}\n")
    assert run_command("check", [str(path), "--json", "--no-memory", "--set", "train.seed=-1"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["good"] is False
    assert found["problems"] == [
        {
            "file": str(path),
            "line": 3,
            "key": "train.epochs",
            "message": "found 0; must be a whole number, 1 or more",
        },
        {
            "file": "--set",
            "line": None,
            "key": "train.seed",
            "message": "found -1; must be a whole number, 0 or more and below 2^63",
        },
    ]
    assert run_command("check", ["nothing.yaml", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["message"].startswith("does not exist")


def test_a_profile_can_be_checked_where_its_data_are_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For CI, which has the profiles and not the data: all other problems are found."""
    text = MINIMAL.replace("spectra.h5", "far/away.h5")
    path = str(profile_file(here, text))
    assert run_command("check", [path, "--no-memory"]) == 2
    assert "nor does the folder 'far'" in capsys.readouterr().err
    assert run_command("check", [path, "--no-data"]) == 0
    path = str(profile_file(here, text + "train: {epochs: 0}\nplatform: t4\nlaunch: {gpus_per_node: 0}\n"))
    assert run_command("check", [path, "--no-data"]) == 2
    assert "far/away.h5" not in capsys.readouterr().err


def test_strict_makes_problems_of_warnings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For those who put the check into their own CI."""
    path = str(profile_file(here, MINIMAL + "train: {learning_rate: 0.1}\n"))
    assert run_command("check", [path, "--no-memory"]) == 0
    assert run_command("check", [path, "--no-memory", "--strict"]) == 2
    assert "1 warning" in capsys.readouterr().err


def test_a_profile_that_is_loaded_already_can_be_checked(here: Path) -> None:
    """The launcher has it in hand, with overrides for each run of an array."""
    profile = load_profile(profile_file(here, MINIMAL + "train: {warmup_steps: 500, max_steps: 20}\n"))
    findings = check_profile(profile, memory=False)
    assert [problem.where for problem in findings.problems] == ["train.warmup_steps"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_memory_that_does_not_fit_the_device_of_the_partition_is_a_problem(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file through the subprocess to the message. A site knows its GPUs, so the profile need not say them."""
    (here / "leo.yaml").write_text("partitions: {gpu: {platform: t4}}\ndefault_partition: gpu\n", encoding="utf-8")
    monkeypatch.setenv("HPCTRAIN_SITES", str(here))
    text = (
        MINIMAL + SMALL_MODEL + "launch: {site: leo}\ntrain: {batch_size: 1048576, warmup_steps: 1, epochs: 100000}\n"
    )
    findings = check_profile(profile_file(here, text))
    assert [problem.where for problem in findings.problems] == ["train.batch_size"]
    assert "GiB of NVIDIA T4 16 GB; batch_size" in findings.problems[0].message
    assert findings.problems[0].message.endswith("gives the same global batch and fits")


def test_a_broken_site_is_not_the_profiles_fault(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, with the line in the site's own file."""
    (here / "leo.yaml").write_text("partitions: {gpu: {max_tim: 3}}\n", encoding="utf-8")
    monkeypatch.setenv("HPCTRAIN_SITES", str(here))
    with pytest.raises(SiteError, match=r"line 1: partitions.gpu.max_tim: unknown key; did you mean 'max_time'"):
        check_profile(profile_file(here, MINIMAL + "launch: {site: leo}\n"), memory=False)


def test_platforms_are_found_by_any_name_people_use() -> None:
    """In any case, with blanks of either kind."""
    assert find_platform("A100") is PLATFORMS["a100-40"]
    assert find_platform("RTX_4090") is PLATFORMS["rtx-4090"]
    assert find_platform("jetson") is PLATFORMS["agx-orin"]
    assert find_platform("abacus") is None


def test_platforms_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, by name and memory."""
    assert run_command("platforms", []) == 0
    table = capsys.readouterr().out
    for name in ("a100-40", "a100-80", "h100", "h200", "rtx-4090", "a4000", "v100", "t4", "agx-orin"):
        assert name in table
    assert run_command("platforms", ["--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(PLATFORMS)


@pytest.fixture
def estimate_does(here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return a function that makes the Python which estimates the memory run something else when it starts."""
    folder = tmp_path_factory.mktemp("python")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def write(statement: str) -> None:
        condition = 'any("train.memory" in word for word in sys.orig_argv)'
        (folder / "sitecustomize.py").write_text(f"import sys\nif {condition}:\n    {statement}\n")

    return write


def test_an_estimate_that_takes_a_while_is_announced_and_one_that_takes_too_long_is_one_line(
    here: Path, estimate_does: Callable, capsys: pytest.CaptureFixture
) -> None:
    estimate_does("import time; time.sleep(3600)")
    profile = load_profile(profile_file(here, MINIMAL + SMALL_MODEL))
    with pytest.raises(HpctrainError) as raised:
        measure(profile, silent_s=0.01, timeout_s=0.01)
    assert str(raised.value) == "the memory estimate took more than 0.01 s; is this machine busy?"
    announced = "estimating the memory of a step and inspecting the spectra (--no-memory skips it) ...\n"
    assert capsys.readouterr().err == announced


def test_a_memory_estimate_that_fails_is_a_warning_of_one_line(
    here: Path, estimate_does: Callable, capsys: pytest.CaptureFixture
) -> None:
    estimate_does('print("no space left", file=sys.stderr); import os; os._exit(1)')
    assert run_command("check", [str(profile_file(here, MINIMAL + SMALL_MODEL))]) == 0
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert "the memory estimate failed: no space left; --no-memory skips the estimate" in printed
    assert "Traceback" not in printed
