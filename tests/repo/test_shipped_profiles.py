"""Every profile in profiles/ loads, renders and survives a round trip; every study there is checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.cli import main
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.section import STANDARD
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.search.study_file import check_study, read_study

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "profiles").glob("*.yaml"))
STUDIES = [path for path in FILES if "\nspace:" in path.read_text()]
PIPELINES = [path for path in FILES if "\nstages:" in path.read_text()]
PROFILES = [path for path in FILES if path not in (*STUDIES, *PIPELINES)]


def test_the_promised_profiles_are_there():
    assert {"hpc", "jetson", "workstation", "quickstart"} <= {path.stem for path in PROFILES}
    assert [path.stem for path in STUDIES] == ["search"]
    assert [path.stem for path in PIPELINES] == ["pipeline"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_a_shipped_profile_survives_dump_and_load(path, tmp_path):
    profile = load_profile(path)
    copy = tmp_path / "profile.yaml"
    copy.write_text(dump_profile(profile))
    assert load_profile(copy) == profile


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_a_shipped_profile_renders(path, cluster, tmp_path, monkeypatch, capsys):
    if cluster == "local" and load_profile(path).launch.nodes > 1:
        pytest.skip("a local run has one node")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")  # its first bytes are all a check reads
    (tmp_path / "runs" / "desi-vae" / "1" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "desi-vae" / "1" / "profile.yaml").write_text(dump_profile(load_profile(path)))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    code, said = main(["submit", str(path), "--dry-run", "--cluster", cluster]), capsys.readouterr()
    assert code == 0, said.err
    if cluster == "slurm":
        assert said.out.startswith("#!/bin/bash\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_a_shipped_profile_names_its_schema_for_editors(path):
    text = path.read_text()
    assert "# yaml-language-server: $schema=" in text
    name = text.partition("$schema=")[2].split()[0]
    assert json.loads((path.parent / name).read_text())["properties"].keys() >= {"name", "data", "train"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_a_shipped_study_has_no_problem(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_study(read_study(path), memory=False).profile is not None


def test_the_shipped_pipeline_has_all_stages_and_no_problem(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "pipeline"]) == 0
    copied = {path.name for path in tmp_path.iterdir()}
    assert copied == {"pipeline.yaml", "pipeline-cnn.yaml", "spectral-cnn.yaml", "schema.json"}
    does = {stage.does for stage in read_pipeline("pipeline.yaml").stages}
    assert does == {*STANDARD, "command"} - {"challenge", "new"}, "these two belong to continuous training"
    assert main(["pipeline", "pipeline.yaml", "--dry-run"]) == 0, capsys.readouterr().err


@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs a minute; set ALL_FAULTS=1")
def test_the_shipped_pipeline_ends_with_a_registered_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pipeline", str(REPOSITORY / "profiles/pipeline.yaml")]) == 0
    capsys.readouterr()
    assert main(["registry", "list"]) == 0
    assert "candidate = 1" in capsys.readouterr().out


def test_the_schema_file_is_what_the_code_says(tmp_path):
    """An old schema makes editors complete keys that are gone."""
    out = tmp_path / "schema.json"
    done = subprocess.run(
        [sys.executable, "-m", "hpctrain", "schema", "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == json.loads((REPOSITORY / "profiles" / "schema.json").read_text())
