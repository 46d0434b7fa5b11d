"""A run at Vertex AI and at Azure Machine Learning: what is sent, what is refused before, and the states of a job."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from cloud_tools import pretended_tools, save_checkpoint
from own_environment import own_environment

from hpctrain import states
from hpctrain.checkpoint.mirror import Mirror, pull, push_if_newer
from hpctrain.cli import run_command
from hpctrain.errors import ProfileError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.launch.targets import azureml, vertex
from hpctrain.launch.targets.clouds import send_checkpoint
from hpctrain.profile.families import profile_class
from hpctrain.profile.instances import INSTANCES, instance_names
from hpctrain.profile.load import load_profile
from hpctrain.profile.platforms import PLATFORMS
from hpctrain.profile.sections.azureml import AzureMLSection
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.profile.sections.vertex import VertexSection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir

SITE = Site(
    vertex=VertexSection(
        project="astro-project",
        region="europe-west4",
        home="gs://astro-runs/hpctrain",
        image="europe-docker.pkg.dev/astro/hpctrain:1",
        service_account="trainer@astro-project.iam.gserviceaccount.com",
        labels={"team": "astro"},
    ),
    azureml=AzureMLSection(
        subscription="01234567-89ab-cdef-0123-456789abcdef",
        resource_group="astro",
        workspace="spectra",
        image="astro.azurecr.io/hpctrain:1",
        compute={"Standard_NC24ads_A100_v4": "a100"},
        tags={"project": "sdss"},
    ),
)
MACHINES = {"vertex": "a2-highgpu-1g", "azureml": "Standard_NC24ads_A100_v4"}
DATA = {"vertex": "gs://surveys/sdss/*.h5", "azureml": "azureml://datastores/surveys/paths/sdss/*.h5"}
CLOUDS = list(MACHINES)


@pytest.fixture
def clouds(tmp_path, monkeypatch) -> Path:
    for name, value in pretended_tools(tmp_path / "clouds").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "clouds"


def prepared(
    cloud: str,
    folder: Path,
    site: Site = SITE,
    mirror: str | None = "s3://astro-runs/mirror",
    resume: RunDir | None = None,
    in_site: str | None = None,
    **launch,
):
    shape = {
        "cluster": cloud,
        "site": in_site,
        "instance_type": MACHINES[cloud],
        "gpus_per_node": 1,
        "cpus_per_rank": 8,
    }
    profile = profile_class()(
        name="SDSS_vae",
        launch=LaunchSection(**{**shape, "runs_dir": str(folder / "runs"), **launch}),
        data=SpectraSection(files=[DATA[cloud]]),
        checkpoint=CheckpointSection(mirror=mirror),
    )
    return prepare([profile], cloud, site, resume=resume)


def sent(cloud: str, folder: Path, *arguments: object, **options: object) -> dict:
    (text,) = prepared(cloud, folder, *arguments, **options).texts.values()
    return yaml.safe_load(text)


def test_a_custom_job_has_what_profile_and_site_say(tmp_path):
    job = sent("vertex", tmp_path, spot=True)
    (pool,) = job["workerPoolSpecs"]
    assert pool["machineSpec"] == {
        "machineType": "a2-highgpu-1g",
        "acceleratorType": "NVIDIA_TESLA_A100",
        "acceleratorCount": 1,
    }
    assert job["scheduling"]["strategy"] == "SPOT"
    assert pool["containerSpec"]["args"][0].startswith("/tmp/runs/SDSS_vae/2")
    assert pool["containerSpec"]["args"][2].startswith("/gcs/astro-runs/hpctrain/submitted/SDSS_vae-2")


def test_several_machines_of_vertex_share_nfs(tmp_path):
    facts = SITE.vertex.model_dump(exclude_defaults=True)
    nfs = {"nfs": {"server": "10.0.0.2", "export": "/runs"}, "network": "projects/12/global/networks/astro"}
    job = sent("vertex", tmp_path, Site(vertex=VertexSection(**{**facts, **nfs})), nodes=3, mirror=None)
    assert [pool["replicaCount"] for pool in job["workerPoolSpecs"]] == ["1", "2"]
    assert job["workerPoolSpecs"][1]["nfsMounts"] == [{"server": "10.0.0.2", "path": "/runs", "mountPoint": "nfs"}]
    assert job["workerPoolSpecs"][0]["containerSpec"]["args"][0].startswith("/mnt/nfs/nfs/SDSS_vae/")


def test_a_command_job_has_what_profile_and_site_say(tmp_path):
    job = sent("azureml", tmp_path)
    assert job["compute"] == "azureml:a100"
    assert job["command"].startswith("exec env AZURE_ML_INPUT_data0=${{inputs.data0}} python3 ")
    assert job["command"].endswith("--files ${{inputs.run_files}}")
    data = {"type": "uri_folder", "path": "azureml://datastores/surveys/paths/sdss/", "mode": "ro_mount"}
    assert job["inputs"]["data0"] == data
    spot = sent("azureml", tmp_path, spot=True)
    assert spot["queue_settings"] == {"job_tier": "spot"}
    assert spot["resources"]["instance_type"] == "Standard_NC24ads_A100_v4"


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"instance_type": "abacus"}, "launch.instance_type"),
        ({"nodes": 2}, "launch.nodes"),
        ({"mirror": None}, "checkpoint.mirror"),
        ({"mirror": "/scratch/mirror"}, "checkpoint.mirror"),
        ({"mirror": "file:///scratch/mirror"}, "checkpoint.mirror"),
        ({"gpus_per_node": 2}, "launch.gpus_per_node"),
    ],
)
def test_what_cannot_run_is_told_with_its_key_before_anything_is_sent(cloud, changes, where, tmp_path):
    with pytest.raises(ProfileError) as error:
        prepared(cloud, tmp_path, **changes)
    assert where in {problem.where for problem in error.value.problems}


def test_the_files_of_a_run_go_to_the_bucket_and_data_are_read_below_gcs(clouds, tmp_path, monkeypatch):
    (tmp_path / "google.yaml").write_text(f"vertex: {SITE.vertex.model_dump_json(exclude_defaults=True)}\n")
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    submission = prepared("vertex", tmp_path, in_site="google")
    assert submit(submission, tmp_path) == ["europe-west4.345"]
    (folder,) = (clouds / "gs/astro-runs/hpctrain/submitted").iterdir()
    assert yaml.safe_load((folder / "profile.yaml").read_text())["data"]["files"] == ["/gcs/surveys/sdss/*.h5"]
    (words,) = (clouds / "jobs").glob("*.words")
    assert {"--labels=team=astro", "--project=astro-project"} <= set(words.read_text().split())
    (run,) = submission.runs
    assert describe(run).state == states.RUNNING
    assert {"--region=europe-west4", "--project=astro-project"} <= set((clouds / "asked").read_text().split())
    assert "stops" in cancel(run)
    assert describe(run).state == states.CANCELLED


def test_azure_gets_the_files_of_a_run_and_an_input_for_each_folder_of_data(clouds, tmp_path, monkeypatch):
    submission = prepared("azureml", tmp_path)
    (name,) = submit(submission, tmp_path)
    job = yaml.safe_load((clouds / "jobs" / name).read_text())
    assert job == yaml.safe_load(submission.texts[azureml.JOB]), "as the dry run shows it"
    monkeypatch.setenv("AZURE_ML_INPUT_data0", "/mnt/inputs/data0")
    assert load_profile(clouds / "sent" / name / "profile.yaml").data.files == ["/mnt/inputs/data0/*.h5"]
    (run,) = submission.runs
    assert describe(run).state == states.RUNNING
    assert "stops" in cancel(run)
    assert describe(run).state == states.CANCELLED


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_run_that_is_resumed_has_a_job_of_another_name_and_its_newest_checkpoint(cloud, clouds, tmp_path, capsys):
    place = f"memory://{tmp_path.name}"
    submission = prepared(cloud, tmp_path, mirror=place)
    submit(submission, tmp_path)
    (run,) = submission.runs
    file = run.path / {"vertex": vertex.JOB, "azureml": azureml.JOB}[cloud]
    assert f"{run.run_id}-2" not in file.read_text()
    assert not capsys.readouterr().out
    save_checkpoint(run, 10)
    submit(prepared(cloud, tmp_path, mirror=place, resume=run), tmp_path)
    assert f"{run.run_id}-2" in file.read_text(), "the ranks count the attempts of the new job"
    kept = {path.name for path in (clouds / "jobs").iterdir()}
    assert {f"SDSS_vae-{run.run_id}{end}.words" for end in ("", "-2")} <= kept
    assert capsys.readouterr().out == f"sent the checkpoint of step 10 to {place}\n"
    mirror = Mirror.of(run, place)
    assert pull(mirror, RunDir(tmp_path / "there" / run.name / run.run_id)).step == 10
    assert not push_if_newer(mirror, run, 10)


def test_a_checkpoint_that_no_mirror_can_take_is_named_in_a_warning(tmp_path, capsys):
    run = RunDir.create(tmp_path, "vae")
    save_checkpoint(run, 10)
    send_checkpoint(run, None)
    assert "warning: the checkpoint of step 10 is not sent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"state": "JOB_STATE_QUEUED"}, states.PENDING),
        ({"state": "JOB_STATE_PENDING", "startTime": "2026-11-20T10:00:00Z"}, states.REQUEUED),
        ({"state": "JOB_STATE_SUCCEEDED"}, states.FINISHED),
        ({"state": "JOB_STATE_FAILED", "error": {"message": "exit 4"}}, states.FAILED),
        ({"state": "SOMETHING_NEW"}, states.UNKNOWN),
    ],
)
def test_the_words_of_vertex_become_ours(answer, state):
    assert vertex.judge(answer).state == state


def test_the_machines_of_a_cloud_are_listed_with_what_they_have(capsys):
    assert run_command("platforms", ["--machines", "azureml"]) == 0
    rows = {words[0]: words[1:] for line in capsys.readouterr().out.splitlines() if len(words := line.split()) == 5}
    assert rows["Standard_NC48ads_A100_v4"] == ["a100-80", "2", "48", "440"]
    assert set(rows) == set(instance_names("azureml"))
    assert run_command("platforms", ["--machines", "vertex", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(instance_names("vertex"))


def test_every_machine_has_a_platform_that_profiles_can_name():
    assert {each.platform for each in INSTANCES} <= set(PLATFORMS)


VERTEX_MODEL = """\
import json, sys
from google.cloud.aiplatform_v1.types import CustomJobSpec
for text in sys.stdin.read().splitlines():
    try:
        CustomJobSpec.from_json(text)
        print("good")
    except Exception as error:
        print("bad:", str(error).splitlines()[0])
