"""A pipeline on this machine: killed in every stage it ends with the same results, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from permissions import wrong_permissions
from processes import wait_until

from hpctrain.access import GROUP
from hpctrain.cli import main
from hpctrain.launch.supervisor import is_supervised
from hpctrain.pipeline.describe import states_of
from hpctrain.pipeline.folder import RUNNING, PipelineDir, find_pipeline

PIPELINE = """\
name: weekly
launch: {cluster: local, gpus_per_node: 0, access: group}
stages:
  - {name: ingest, run: ["cp raw.h5 {out}/data.h5", "sleep 0.5"], inputs: [raw.h5], outputs: [data.h5]}
  - {name: train, profile: base.yaml, set: ['data.files=["{ingest}/data.h5"]']}
  - {name: evaluate}
  - {name: gate}
  - {name: note, run: ["cp {evaluate}/validation.json {out}", "sleep 0.5"], needs: [evaluate, gate]}
"""
STAGES = ("ingest", "train", "evaluate", "gate", "note")


@pytest.fixture
def folder(tmp_path, monkeypatch, warm_python):
    """A folder with a pipeline of five stages."""
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder: Path) -> None:
    tiny = TINY["trees"]
    values = profile_values(tiny, tiny.tiny_file(folder / "raw.h5"))
    gates = {"gates": [{"metric": "size.rmse", "below": 1000.0, "min_objects": 2}], "draws": 200}
    (folder / "base.yaml").write_text(yaml.safe_dump({**values, "name": "forest", "validate": gates}))
    (folder / "weekly.yaml").write_text(PIPELINE)


def newest() -> PipelineDir:
    return find_pipeline("weekly", Path("pipelines"))


def digests(pipeline: PipelineDir) -> dict[str, dict[str, str]]:
    """Return the hashes of the results of the stages whose results hold no time."""
    found = {}
    for name in ("ingest", "train"):
        stage = pipeline.stage(name)
        found[name] = stage.read_result(stage.read_state().key)["digests"]
    return found


def states(pipeline: PipelineDir) -> dict[str, str]:
    return {name: pipeline.stage(name).read_state().state for name in STAGES}


def test_a_pipeline_killed_in_every_stage_ends_as_one_left_in_peace(folder, tmp_path_factory, monkeypatch):
    for name in STAGES:
        kill_in(name)
    assert main(["pipeline", "weekly.yaml"]) == 0
    killed = newest()
    assert len(list(killed.path.parent.glob("*/pipeline.yaml"))) == 1, "it went on and did not begin anew"
    assert set(states(killed).values()) <= {"done", "done before"}
    assert list(killed.store.glob("*/*.work")) == []
    for each in states_of(killed):
        if each["kind"] != "train":  # its ranks may not have begun
            assert each["cost"]["attempts"] == 2, "the one that was killed counts, too"
        assert 0 < each["cost"]["cpu_h"] < 1
    assert wrong_permissions(killed.path.parent, GROUP) == []
    peace = tmp_path_factory.mktemp("peace")
    make(peace)
    monkeypatch.chdir(peace)
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert digests(newest()) == digests(killed)


def runs(name: str) -> bool:
    """Return whether a stage of the newest time through the pipeline runs."""
    return any(Path("pipelines").glob("*/*/pipeline.json")) and newest().stage(name).read_state().state == RUNNING


def kill_in(name: str) -> None:
    """Go through the pipeline in a fork, and kill it with KILL once a stage runs."""
    if (child := os.fork()) == 0:
        os.setsid()
        os._exit(main(["pipeline", "weekly.yaml"]))

    wait_until(lambda: runs(name), f"stage {name}", pause_s=0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "planted/Secret+of0AWS",
    "MLFLOW_TRACKING_URI": "http://lab:planted-Password-9@127.0.0.1:9",
}


def plant_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put secrets where a run could pick them up: variables, an uncommitted change, the address of a remote."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    me = ["-c", "user.name=a", "-c", "user.email=a@b.org"]
    remote = ["remote", "add", "origin", "https://lab:planted-Remote-8@example.org/code.git"]
    for words in (["init", "-q"], remote, ["add", "base.yaml"], [*me, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    with open(folder / "base.yaml", "a") as profile:
        profile.write("".join(f"# {name} is {value}\n" for name, value in SECRETS.items()))


def test_commands_that_outlive_a_killed_stage_are_waited_for(folder, capfd):
    """Two attempts that write into the same folder at once would mix their results."""
    (folder / "weekly.yaml").write_text(
        "name: weekly\nlaunch: {cluster: local}\n"
        "stages: [{name: slow, run: \"sh -c 'echo begin >> trace; sleep 0.6; echo end >> trace'\"}]\n"
    )
    if (child := os.fork()) == 0:
        os._exit(main(["pipeline", "weekly.yaml"]))
    wait_until((folder / "trace").exists, "the command")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert (folder / "trace").read_text().split() == ["begin", "end", "begin", "end"]
    assert "waits for another process" in capfd.readouterr().out


def test_results_do_not_depend_on_the_time_at_which_they_were_made(folder):
    (folder / "weekly.yaml").write_text(
        "name: weekly\nlaunch: {cluster: local}\n"
        "stages:\n"
        "  - {name: ingest, run: 'hpctrain simulate --num-spectra 9 --num-pixels 99 --out {out}/a.h5', always: true}\n"
        "  - {name: preprocess, run: 'hpctrain data repack {ingest}/a.h5 --out {out}/b.h5'}\n"
    )
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert main(["pipeline", "weekly.yaml"]) == 0
    found = {each["stage"]: each["state"] for each in states_of(newest())}
    assert found == {"ingest": "done", "preprocess": "done before"}, "it was made again, with the same bytes"


def test_what_is_done_is_not_done_again_and_what_changed_is_said(folder, capsys, monkeypatch):
    (folder / "registry").mkdir()
    plant_secrets(folder, monkeypatch)
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert main(["pipeline", "weekly.yaml", "--if-changed"]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    (entry,) = map(json.loads, (folder / "registry/audit.jsonl").read_text().splitlines())
    assert (entry["action"], entry["subject"]) == ("pipeline", str(newest().path))
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert set(states(newest()).values()) == {"done before"}
    text = (folder / "base.yaml").read_text()
    (folder / "base.yaml").write_text(text.replace("below: 1000.0", "below: 0.0"))
    assert main(["pipeline", "weekly.yaml", "--if-changed"]) == 7
    assert states(newest()) == {
        "ingest": "done before",
        "train": "done before",
        "evaluate": "done",
        "gate": "gate failed",
        "note": "waiting",
    }
    capsys.readouterr()
    assert main(["pipeline", "status", "weekly", "--why"]) == 0
    said = capsys.readouterr().out
    assert "profile validate.gates is" in said
    assert "[!] gate" in said
    assert main(["pipeline", "status", "weekly", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages[3]["exit_code"] == 7
    assert [each["stage"] for each in stages if each["saved"]] == ["ingest", "train"]
    assert stages[1]["saved"]["attempts"] == 1
    assert stages[2]["cost"]["seconds"] > 0
    assert main(["pipeline", "report", "weekly", "--out", "page.html"]) == 0
    page = (folder / "page.html").read_text()
    assert page.count("<rect") == 2 * len(STAGES), "a picture for wide screens, and one for narrow ones"
    assert "Results that were there already saved" in page
    assert "profile validate.gates is" in page
    capsys.readouterr()
    assert main(["pipeline", "graph", "weekly"]) == 0
    assert "  ingest --> train" in capsys.readouterr().out
    assert main(["scan-secrets", "pipelines", "registry", "page.html"]) == 0, capsys.readouterr().out
    assert "[hidden: $AWS_SECRET_ACCESS_KEY]" in next(Path("pipelines").glob("*/*/train/provenance.json")).read_text()
    assert main(["scan-secrets", "base.yaml", ".git/config"]) == 7


def test_of_two_at_once_one_runs_until_it_is_cancelled_and_is_resumed(folder, capsys):
    (folder / "weekly.yaml").write_text(
        "name: weekly\nlaunch: {cluster: local}\n"
        "stages: [{name: ingest, run: \"sh -c 'echo here; test -e go || exec sleep 60'\"}]\n"
    )
    if (child := os.fork()) == 0:
        os.setsid()
        os._exit(main(["pipeline", "weekly.yaml"]))
    try:
        wait_until(lambda: runs("ingest"), "the first one")
        assert main(["pipeline", "weekly.yaml"]) == 5
        assert f"process {child} goes through it now" in capsys.readouterr().err
        assert main(["pipeline", "cancel", "weekly"]) == 0
        assert f"process {child} ends" in capsys.readouterr().out
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    assert main(["pipeline", "cancel", "weekly"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    (folder / "go").touch()
    assert main(["pipeline", "resume", "weekly"]) == 0
    assert len(list(newest().path.parent.glob("*/pipeline.yaml"))) == 1, "it went on"
    assert main(["pipeline", "resume", "weekly"]) == 0
    assert "it is over" in capsys.readouterr().out
    assert main(["pipeline", "logs", "weekly", "ingest", "-n", "1"]) == 0
    assert capsys.readouterr().out == "here\n"
    assert main(["pipeline", "logs", "weekly", "-f"]) == 0
    assert capsys.readouterr().out.endswith("here\n")
    assert main(["pipeline", "logs", "weekly", "nosuch"]) == 2
    assert "there are ingest" in capsys.readouterr().err


def test_a_killed_process_leaves_no_stage_that_seems_to_run(folder):
    (folder / "weekly.yaml").write_text(
        "name: weekly\nlaunch: {cluster: local}\nstages: [{name: ingest, run: sleep 60}]\n"
    )
    if (child := os.fork()) == 0:
        os.setsid()
        os._exit(main(["pipeline", "weekly.yaml"]))
    wait_until(lambda: runs("ingest"), "the stage")
    wait_until(lambda: states_of(newest())[0]["state"] == "running", "its commands", pause_s=0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until(lambda: states_of(newest())[0]["state"] == "failed", "its end", pause_s=0.02)
    assert states_of(newest())[0]["detail"] == "it was killed; the same command goes on"


def test_a_missing_input_and_a_command_that_fails_end_it_with_what_to_do(folder, capsys):
    (folder / "raw.h5").rename("gone.h5")
    assert main(["pipeline", "weekly.yaml"]) == 4
    assert "stage ingest: no file matches" in capsys.readouterr().err
    (folder / "gone.h5").rename("raw.h5")
    (folder / "weekly.yaml").write_text(PIPELINE.replace("cp raw.h5", "cp nothing.h5"))
    assert main(["pipeline", "weekly.yaml"]) == 1
    assert "nothing.h5" in capsys.readouterr().err
    assert main(["pipeline", "logs", "weekly"]) == 0
    assert "nothing.h5" in capsys.readouterr().out
    (folder / "weekly.yaml").write_text(PIPELINE.replace("sleep 0.5", "cp base.yaml raw.h5", 1))
    assert main(["pipeline", "weekly.yaml"]) == 4
    assert "raw.h5: changed, came or went while the commands ran" in capsys.readouterr().err
    (folder / "weekly.yaml").write_text(PIPELINE.replace("outputs: [data.h5]", "outputs: [other.h5]"))
    assert main(["pipeline", "weekly.yaml"]) == 5
    assert "did not write other.h5" in capsys.readouterr().err
    assert not is_supervised(newest().stage("train"))


def test_a_stage_that_is_left_out_hands_on_what_it_would_have_read(folder):
    text = PIPELINE.replace("{ingest}/data.h5", "{clean}/data.h5").replace(
        "  - {name: train", "  - {name: clean, run: 'cp {ingest}/data.h5 {out}', skip: true}\n  - {name: train"
    )
    (folder / "weekly.yaml").write_text(text)
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert newest().stage("clean").read_state().state == "skipped"
    profile = newest().stage("train").profile.read_text()
    assert str(newest().store / "ingest") in profile
