"""A check says before the job is queued that a tracker cannot work."""

from __future__ import annotations

import sys
import types

import pytest

from hpctrain.profile.check import check_profile


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Return a function that checks a profile with a section `track`, where packages are installed or not."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def judge(track, installed=True):
        for name in ("mlflow", "wandb"):
            package = types.ModuleType(name)
            package.__spec__ = object()
            monkeypatch.setitem(sys.modules, name, package if installed else None)
        path = tmp_path / "profile.yaml"
        path.write_text(
            f"name: a\ndata: {{files: [a.h5], simulate: {{}}}}\nlaunch: {{gpus_per_node: 0}}\ntrack: {track}\n"
        )
        findings = check_profile(path, memory=False)
        return [str(problem) for problem in findings.problems], [str(warning) for warning in findings.warnings]

    return judge


def test_a_tracker_that_is_not_installed_is_a_problem_with_the_command_that_installs_it(check):
    problems, _ = check("{mlflow: {tracking_uri: 'http://127.0.0.1:5000'}, wandb: {mode: offline}}", installed=False)
    assert problems == [
        "line 4: track.mlflow: needs the package mlflow, which is not installed here: pip install 'hpctrain[mlflow]'",
        "line 4: track.wandb: needs the package wandb, which is not installed here: pip install 'hpctrain[wandb]'",
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{}", "track.mlflow.tracking_uri: is not set, and neither is MLFLOW_TRACKING_URI in the environment"),
        ("{tracking_uri: 'sqlite:///mlflow.db'}", "'sqlite:///mlflow.db' is not the address of a server"),
        ("{tracking_uri: mlruns}", "'mlruns' is not the address of a server: begin with http:// or https://"),
        ("{tracking_uri: 'https://ann:pw@mlflow.example.org'}", "holds what looks like a URL with a password; remove"),
        ("{tracking_uri: 'https://abc@mlflow.example.org'}", "holds a user or password; remove it, and set MLFLOW_"),
    ],
)
def test_an_address_that_is_none_or_holds_a_login_is_a_problem(check, section, said):
    (problem,), _ = check(f"{{mlflow: {section}}}")
    assert said in problem
    assert "pw" not in problem


def test_a_server_named_in_the_environment_is_enough(check, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:pw@mlflow.example.org")
    assert check("{mlflow: {}}")[0] == []


def test_a_missing_key_of_wandb_is_a_warning_because_the_run_trains_all_the_same(check, monkeypatch, tmp_path):
    problems, warnings = check("{wandb: {project: quasars}}")
    assert problems == []
    assert any("track.wandb: needs a key" in warning for warning in warnings)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert not any("track.wandb" in warning for warning in check("{wandb: {}}")[1])
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert not any("track.wandb" in warning for warning in check("{wandb: {}}")[1])
    monkeypatch.delenv("WANDB_API_KEY")
    assert not any("track.wandb" in warning for warning in check("{wandb: {mode: offline}}")[1])
