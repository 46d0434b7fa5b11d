"""Airflow runs the file that we write for it to the end, and Kubeflow's compiler takes the one for it.

Both run with ``ALL_FAULTS=1`` in the environment alone: Airflow needs half a minute of CPU time. What every run of the
tests looks at is in ``tests/unit/pipeline/test_emit.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from own_environment import own_environment

from hpctrain.cli import main
from hpctrain.launch.history import read_history
from hpctrain.pipeline.folder import PipelineDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs a minute; set ALL_FAULTS=1"),
]

AIRFLOW = ("apache-airflow>=3.2,<4",)
KUBEFLOW = ("kfp>=2.14,<3", "kfp-kubernetes>=2.14,<3")
PIPELINE = """\
name: weekly
launch: {cluster: local, gpus_per_node: 0}
stages:
  - {name: ingest, run: "cp raw.h5 {out}/data.h5", inputs: [raw.h5], launch: {memory_gib: 2}}
  - {name: train, profile: base.yaml, set: ['data.files=["{ingest}/data.h5"]']}
  - {name: gate}
  - {name: note-it, run: "cp {train}/model/model.json {out}"}
"""
STAGES = ("ingest", "train", "gate", "note-it")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a pipeline of four stages."""
    tiny = TINY["trees"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "raw.h5"))
    gates = {"gates": [{"metric": "size.rmse", "below": 1000.0, "min_objects": 2}], "draws": 200}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**values, "name": "forest", "validate": gates}))
    (tmp_path / "weekly.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


LOOK = """\
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
(dag,) = bag.dags.values()
edges = {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
print(json.dumps({"errors": bag.import_errors, "edges": edges, "when": str(dag.schedule)}), file=sys.stderr)
"""


def in_airflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a Python with Airflow, whose settings and data base are in `folder`."""
    home = folder / "airflow"
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
    }
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | settings
    command = [str(own_environment("airflow", *AIRFLOW, constrained=False, sees_ours=False)), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run_dag(folder: Path) -> str:
    """Run the DAG as Airflow does; return what Airflow says."""
    made = in_airflow(folder, "-m", "airflow", "db", "migrate")
    assert made.returncode == 0, made.stderr[-4000:]
    done = in_airflow(folder, "-m", "airflow", "dags", "test", "weekly")
    return done.stdout + done.stderr


def with_hpctrain(folder: Path) -> Path:
    """Return a folder of commands as an image has them."""
    (folder / "bin").mkdir()
    command = folder / "bin/hpctrain"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m hpctrain "$@"\n')
    command.chmod(0o755)
    return command.parent


def states(folder: Path) -> dict[str, tuple[str, int | None]]:
    (file,) = (folder / "pipelines/weekly").glob("*/pipeline.yaml")
    found = {name: PipelineDir(file.parent).stage(name).read_state() for name in STAGES}
    return {name: (state.state, state.exit_code) for name, state in found.items()}


def test_airflow_loads_the_dag_and_runs_the_pipeline_to_its_end(folder):
    dag = folder / "airflow/dags/weekly.py"
    assert main(["pipeline", "emit", "airflow", "weekly.yaml", "--every", "6h", "-o", str(dag)]) == 0
    looked = in_airflow(folder, "-c", LOOK, str(dag.parent))
    assert json.loads(looked.stderr.splitlines()[-1]) == {
        "errors": {},
        "edges": {"ingest": [], "train": ["ingest"], "gate": ["train"], "note-it": ["gate", "train"]},
        "when": "0 */6 * * *",
    }
    said = run_dag(folder)
    assert "state=success" in said, said[-4000:]
    assert set(states(folder).values()) == {("done", 0)}


def test_airflow_does_not_try_again_what_would_only_fail_again(folder):
    text = (folder / "base.yaml").read_text()
    (folder / "base.yaml").write_text(text.replace("below: 1000.0", "below: 0.0"))
    assert main(["pipeline", "emit", "airflow", "weekly.yaml", "-o", "airflow/dags/weekly.py"]) == 0
    said = run_dag(folder)
    assert "exit code 7: another try would only repeat it" in said
    assert "state=failed" in said
    assert said.count("'--stage', 'gate'") == 1
    assert states(folder)["gate"] == ("gate failed", 7)
    assert states(folder)["note-it"] == ("waiting", None)


@pytest.mark.slurm
def test_airflow_goes_through_stages_that_are_jobs_on_slurm(folder, slurm, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    assert main(["pipeline", "emit", "airflow", "weekly.yaml", "--cluster", "slurm", "-o", "written.py"]) == 0
    text = (folder / "written.py").read_text()
    (folder / "airflow/dags").mkdir(parents=True)
    (folder / "airflow/dags/weekly.py").write_text(text.replace('"poke_interval": 60', '"poke_interval": 2'))
    said = run_dag(folder)
    assert "state=success" in said, said[-4000:]
    assert "Rescheduling task" in said or "reschedule" in said
    assert set(states(folder).values()) == {("done", 0)}
    (file,) = (folder / "pipelines/weekly").glob("*/pipeline.yaml")
    assert [len(read_history(PipelineDir(file.parent).stage(name))) for name in STAGES] == [1, 1, 1, 1]


def test_the_compiler_of_kubeflow_takes_the_pipeline_and_its_containers_do_the_stages(folder):
    words = ["--image", "registry.example.org/hpctrain:1", "--at", str(folder), "-o", "weekly_kubeflow.py"]
    changes = "launch: {gpus_per_node: 2, cpus_per_rank: 4, memory_gib_per_node: 64}"
    profile = yaml.safe_load((folder / "base.yaml").read_text())
    (folder / "base.yaml").write_text(yaml.safe_dump(profile | yaml.safe_load(changes)))
    assert main(["pipeline", "emit", "kubeflow", "weekly.yaml", *words]) == 0
    (folder / "base.yaml").write_text(yaml.safe_dump(profile))
    python = own_environment("kubeflow", *KUBEFLOW, constrained=False, sees_ours=False)
    command = [str(python), "weekly_kubeflow.py", "compiled.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spec, platform = yaml.safe_load_all((folder / "compiled.yaml").read_text())
    tasks, executors = spec["root"]["dag"]["tasks"], spec["deploymentSpec"]["executors"]
    assert tasks["stage-4-note-it"]["dependentTasks"] == ["stage-2-train", "stage-3-gate"]
    assert tasks["stage-2-train"]["retryPolicy"]["maxRetryCount"] == 2
    asked = executors["exec-stage-2-train"]["container"]["resources"]
    assert asked["accelerator"] == {
        "count": "2",
        "resourceCount": "2",
        "resourceType": "nvidia.com/gpu",
        "type": "nvidia.com/gpu",
    }
    assert (asked["resourceCpuLimit"], asked["resourceMemoryLimit"]) == ("8", "64Gi")
    claims = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {each["pvcMount"][0]["mountPath"] for each in claims.values()} == {str(folder)}
    path = f"{with_hpctrain(folder)}{os.pathsep}{os.environ['PATH']}"
    for number, name in enumerate(STAGES, 1):
        container = executors[f"exec-stage-{number}-{name}"]["container"]
        words = [word.replace("{{$.inputs.parameters['run']}}", "of-kubeflow") for word in container["args"]]
        done = subprocess.run([*container["command"], *words], env={**os.environ, "PATH": path}, cwd="/")
        assert done.returncode == 0, name
    assert set(states(folder).values()) == {("done", 0)}
