"""A run that moves from cloud to cloud ends with the bits of one that never moved.

The clouds are played on this machine: their containers run what hpctrain has sent, in a file system, process numbers
and host names of their own, and end as each cloud ends them. Stores are imitations that gcsfs and adlfs speak to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from cloud_stores import AzureStore, GoogleStore, stores_python
from cloud_tools import pretended_tools
from moving import TOTAL_STEPS, WEIGHTS, a_run, moving_profile, newest, start, wait_for_steps
from played_clouds import SageMakerJob, azure_job, read_job, vertex_job
from played_container import PlayedContainer, can_play
from processes import wait_until

from hpctrain.launch.history import read_history
from hpctrain.metrics.events import CheckpointMirrored
from hpctrain.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 400 MB; set ALL_FAULTS=1"),
    pytest.mark.skipif(not can_play(), reason="needs root for file systems of containers"),
]

IMAGE = "registry.example.org/hpctrain:1"
GOOGLE = {"project": "astro-project", "region": "europe-west4", "home": "gs://astro/hpctrain", "image": IMAGE}
NFS = {"server": "10.0.0.2", "export": "/runs"}
SITES = {
    "google": {"vertex": GOOGLE},
    "google-nfs": {
        "vertex": {
            **GOOGLE,
            "nfs": {"server": "10.0.0.2", "export": "/runs"},
            "network": "projects/12/global/networks/a",
        }
    },
    "azure": {"azureml": {"image": IMAGE, "workspace": "spectra", "resource_group": "astro"}},
    "aws": {
        "sagemaker": {
            "role": "arn:aws:iam::123456789012:role/trainer",
            "region": "eu-west-1",
            "home": "s3://astro/hpctrain",
            "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hpctrain:1",
        }
    },
}
MACHINES = {
    "google": ("vertex", "n2-standard-4"),
    "google-nfs": ("vertex", "n2-standard-4"),
    "azure": ("azureml", "Standard_D4s_v5"),
    "aws": ("sagemaker", "ml.m5.xlarge"),
}
DATA_OF_AZURE = "azureml://datastores/surveys/paths/tiny/"


class User:
    """Who types commands, at a machine with the pretended tools of all clouds.

    Parameters
    ----------
    folder : Path
        Of all that is theirs and the clouds'.
    python : Path
        With the clients of the stores.
    variables : dict
        Lead to the stores.
    """

    def __init__(self, folder: Path, python: Path, variables: dict[str, str]) -> None:
        self.folder, self.clouds = folder, folder / "clouds"
        self._python, self._variables = python, {**pretended_tools(self.clouds), **variables}
        (folder / "sites").mkdir()
        for name, facts in SITES.items():
            (folder / "sites" / f"{name}.yaml").write_text(yaml.safe_dump(facts))

    def types(self, *words: object) -> str:
        """Run a command of hpctrain; return what it printed."""
        environment = {**os.environ, **self._variables, "HPCTRAIN_SITES": str(self.folder / "sites")}
        command = [str(self._python), "-m", "hpctrain", *map(str, words)]
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def brings_back(self, run: RunDir) -> int:
        """Stop the job for good, and pull the run; return the step of its newest checkpoint."""
        self.types("cancel", run.path)
        self.types("pull", run.path)
        (self.clouds / "answer.json").write_text(json.dumps({"state": "JOB_STATE_CANCELLED", "status": "Canceled"}))
        return newest(run)

    def moves(self, run: RunDir, site: str, data: list[str], mirror: str | None, **shape: object) -> str:
        """Let the run go on at another site."""
        cluster, machine = MACHINES[site]
        values = {"launch.site": site, "launch.cluster": cluster, "launch.instance_type": machine}
        values |= {"data.files": data, "checkpoint.mirror": mirror}
        values |= {f"launch.{name}": value for name, value in shape.items()}
        changes = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        said = self.types("submit", "--resume", run.path, "--no-memory", "--set", *changes)
        (self.clouds / "answer.json").unlink()
        return said


@pytest.fixture(scope="module")
def python() -> Path:
    return stores_python()


def begins_at_vertex(user: User, profile: dict) -> RunDir:
    """Submit the run to Vertex AI; return its directory here."""
    shape = {"cluster": "vertex", "site": "google", "instance_type": "n2-standard-4", "spot": True, "max_attempts": 20}
    values = {
        **profile,
        "data": {**profile["data"], "files": ["gs://surveys/tiny/data.h5"]},
        "checkpoint": {**profile["checkpoint"], "mirror": "gs://astro/mirror"},
        "launch": {**profile["launch"], **shape, "runs_dir": str(user.folder / "runs")},
    }
    (user.folder / "profile.yaml").write_text(yaml.safe_dump(values))
    user.types("submit", "profile.yaml", "--no-memory")
    (path,) = (user.folder / "runs/moved").iterdir()
    return RunDir(path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def mirrored(run: RunDir) -> int:
    """Return the newest step that the run says is in its mirror."""
    events = run.read_metrics("event")
    return max((record["step"] for record in events if record["event"] == CheckpointMirrored.name), default=0)


def wait_for_mirror(run: RunDir, step: int) -> None:
    """Wait until a checkpoint after a step is in the mirror of the run."""
    wait_until(lambda: run.metrics.exists() and mirrored(run) > step, run)


def goes_on_at_azure(run: RunDir, job: str, before: int, tmp_path: Path, python: Path, azure: AzureStore) -> None:
    """Start the job twice: Azure takes a machine of low priority without a warning, and starts the job again."""
    clouds, machine = tmp_path / "clouds", tmp_path / "azure-machine"
    there = RunDir(machine / "tmp/runs/moved" / run.run_id)
    inputs = {DATA_OF_AZURE: clouds / "azure-data", "./azureml-files": clouds / "sent" / job}
    for _ in range(2):
        container = azure_job(read_job(clouds, job), machine, inputs, python, azure.variables)
        wait_for_mirror(there, before)
        container.evict()
        before = mirrored(there)


def ends_at_sagemaker(run: RunDir, job: str, tmp_path: Path) -> RunDir:
    """Let SageMaker stop the job once and finish it at the second start; return the run directory there."""
    sent = json.loads((tmp_path / "clouds/jobs" / f"{job}.json").read_text())
    machine = SageMakerJob(sent, tmp_path / "sagemaker", tmp_path / "clouds/s3")
    there = RunDir(machine.checkpoints / "moved" / run.run_id)
    wait_for_steps(there, 10, run.newest_attempt())
    machine.container.terminate()
    assert machine.container.wait() == 75
    machine.end()
    machine = SageMakerJob(sent, tmp_path / "sagemaker", tmp_path / "clouds/s3")
    assert machine.container.wait() == 0
    machine.end()
    return there


def test_from_vertex_to_azure_to_machines_of_vertex_to_sagemaker_the_bits_stay(python, tmp_path):
    profile = moving_profile(tmp_path)
    straight = a_run(tmp_path / "straight", profile)
    assert start("hpctrain.launch.supervisor", straight.path).wait() == 0

    clouds = tmp_path / "clouds"
    google = GoogleStore(python, clouds / "gs", "astro")
    azure = AzureStore(python, tmp_path / "azure", "astro")
    user = User(tmp_path, python, {**google.variables, **azure.variables})
    for folder in ("gs/surveys/tiny", "azure-data", "s3/surveys/tiny"):
        (clouds / folder).mkdir(parents=True)
        shutil.copyfile(profile["data"]["files"][0], clouds / folder / "data.h5")
    with google, azure:
        run = begins_at_vertex(user, profile)
        job = f"moved-{run.run_id}"

        def at_vertex(name: str) -> list[PlayedContainer]:
            folders = (tmp_path / "vertex", clouds / "gs", tmp_path / "nfs")
            return vertex_job(read_job(clouds, name), *folders, python, google.variables)

        there = RunDir(tmp_path / "vertex/0/tmp/runs/moved" / run.run_id)
        (container,) = at_vertex(job)  # this machine is taken back with a warning, and the next one without
        wait_for_steps(there, 10, 0)
        container.terminate()
        assert container.wait() == 75
        stopped_at = newest(there)
        (container,) = at_vertex(job)
        wait_for_mirror(there, stopped_at)
        container.evict()
        ended = [(item.exit_code, item.followed) for item in read_history(there)]
        assert ended == [(75, "requeued")], "the second machine knows how the first one ended"

        before = user.brings_back(run)
        assert before > stopped_at
        words = user.moves(run, "azure", data=[f"{DATA_OF_AZURE}data.h5"], mirror="abfs://astro/mirror")
        assert f"sent the checkpoint of step {before} to abfs://astro/mirror" in words
        goes_on_at_azure(run, f"{job}-2", before, tmp_path, python, azure)

        before = user.brings_back(run)
        (tmp_path / "nfs").mkdir()
        shape = {"nodes": 2, "ranks_per_node": 1}
        user.moves(run, "google-nfs", data=["gs://surveys/tiny/data.h5"], mirror="gs://astro/mirror", **shape)
        there = RunDir(tmp_path / "nfs/moved" / run.run_id)
        containers = at_vertex(f"{job}-3")
        wait_for_steps(there, 10, run.newest_attempt())
        for container in containers:
            container.terminate()
        assert [container.wait() for container in containers] == [75, 75]

        before = user.brings_back(run)
    user.moves(run, "aws", data=["s3://surveys/tiny/data.h5"], mirror=None, nodes=1, ranks_per_node=2)
    there = ends_at_sagemaker(run, f"{job}-4", tmp_path)

    assert newest(there) == TOTAL_STEPS
    assert sha256(there.path / WEIGHTS) == sha256(straight.path / WEIGHTS)
    ended = read_history(there)
    codes = [item.exit_code for item in ended]  # without attempts that were killed as the last one of their job
    assert codes[:3] == [75, 137, 75]
    assert codes[3] in (75, 137), "what SageMaker copied last may lack the end of the attempt"
    assert codes[4:] == [0]
    assert {item.job_id for item in ended} == {job, *(f"{job}-{number}" for number in (2, 3, 4))}
