"""What a check says about staging, caching and remote files without downloading anything."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hpctrain.launch.submit import with_absolute_paths
from hpctrain.profile.check import add_memory, check_profile
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.memory import Measurement, measurement_key
from hpctrain.profile.variables import expand

HTTP = "https://example.org/spectra.h5?id=1"


def found(tmp_path, data, launch=None, size=None):
    path = tmp_path / "profile.yaml"
    profile = {"name": "x", "launch": {"gpus_per_node": 0, **(launch or {})}, "data": data}
    path.write_text(yaml.safe_dump(profile))
    findings = check_profile(path, memory=False)
    if size is not None:  # as an earlier task of the array has measured it
        add_memory(findings, {measurement_key(findings.raise_problems()): size})
    return [str(problem) for problem in findings.problems], [str(warning) for warning in findings.warnings]


@pytest.fixture
def local(tmp_path):
    (tmp_path / "s.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return str(tmp_path / "s.h5")


@pytest.mark.parametrize("folder", ["${TMPDIR}", "$TMPDIR/x", "/local/scratch/${SLURM_JOB_ID}", "/local/a$$b"])
def test_variables_of_the_compute_node_need_not_be_set_here(tmp_path, local, folder):
    assert found(tmp_path, {"files": [local], "stage": folder}) == ([], [])


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("scratch/x", "is relative"),
        ("/local/$/x", "'$' without a name"),
        ("s3://bucket/x", "is an address"),
    ],
)
def test_a_stage_that_cannot_be_a_folder_of_a_node_is_a_problem(tmp_path, local, folder, message):
    problems, _ = found(tmp_path, {"files": [local], "stage": folder})
    assert len(problems) == 1
    assert message in problems[0]


def test_a_local_run_is_told_at_once_that_its_stage_cannot_be_written_to(tmp_path, local):
    problems, _ = found(tmp_path, {"files": [local], "stage": f"{local}/x"}, {"cluster": "local", "cpus_per_rank": 2})
    assert any("cannot be written to" in problem for problem in problems)


def test_requiring_a_stage_without_one_is_a_problem(tmp_path, local):
    problems, _ = found(tmp_path, {"files": [local], "stage_required": True})
    assert "nothing to require" in problems[0]


def test_a_remote_file_needs_a_stage_and_is_said_not_to_be_looked_at(tmp_path):
    problems, warnings = found(tmp_path, {"files": [HTTP]})
    assert len(problems) == 1
    assert "data.stage: is needed to fetch 1 remote file" in problems[0]
    problems, warnings = found(tmp_path, {"files": [HTTP], "stage": "${TMPDIR}"})
    assert problems == []
    assert (
        "not looked at: 1 remote file (https://example.org/spectra.h5?...) would have to be downloaded" in warnings[0]
    )


@pytest.mark.parametrize(("address", "package"), [("gs://bucket/x.h5", "fsspec"), (HTTP, "aiohttp")])
def test_a_remote_file_whose_package_is_missing_is_a_problem_before_it_queues(tmp_path, monkeypatch, address, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    problems, _ = found(tmp_path, {"files": [address], "stage": "${TMPDIR}"})
    assert f"needs the package {package}: pip install 'hpctrain[remote]'" in problems[0]


def test_an_address_and_the_variables_of_a_stage_reach_the_run_directory_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/of/the/login/node")
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "data": {"files": [HTTP, "*.h5"], "stage": "${TMPDIR}/$USER/$$"}}))
    profile = with_absolute_paths(load_profile(path), tmp_path)
    path.write_text(dump_profile(profile))
    data = load_profile(path).data
    assert data.files == [HTTP, f"{tmp_path}/*.h5"]
    assert data.stage == "${TMPDIR}/$USER/$$"
    assert expand(data.stage, {"TMPDIR": "/tmp/7", "USER": "ada"}) == "/tmp/7/ada/$"


@pytest.mark.parametrize(
    ("environment", "message"), [({}, r"\$\{TMPDIR\} is not set"), ({"TMPDIR": ""}, r"\$\{TMPDIR\} is empty")]
)
def test_a_variable_without_a_value_is_named(environment, message):
    with pytest.raises(ValueError, match=message):
        expand("${TMPDIR}/x", environment)


def test_a_cache_that_cannot_fit_a_node_is_a_problem(tmp_path, local):
    size = Measurement(0, 0, 0, 0, 1, 7781 * 8, "the data", num_samples=1_600_000, num_train=1_440_000)
    data = {"files": [local], "cache": "ram"}
    problems, _ = found(tmp_path, data, {"memory_gib_per_node": 64}, size)
    assert any("data.cache: ram would need 92.8 GiB for 1600000 spectra, a node has 64.0" in line for line in problems)
    assert found(tmp_path, data, {"memory_gib_per_node": 256}, size)[0] == []
    fewer = dataclasses.replace(size, num_train=1000)
    assert found(tmp_path, {**data, "max_spectra": 1000}, {"memory_gib_per_node": 64}, fewer)[0] == []
