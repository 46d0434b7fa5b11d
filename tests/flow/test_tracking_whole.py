"""Studies, pipelines and registered versions in MLflow and W&B, and servers that are killed while they are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow_lab import postgres_programs
from processes import wait_until
from registered_runs import GATE, validate
from tracked_parts import SCORES, STEPS, digest_in, make_pipeline, make_study, train
from wandb_files import artifacts_of, rows_of, runs_of

from hpctrain.cli import main
from hpctrain.metrics.events import Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.pipeline.folder import RUNNING
from hpctrain.registry.actions import promote
from hpctrain.registry.add import add_run
from hpctrain.registry.folder import Registry
from hpctrain.rundir import RunDir, file_digest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _wandb_ends():
    wandb = pytest.importorskip("wandb", reason="pip install 'hpctrain[wandb]'", exc_type=ImportError)
    yield
    wandb.teardown()  # its own process would outlive the test


def to_mlflow(mlflow, experiment):
    return ["--to", "mlflow", "--tracking-uri", mlflow.url, "--experiment", experiment]


def track(capsys, *words):
    """Track in this process, and return what was printed."""
    capsys.readouterr()
    assert main(["track", *map(str, words)]) == 0
    return capsys.readouterr().out


def plain_run(folder, name):
    run = RunDir(folder / "runs" / name / "20261126-120000-0001")
    run.path.mkdir(parents=True)
    run.profile.write_text(f"name: {name}\ndata: {{files: [a.h5], simulate: {{}}}}\n")
    return run


def test_a_study_in_mlflow_is_a_parent_with_its_trials_and_is_sent_once(mlflow, folder, capsys):
    study, experiment = make_study(folder), f"study-{uuid.uuid4()}"
    where = to_mlflow(mlflow, experiment)
    assert main(["track", str(study.trial(1).path), *where]) == 0  # as a trial does by itself while it trains
    said = track(capsys, "forest-search", *where)
    assert said.startswith(f"{study.path}: study and 4 tracked runs below it; ")
    found = mlflow.copy_of(experiment)
    parent = found.pop(f"forest-search/{study.id}")
    assert sorted(found) == [f"{study.id}/{number}" for number in range(4)]
    assert parent["points"]["study/loss"] == list(enumerate(SCORES))
    assert parent["state"] == "FINISHED"
    tags = {name.removeprefix("hpctrain."): value for name, value in parent["tags"].items()}
    assert (tags["kind"], tags["best_trial"], tags["trials.diverged"]) == ("study", "1", "1")
    assert parent["params"]["space.model.min_leaf.choices"] == "[1, 2, 3, 4]"
    for number, trial in enumerate(found[key] for key in sorted(found)):
        assert trial["tags"]["parent"] == trial["tags"]["hpctrain.group"] == f"forest-search/{study.id}"
        assert trial["params"]["model.min_leaf"] == str(number + 1)
        assert trial["state"] == ("FAILED" if number == 3 else "FINISHED")
        assert [name for name, *_ in trial["data"]] == ["raw.h5"]
        if number < 3:
            assert trial["points"]["trial/loss"] == [(STEPS, SCORES[number])]
            assert [step for step, _ in trial["points"]["train/loss"]] == list(range(1, STEPS + 1))
    before = mlflow.copy_of(experiment)
    assert track(capsys, study.path, *where).endswith("0 new records sent to mlflow\n")
    assert mlflow.copy_of(experiment) == before


def test_folds_of_a_cross_validation_are_below_their_trial_in_mlflow(mlflow, folder):
    study, experiment = make_study(folder, folds=2, trials=1, parallel=1), f"folds-{uuid.uuid4()}"
    assert main(["track", str(study.run(1, study.section()).path), *to_mlflow(mlflow, experiment)]) == 0
    assert main(["track", str(study.path), *to_mlflow(mlflow, experiment)]) == 0
    found = mlflow.copy_of(experiment)
    trial = f"{study.id}/0"
    folds = {key: run["tags"]["parent"] for key, run in found.items() if run["tags"]["hpctrain.kind"] == "fold"}
    assert folds == {f"{trial}/fold-0": trial, f"{trial}/fold-1": trial}
    assert found[trial]["tags"]["parent"] == f"forest-search/{study.id}"
    assert found[trial]["state"] == "FINISHED"


def test_a_pipeline_in_mlflow_has_its_stages_data_sets_gates_and_registered_version(mlflow, folder, capsys):
    prefix = f"{uuid.uuid4().hex}-"
    registry = Registry(folder / "registry")
    registry.path.mkdir()
    registry.policy.write_text(f"mlflow: {{tracking_uri: '{mlflow.url}', prefix: '{prefix}'}}\n")
    pipeline, experiment = make_pipeline(folder), f"pipeline-{uuid.uuid4()}"
    add_run(pipeline.stage("train"), "sizes", registry)
    promote("sizes:1", "champion", "the first one", registry)
    where = to_mlflow(mlflow, experiment)
    said = track(capsys, "weekly", *where)
    assert f"{registry.path}: in MLflow's registry now: {prefix}sizes:1, {prefix}sizes@champion\n" in said
    found = mlflow.copy_of(experiment)
    parent = found.pop(f"weekly/{pipeline.id}")
    stages = {run["name"]: run for run in found.values()}
    assert set(stages) == {"ingest", "train", "judge", "gate"}
    assert {run["tags"]["parent"] for run in stages.values()} == {f"weekly/{pipeline.id}"}
    assert [stages[name]["state"] for name in ("train", "gate")] == ["FINISHED", "FAILED"]
    assert (parent["state"], parent["tags"]["hpctrain.gates"]) == ("FAILED", "failed")
    assert [step for step, _ in parent["points"]["stage/train.duration_s"]] == [1]

    raw = file_digest(folder / "raw.h5")[:32]
    made = pipeline.stage("ingest").sealed(pipeline.stage("ingest").read_state().key)
    assert digest_in(made / "stage.json")[:32] == raw  # the stage is a copy
    assert stages["ingest"]["data"] == [
        ("data.h5", raw, "output", str(made / "out/data.h5")),
        ("raw.h5", raw, "input", str(folder / "raw.h5")),
    ]
    assert stages["train"]["data"] == [("data.h5", raw, "training", str(made / "out/data.h5"))]
    assert parent["data"] == [("raw.h5", raw, "input", str(folder / "raw.h5"))]

    trained = stages["train"]
    assert trained["points"]["validation/Z.nmad"] == [(STEPS, 0.018)]
    assert trained["points"]["validation/Z.nmad.high"] == [(STEPS, 0.021)]
    assert trained["points"]["validation/gates_passed"] == [(STEPS, 1.0)]
    assert trained["tags"]["hpctrain.gate.001"] == f"passed: {GATE['asked']}: {GATE['said']}"
    assert trained["tags"]["hpctrain.registered.sizes"] == "1, champion"
    assert trained["tags"]["hpctrain.attempts"] == "1"
    attempt = trained["tags"]["hpctrain.attempt.0001"]
    assert attempt.startswith("job 17 on node1, 20")
    assert attempt.endswith("Z: finished")
    linked = mlflow.ask("registered-models/alias", name=f"{prefix}sizes", alias="champion")["model_version"]
    (run_id,) = [run["info"]["run_id"] for run in mlflow.runs(experiment) if run["info"]["run_name"] == "train"]
    assert (linked["run_id"], linked["source"]) == (run_id, f"runs:/{run_id}/model")
    before = mlflow.copy_of(experiment)
    assert track(capsys, "weekly", *where).endswith("0 new records sent to mlflow\n")
    assert mlflow.copy_of(experiment) == before

    gate = pipeline.stage("gate")
    gate.write_state(replace(gate.read_state(), state=RUNNING, exit_code=None))  # it is tried again
    track(capsys, gate.path, *where)
    (tried,) = [run for run in mlflow.runs(experiment) if run["info"]["run_name"] == "gate"]
    assert "hpctrain.exit_code" not in tried["tags"]
    assert tried["info"]["status"] == "RUNNING"


def test_a_version_that_is_registered_before_its_run_is_tracked_is_linked_to_it(mlflow, folder):
    """The run that the version needs is made empty; a later replay fills this one."""
    registry, name = Registry(folder / "registry"), f"m{uuid.uuid4().hex}"
    registry.path.mkdir()
    registry.policy.write_text(f"mlflow: {{tracking_uri: '{mlflow.url}'}}\n")
    run = plain_run(folder, name)
    train(run)
    add_run(run, name, registry)
    assert main(["registry", "sync"]) == 0
    assert main(["track", str(run.path), "--to", "mlflow", "--tracking-uri", mlflow.url]) == 0
    (tracked,) = mlflow.runs(name)
    linked = mlflow.ask("model-versions/get", name=name, version="1")["model_version"]
    assert linked["run_id"] == tracked["info"]["run_id"]
    assert len(mlflow.points(linked["run_id"], "train/loss")) == STEPS


def test_a_validation_that_is_repeated_adds_its_numbers_once(mlflow, folder, capsys):
    experiment = f"validated-{uuid.uuid4()}"
    run = plain_run(folder, "photoz")
    train(run, gates=[GATE])
    for wanted in (STEPS + 1 + 2 + 2, 0):
        said = track(capsys, run.path, *to_mlflow(mlflow, experiment))
        assert said == f"{run.path}: {wanted} new records sent to mlflow\n"
    validate(run, [{**GATE, "passed": False}])
    assert track(capsys, run.path, *to_mlflow(mlflow, experiment)) == f"{run.path}: 1 new records sent to mlflow\n"
    (tracked,) = mlflow.runs(experiment)
    assert tracked["tags"]["hpctrain.gates"] == "failed"
    assert tracked["metrics"]["validation/gates_passed"] == 0
    validate(run, [GATE])
    train(run, score=0.7)  # other weights: what the validation says is not of this model
    assert main(["track", str(run.path), *to_mlflow(mlflow, experiment)]) == 0
    assert mlflow.runs(experiment)[0]["metrics"]["validation/gates_passed"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_wandb_ends")
def test_a_pipeline_in_wandb_is_a_group_with_data_sets_by_reference_and_the_registered_model(folder, capsys):
    registry = Registry(folder / "registry")
    pipeline = make_pipeline(folder)
    stage = pipeline.stage("train")
    version = add_run(stage, "sizes", registry).version
    promote("sizes:1", "champion", "the first one", registry)
    where = ["--to", "wandb", "--mode", "offline", "--project", "p"]
    track(capsys, "weekly", *where)
    assert track(capsys, "weekly", *where).endswith("0 new records sent to wandb\n")

    (parent,) = runs_of(pipeline.path)
    (trained,) = runs_of(stage.path)
    group = f"weekly/{pipeline.id}"
    assert (parent["group"], parent["job_type"], parent["id"]) == (group, "pipeline", f"weekly-{pipeline.id}")
    assert (trained["group"], trained["job_type"], trained["name"]) == (group, "stage", "train")
    assert trained["config"]["provenance"]["gates"] == "passed"
    assert [float(row["validation/Z.nmad"]) for row in rows_of(stage.path) if "validation/Z.nmad" in row] == [0.018]
    steps = [int(row["step"]) for row in rows_of(stage.path) if "train/loss" in row]
    assert steps == list(range(1, STEPS + 1))
    numbers = [int(row["_step"]) for row in rows_of(stage.path)]
    assert numbers == sorted(set(numbers))

    made = pipeline.stage("ingest").sealed(pipeline.stage("ingest").read_state().key) / "out/data.h5"
    entry = {"digest": file_digest(made), "ref": made.as_uri(), "size": 0}
    used, model = ([each for each in artifacts_of(stage.path) if each["type"] == kind] for kind in ("dataset", "model"))
    assert [(each["name"], each["is_used"]) for each in used] == [("data.h5", True)]
    assert used[0]["entries"]["data.h5"] == {**entry, "size": made.stat().st_size}
    assert used[0]["metadata"]["sha256"] == file_digest(made)
    (written,) = [each for each in artifacts_of(pipeline.stage("ingest").path) if each["name"] == "data.h5"]
    assert (written["is_used"], written["entries"]["data.h5"]["digest"]) == (False, entry["digest"])
    (registered,) = [each for each in model if each["name"] == "sizes"]
    assert sorted(registered["aliases"]) == ["champion", "latest", "version-1"]
    assert registered["entries"]["model/model.safetensors"]["size"] == version.files["model/model.safetensors"]["size"]

    promote("sizes:1", "candidate", "once more", registry)
    track(capsys, stage.path, *where)
    aliases = [sorted(each["aliases"]) for each in artifacts_of(stage.path) if each["name"] == "sizes"]
    assert aliases == [["champion", "latest", "version-1"], ["candidate", "champion", "latest", "version-1"]]


def long_run(folder, steps):
    """Return a run with so many records of ten numbers."""
    run = plain_run(folder, "long")
    writer = MetricsWriter(run, 1)
    writer.event(Started.from_record({}), 0)
    for step in range(1, steps + 1):
        writer.train(step, loss=1 / step, **{f"number_{index}": step + index / 10 for index in range(9)})
    writer.close()
    return run


class Replay:
    """``hpctrain track`` in a process of its own."""

    def __init__(self, mlflow, experiment, path, folder):
        self.mlflow, self._experiment = mlflow, experiment
        self._log = folder / f"{path.name}.log"
        command = [sys.executable, "-m", "hpctrain", "track", str(path), *to_mlflow(mlflow, experiment)]
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def said(self):
        return self._log.read_text()

    def arrived(self):
        """Return how many records all tracked runs have received."""
        runs = self.mlflow.runs(self._experiment)
        return sum(len(self.mlflow.points(run["info"]["run_id"], "train/loss")) for run in runs)

    def wait_for(self, number):
        wait_until(lambda: self.arrived() >= number or self.process.poll() is not None, lambda: self.said, pause_s=0.02)
        assert self.process.poll() is None, self.said

    def notices(self, times):
        wait_until(
            lambda: self.said.count("trying again") >= times or self.process.poll() is not None, lambda: self.said
        )

    def ends(self):
        assert self.process.wait() == 0, self.said


def forget(folder):
    """Remove what says where the runs below a folder were sent, so that the next replay begins anew elsewhere."""
    for path in list(folder.rglob("track/mlflow.json")):
        shutil.rmtree(path.parent)


@pytest.fixture(scope="module")  # what a test itself starts would be ended after it
def killed_data_base(mlflow, tmp_path_factory):
    """A run that was sent while its data base was killed, and one that was sent in peace."""
    folder = tmp_path_factory.mktemp("killed")
    run, experiment, twin = long_run(folder, 800), f"killed-{uuid.uuid4()}", f"peace-{uuid.uuid4()}"
    replay = Replay(mlflow, experiment, run.path, folder)
    replay.wait_for(200)
    mlflow.postgres.kill()
    replay.notices(1)
    mlflow.postgres.start()
    replay.ends()
    forget(folder)
    assert main(["track", str(run.path), *to_mlflow(mlflow, twin)]) == 0
    return experiment, twin


@pytest.mark.slow
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")
def test_a_postgresql_that_is_killed_in_mid_write_costs_no_record_and_doubles_none(mlflow, killed_data_base):
    ours, theirs = (mlflow.copy_of(experiment) for experiment in killed_data_base)
    assert ours == theirs
    (copy,) = ours.values()
    assert [step for step, _ in copy["points"]["train/number_8"]] == list(range(1, 801))


@pytest.fixture(scope="module")
def killed_servers(mlflow, tmp_path_factory):
    """A run, a study and a pipeline, sent while the server and its data base were killed, and sent in peace."""
    folder = tmp_path_factory.mktemp("servers")
    before = Path.cwd()
    os.chdir(folder)
    study, pipeline, run = make_study(folder), make_pipeline(folder), long_run(folder, 2000)
    os.chdir(before)
    experiment, twin = f"killed-{uuid.uuid4()}", f"peace-{uuid.uuid4()}"
    kill_while_sending(Replay(mlflow, experiment, run.path, folder), (1, 700, 1400))
    kill_while_sending(Replay(mlflow, experiment, study.path, folder), (2001, 2001 + STEPS))
    kill_while_sending(Replay(mlflow, experiment, pipeline.path, folder), (2001 + 3 * STEPS + 1,))
    forget(folder)
    for each in (run, study, pipeline):
        assert main(["track", str(each.path), *to_mlflow(mlflow, twin)]) == 0
    return experiment, twin


def kill_while_sending(replay, moments):
    """Kill the server of MLflow, or PostgreSQL, or both, each time that so many steps have arrived."""
    for number, moment in enumerate(moments, start=1):
        replay.wait_for(moment)
        if number != 2:
            replay.mlflow.kill()
        if number != 1:
            replay.mlflow.postgres.kill()
        replay.notices(number)
        if number != 1:
            replay.mlflow.postgres.start()
        if number != 2:
            replay.mlflow.start()
    replay.ends()


@pytest.mark.skipif(not os.environ.get("ALL_FAULTS"), reason="starts MLflow again and again; ALL_FAULTS=1 does it")
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")
def test_a_run_a_study_and_a_pipeline_survive_kills_of_the_server_and_its_data_base(mlflow, killed_servers):
    ours, theirs = (mlflow.copy_of(experiment) for experiment in killed_servers)
    assert ours == theirs