"""
AZURE_MODEL = """\
import sys
from azure.ai.ml import load_job
for path in sys.argv[1:]:
    try:
        job = load_job(path)
        print("good" if job._validate().passed else f"bad: {job._validate().error_messages}")
    except Exception as error:
        print("bad:", str(error).splitlines()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 150 MB; set ALL_FAULTS=1")
def test_jobs_are_as_the_models_of_google_and_azure_want_them(tmp_path):
    jobs = [sent("vertex", tmp_path), sent("vertex", tmp_path, spot=True)]
    wrong = {**jobs[0], "schedulings": {}}
    python = own_environment("vertex", "google-cloud-aiplatform>=1.100", sees_ours=False)
    text = "\n".join(map(json.dumps, [*jobs, wrong]))
    done = subprocess.run([python, "-c", VERTEX_MODEL], input=text, capture_output=True, text=True, check=True)
    assert [line[:4] for line in done.stdout.splitlines()] == ["good", "good", "bad:"], done.stdout
    (tmp_path / azureml.FILES).mkdir()
    paths = []
    for index, job in enumerate([sent("azureml", tmp_path), sent("azureml", tmp_path, spot=True), {"type": "comand"}]):
        paths.append(tmp_path / f"{index}.yaml")
        paths[-1].write_text(yaml.safe_dump(job))
    python = own_environment("azureml", "azure-ai-ml>=1.30", constrained=False, sees_ours=False)
    command = [python, "-c", AZURE_MODEL, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line[:4] for line in done.stdout.splitlines()] == ["good", "good", "bad:"], done.stdout + done.stderr
