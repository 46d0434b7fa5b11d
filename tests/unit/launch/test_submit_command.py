"""What a user types and what then stands on disk; no job is started here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.commands.arrays import array_tasks, split_outside_brackets
from hpctrain.errors import ProfileError, SiteError
from hpctrain.launch.submit import prepare, with_absolute_paths
from hpctrain.launch.targets.slurm_byhand import as_allocated, run_of_this_job
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.rundir import read_json

ROOT = Path(__file__).resolve().parents[3]
PROFILE = """\
name: tiny
launch: {gpus_per_node: 0, cpus_per_rank: 1}
data: {files: [spectra/made.h5], simulate: {num_spectra: 100}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "tiny.yaml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def types(*words: str, python: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "hpctrain", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_dry_run_prints_script_and_files_and_touches_nothing(folder):
    done = types("submit", "tiny.yaml", "--dry-run", "--cluster", "slurm", "--set", "train.seed=7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    for name in ("profile.yaml", "job.json", "job.sh", "provenance.json"):
        assert re.search(rf"#   {folder}/runs/tiny/\S+/{name}", done.stdout)
    assert os.listdir(folder) == ["tiny.yaml"]


@pytest.mark.slow
def test_a_profile_behind_the_overrides_is_still_the_profile(folder):
    done = types("render", "--set", "train.seed=7", "train.epochs=3", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert types("render", "--set", "train.seed=7", "train.epochs", "tiny.yaml").returncode == 2


@pytest.mark.slow
def test_render_prints_the_same_without_any_slurm(folder):
    done = types("render", "tiny.yaml", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --job-name=tiny" in done.stdout
    assert os.listdir(folder) == ["tiny.yaml"]


@pytest.mark.slow
def test_a_dry_run_imports_nothing_heavy(folder):
    done = types("submit", "tiny.yaml", "--dry-run", "--cluster", "slurm", python=("-X", "importtime"))
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "submitit" in imported
    assert not imported & {"torch", "numpy", "h5py", "astropy", "matplotlib", "rich", "sklearn"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hpctrain", "hpc-submit"])
def test_the_scripts_of_the_checkout_are_the_installed_commands(folder, name):
    arguments = ["--help"]
    script = subprocess.run([ROOT / "bin" / name, *arguments], capture_output=True, text=True, check=True)
    entry = {"hpctrain": "main", "hpc-submit": "submit_main"}[name]
    code = f"import sys; from hpctrain.cli import {entry}; sys.argv[0] = '{name}'; sys.exit({entry}())"
    installed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert script.stdout == installed.stdout
    assert f"{name} = hpctrain.cli:{entry}" in (ROOT / "setup.cfg").read_text()
    assert os.access(ROOT / "bin" / name, os.X_OK)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which profile?"),
        (("tiny.yaml", "--resume", "x"), "not both"),
        (("--resume", "x"), "there are no runs in"),
        (("tiny.yaml", "--array", "train.seed"), "is not KEY=VALUE,VALUE"),
        (("tiny.yaml", "--array", "train.seed=1,,2"), "is not KEY=VALUE,VALUE"),
        (("tiny.yaml", "--array", "launch.nodes=1,2"), "belongs to the array as a whole"),
        (("tiny.yaml", "--array", "train.seed=1,2", "--cluster", "local"), "needs Slurm"),
        (("tiny.yaml", "--set", "launch.nodes=2", "--cluster", "local"), "launch.nodes"),
        (("tiny.yml",), "did you mean 'tiny.yaml'"),
        (("tiny.yaml", "--set", "launch.time_limit=25:99"), "is not a time"),
        (("tiny.yaml", "--set", "launch.partition=$(id)"), "launch.partition"),
        (("tiny.yaml", "--set", 'name=a"b'), "name"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_leaves_nothing(folder, words, said):
    done = types("submit", *words, "--dry-run")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(folder) == ["tiny.yaml"]


def test_arrays_are_the_product_of_their_axes():
    assert array_tasks(["train.seed=1,2", "train.learning_rate=1e-3,1e-4"]) == [
        ["train.seed=1", "train.learning_rate=1e-3"],
        ["train.seed=1", "train.learning_rate=1e-4"],
        ["train.seed=2", "train.learning_rate=1e-3"],
        ["train.seed=2", "train.learning_rate=1e-4"],
    ]
    assert array_tasks([]) == [[]]
    assert split_outside_brackets("[8, 16],[32, 64], {a: 1, b: 2}") == ["[8, 16]", "[32, 64]", "{a: 1, b: 2}"]


def test_the_run_directory_needs_no_folder_to_be_read_from(folder):
    """Paths are absolute in the resolved profile, or the ranks of another node would look elsewhere."""
    profile = with_absolute_paths(load_profile("tiny.yaml", ["train.init_from=../other"]), folder)
    assert profile.data.files == [f"{folder}/spectra/made.h5"]
    assert profile.launch.runs_dir == f"{folder}/runs"
    assert profile.train.init_from == f"{folder.parent}/other"


def test_a_bracket_in_the_folder_is_not_taken_for_a_pattern(folder):
    base = folder / "run [1]"
    profile = with_absolute_paths(load_profile("tiny.yaml", ["data.files=[spectra/*.h5]"]), base)
    (base / "spectra").mkdir(parents=True)
    (base / "spectra/a.h5").touch()
    import glob

    assert glob.glob(profile.data.files[0]) == [str(base / "spectra/a.h5")]


def test_tasks_of_an_array_share_the_job(folder):
    profiles = [
        with_absolute_paths(load_profile("tiny.yaml", [f"train.epochs={epochs}"]), folder) for epochs in (11, 12)
    ]
    submission = prepare(profiles, "slurm", None)
    assert [run.run_id.rpartition("-")[2] for run in submission.runs] == ["0", "1"]
    texts = submission.files()
    assert [texts[run.script] for run in submission.runs] == [submission.texts["job.sh"]] * 2
    assert ["epochs: 11" in texts[run.profile] for run in submission.runs] == [True, False]
    with pytest.raises(ProfileError, match="belong to the array as a whole"):
        prepare([profiles[0], profiles[1].model_copy(update={"name": "other"})], "slurm", None)


ALLOCATED = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NAME": "hpctrain",
    "SLURM_CLUSTER_NAME": "lab",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_CPUS_PER_TASK": "3",
    "SLURM_GPUS_ON_NODE": "4",
}


def test_by_hand_sbatch_decides_the_shape(folder):
    launch = as_allocated(LaunchSection(), ALLOCATED)
    assert (launch.nodes, launch.ranks_per_node, launch.gpus_per_node, launch.cpus_per_rank) == (2, 4, 4, 3)
    assert launch.world_size == 8


def test_by_hand_the_global_batch_stays_the_profiles(folder):
    run, launch = run_of_this_job("tiny.yaml", ["train.accumulation=16"], ALLOCATED)
    profile = load_profile(run.profile)
    assert (launch.world_size, profile.train.accumulation, profile.global_batch) == (8, 2, 16 * 128)
    with pytest.raises(ProfileError, match=r"8 ranks x batch_size 128 do not divide the global batch of 128"):
        run_of_this_job("tiny.yaml", [], ALLOCATED)


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_ranks_keeps_its_global_batch(folder):
    run, _ = run_of_this_job("tiny.yaml", ["train.accumulation=16"], ALLOCATED)
    words = ("render", "--resume", str(run.path), "--set", "launch.gpus_per_node=0", "launch.nodes=1")
    done = types(*words, "launch.ranks_per_node=2")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --ntasks-per-node=2" in done.stdout
    done = types(*words, "launch.ranks_per_node=3")
    assert done.returncode == 2
    assert "3 ranks x batch_size 128 do not divide the global batch of 2048" in done.stderr


def test_by_hand_a_requeued_job_finds_its_run_again(folder):
    overrides = ["train.seed=3", "train.accumulation=8"]
    first, launch = run_of_this_job("tiny.yaml", overrides, ALLOCATED)
    assert first.run_id.endswith("-job12")
    assert "seed: 3" in first.profile.read_text()
    assert launch.world_size == 8
    again, _ = run_of_this_job("tiny.yaml", overrides, {**ALLOCATED, "SLURM_RESTART_COUNT": "1"})
    assert again.path == first.path
    elsewhere = {**ALLOCATED, "SLURM_RESTART_COUNT": "1", "SLURM_CLUSTER_NAME": "other"}
    assert run_of_this_job("tiny.yaml", overrides, elsewhere)[0].path != first.path
    submissions = read_json(first.job)["submissions"]
    assert [(entry["job_id"], entry["job_name"]) for entry in submissions] == [("12", "hpctrain")]


def test_by_hand_outside_a_job_says_what_it_is_for(folder):
    with pytest.raises(SiteError, match="use hpc-submit"):
        run_of_this_job("tiny.yaml", [], {})


def test_provenance_holds_the_uncommitted_change(folder):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], check=True, capture_output=True)

    from hpctrain.launch.provenance import collect

    git("init", "-q")
    git("add", "tiny.yaml")
    git("commit", "-q", "-m", "first")
    (folder / "tiny.yaml").write_text(PROFILE + "# changed\n")
    (folder / "spectra").mkdir()
    (folder / "spectra/made.h5").write_bytes(b"12345")
    facts = collect(with_absolute_paths(load_profile("tiny.yaml"), folder), folder)
    state = facts["project"]["git"]
    assert len(state["commit"]) == 40
    assert "+# changed" in state["diff"]
    assert state["untracked"] == ["spectra/made.h5"]
    (data,) = facts["data"]
    assert data.pop("hashes").startswith("not hashed")  # five bytes are no HDF5 file
    expected = {"path": f"{folder}/spectra/made.h5", "bytes": 5, "modified": pytest.approx(0, abs=1e12), "columns": {}}
    assert data == expected
    assert facts["packages"]["submitit"]


def test_an_array_names_the_values_of_each_index(folder):
    done = types("render", "tiny.yaml", "--array", "train.seed=5,6", "--array", "train.learning_rate=1e-3,1e-4")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("# index")]
    assert lines == [
        "# index 0  train.seed=5  train.learning_rate=1e-3",
        "# index 1  train.seed=5  train.learning_rate=1e-4",
        "# index 2  train.seed=6  train.learning_rate=1e-3",
        "# index 3  train.seed=6  train.learning_rate=1e-4",
    ]
    profiles = [with_absolute_paths(load_profile("tiny.yaml", [f"train.seed={seed}"]), folder) for seed in (5, 6)]
    submission = prepare(profiles, "slurm", None, array_values=[["train.seed=5"], ["train.seed=6"]])
    (_, second) = (json.loads(submission.files()[run.job]) for run in submission.runs)
    assert (second["array_index"], second["array_values"]) == (1, ["train.seed=6"])


@pytest.mark.slow
def test_after_names_runs_and_jobs_and_the_profile_may_follow_them(folder):
    done = types("render", "--after", "41", "42_1", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --dependency=afterok:41:42_1\n" in done.stdout
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in done.stdout
    assert "dependency" not in types("render", "tiny.yaml").stdout
    done = types("render", "tiny.yaml", "--after", "quasar")
    assert done.returncode == 2
    assert "--after: 'quasar' is neither a run nor the id of a job" in done.stderr
    done = types("submit", "--dry-run", "tiny.yaml", "--cluster", "local", "--after", "41")
    assert done.returncode == 2
    assert "--after: '41' is not a run" in done.stderr


@pytest.mark.slow
def test_a_dry_run_reports_what_a_check_would_and_prints_no_script(folder):
    """A script for 48 hours on a partition of 24 would only be refused later."""
    (folder / "sites").mkdir()
    (folder / "sites" / "leo.yaml").write_text("partitions: {gpu: {max_time: 24:00:00, max_nodes: 16}}\n")
    sets = ["launch.site=leo", "launch.partition=gpu", "launch.time_limit=48:00:00", "launch.nodes=40"]
    for words in (["submit", "--dry-run"], ["render"]):
        done = types(*words, "tiny.yaml", "--cluster", "slurm", "--set", *sets, HPCTRAIN_SITES=str(folder / "sites"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "48:00:00 is above the limit of partition 'gpu' (24:00:00" in done.stderr
        assert "40 is above the limit of partition 'gpu' (16 nodes" in done.stderr
    (folder / "sites" / "leo.yaml").write_text("sbatch: {output: x.log}\n")
    done = types("render", "tiny.yaml", "--set", "launch.site=leo", HPCTRAIN_SITES=str(folder / "sites"))
    assert done.returncode == 3
    assert "sbatch.output: cannot be set here: logs go to the run directory" in done.stderr
