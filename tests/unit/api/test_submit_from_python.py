"""``hpctrain.submit``: the checks and problems of ``hpc-submit``, for a file, a mapping or a profile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hpctrain
from hpctrain.errors import ProfileError
from hpctrain.profile.load import load_profile
from hpctrain.profile.values import overrides_of

VALUES = {
    "name": "tiny",
    "launch": {"gpus_per_node": 0, "cpus_per_rank": 1},
    "data": {"files": [Path("made.h5")], "simulate": {"num_spectra": np.int64(100)}},
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_import_is_instant_and_names_what_it_offers():
    """Running the check of the heavy modules in a process of its own."""
    heavy = "numpy", "torch", "h5py", "astropy", "pydantic", "yaml", "rich", "submitit", "matplotlib"
    code = (
        "import sys, hpctrain\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), *sorted({{*hpctrain.__all__}} & {{*dir(hpctrain)}}))\n"
        "hpctrain.Run, hpctrain.runs, hpctrain.submit, hpctrain.load\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] Run load runs submit\n['pydantic', 'yaml']\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hpctrain' has no attribute 'lode'"):
        hpctrain.lode  # noqa: B018


def test_a_mapping_is_what_the_file_would_hold(tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nlaunch: {gpus_per_node: 0, cpus_per_rank: 1}\n"
        "data: {files: [made.h5], simulate: {num_spectra: 100}}\n"
    )
    profile = load_profile(VALUES)
    assert profile == load_profile(tmp_path / "tiny.yaml")
    assert load_profile(profile, ["train.seed=9"]).train.seed == 9
    changed = load_profile(VALUES, overrides_of({"train": {"seed": 3}, "data.files": ["b.h5"]}))
    assert (changed.train.seed, changed.data.files) == (3, ["b.h5"])


@pytest.mark.parametrize("form", [dict, load_profile])
def test_all_problems_come_at_once_and_nothing_is_written(form, tmp_path):
    given = form(VALUES)
    with pytest.raises(ProfileError) as error:
        hpctrain.submit(given, {"train.batchsize": 64, "launch": {"nodes": "two"}}, cluster="local")
    assert sorted(problem.where for problem in error.value.problems) == ["launch.nodes", "train.batchsize"]
    assert "did you mean 'batch_size'?" in str(error.value)
    with pytest.raises(ProfileError, match=r"launch.nodes: 2 nodes, but cluster: local is one machine"):
        hpctrain.submit(given, ["launch.nodes=2"], "local")
    assert list(tmp_path.iterdir()) == []


def test_a_problem_of_a_mapping_names_its_key_without_a_line():
    with pytest.raises(ProfileError) as error:
        hpctrain.submit({**VALUES, "trian": {}, "extends": "base.yaml"})
    text = str(error.value)
    assert text.startswith("tiny: 2 problems\n")
    assert "  trian: unknown key; did you mean 'train'?" in text
    assert "  extends: works in a file only" in text


def test_a_warning_of_the_check_is_a_python_warning():
    with (
        pytest.warns(UserWarning, match="train.learning_rate: 0.5 is very high for AdamW"),
        pytest.raises(ProfileError),
    ):
        hpctrain.submit(VALUES, {"train.learning_rate": 0.5, "launch.nodes": 2}, cluster="local")


def test_a_job_to_wait_for_that_failed_is_a_problem(tmp_path):
    earlier = tmp_path / "runs" / "tiny" / "20260101-000000-aaaa"
    earlier.mkdir(parents=True)
    (earlier / "profile.yaml").write_text("name: tiny\n")
    with pytest.raises(ProfileError, match=r"--after: .* is not submitted, so this job would never start"):
        hpctrain.submit(VALUES, cluster="local", after=hpctrain.Run(earlier))
