"""A run at Amazon SageMaker: the request, what is refused before it is sent, and the states of a job."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cloud_tools import pretended_tools, save_checkpoint
from own_environment import own_environment
from processes import wait_until

from hpctrain import states
from hpctrain.checkpoint.whole import newest_whole
from hpctrain.errors import ProfileError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.ranks import free_port
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.launch.targets import find_target
from hpctrain.launch.targets.sagemaker import REQUEST, judge
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.sagemaker import SageMakerSection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir

FACTS = {
    "role": "arn:aws:iam::123456789012:role/trainer",
    "home": "s3://astro-runs/hpctrain",
    "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/hpctrain:1",
    "region": "eu-west-1",
    "subnets": ["subnet-0a1b"],
    "security_groups": ["sg-0a1b"],
    "output_encryption": "alias/astro",
    "volume_encryption": "alias/astro",
    "keep_warm_s": 600,
    "tags": {"project": "sdss"},
}
PACKAGES = ("boto3>=1.40",)


@pytest.fixture
def amazon(tmp_path, monkeypatch) -> Path:
    for name, value in pretended_tools(tmp_path / "amazon").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "amazon"


def site_of(**facts: object) -> Site:
    return Site(sagemaker=SageMakerSection.model_validate({**FACTS, **facts}))


def prepared(
    folder: Path,
    site: Site | None = None,
    files: tuple[str, ...] = ("s3://surveys/sdss/*.h5",),
    resume: RunDir | None = None,
    **launch,
):
    shape = {"cluster": "sagemaker", "instance_type": "ml.g5.12xlarge", "gpus_per_node": 4, "cpus_per_rank": 8}
    profile = profile_class()(
        name="SDSS_vae",
        launch=LaunchSection(**{**shape, "runs_dir": str(folder / "runs"), **launch}),
        data=SpectraSection(files=list(files)),
    )
    return prepare([profile], "sagemaker", site or site_of(), resume=resume)


def request_of(*arguments: object, **options: object) -> dict:
    return json.loads(prepared(*arguments, **options).texts[REQUEST])


def test_a_request_has_what_profile_and_site_say(tmp_path):
    found = request_of(tmp_path)
    assert found["TrainingJobName"].startswith("SDSS-vae-2")
    assert found["ResourceConfig"]["InstanceType"] == "ml.g5.12xlarge"
    assert found["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert found["VpcConfig"] == {"Subnets": ["subnet-0a1b"], "SecurityGroupIds": ["sg-0a1b"]}
    assert found["CheckpointConfig"]["S3Uri"] == f"s3://astro-runs/hpctrain/{found['TrainingJobName']}"
    run_dir, _, files = found["AlgorithmSpecification"]["ContainerArguments"]
    assert run_dir.startswith("/opt/ml/checkpoints/SDSS_vae/2")
    assert files == "/opt/ml/input/data/hpctrain"
    assert found["Tags"] == [{"Key": "project", "Value": "sdss"}]
    assert "MaxWaitTimeInSeconds" not in found["StoppingCondition"]


def test_a_spot_job_may_wait_and_is_never_kept_warm(tmp_path):
    found = request_of(tmp_path, spot=True, time_limit="10:00:00", max_attempts=4)
    assert found["EnableManagedSpotTraining"] is True
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 144_000, "MaxWaitTimeInSeconds": 259_200}
    assert "KeepAlivePeriodInSeconds" not in found["ResourceConfig"]


def test_several_machines_share_a_file_system_for_the_run(tmp_path):
    shared = {"id": "fs-0a1b2c3d", "directory": "/fsx/runs"}
    found = request_of(tmp_path, site_of(shared_files=shared), nodes=2)
    assert found["ResourceConfig"]["InstanceCount"] == 2
    assert "CheckpointConfig" not in found
    shared_run = prepared(tmp_path, site_of(shared_files=shared), nodes=2)
    assert "home" not in json.loads(shared_run.files()[shared_run.runs[0].job]), "nothing is copied to S3"
    assert found["AlgorithmSpecification"]["ContainerArguments"][0].startswith("/opt/ml/input/data/runs/SDSS_vae/")
    with pytest.raises(ProfileError, match="a file system that all of them see"):
        prepared(tmp_path, nodes=2)


@pytest.mark.parametrize(
    ("launch", "facts", "where"),
    [
        ({"instance_type": "ml.g5.12xlrge"}, {}, "launch.instance_type"),
        ({"instance_type": None}, {}, "launch.instance_type"),
        ({"gpus_per_node": 8, "cpus_per_rank": 1}, {}, "launch.gpus_per_node"),
        ({"gpus_per_node": 1}, {}, "launch.gpus_per_node"),
        ({"cpus_per_rank": 32}, {}, "launch.cpus_per_rank"),
        ({"memory_gib_per_node": 500}, {}, "launch.memory_gib_per_node"),
        ({}, {"image": None}, "launch.image"),
        ({}, {"role": None}, "launch.site"),
        ({}, {"security_groups": []}, "launch.site"),
    ],
)
def test_what_cannot_run_is_told_with_its_key_before_anything_is_sent(launch, facts, where, tmp_path):
    with pytest.raises(ProfileError) as error:
        prepared(tmp_path, site_of(**facts), **launch)
    assert {problem.where for problem in error.value.problems} == {where}


def test_a_submission_brings_the_files_of_the_run_and_a_channel_for_each_folder_of_data(amazon, tmp_path):
    files = ("s3://surveys/sdss/*.h5", "s3://surveys/boss/a.h5", "s3://surveys/boss/b.h5")
    submission = prepared(tmp_path, files=files)
    (name,) = submit(submission, tmp_path)
    (run,) = submission.runs
    sent = json.loads((amazon / f"jobs/{name}.json").read_text())
    assert sent["InputDataConfig"] == json.loads(submission.texts[REQUEST])["InputDataConfig"], (
        "as the dry run shows it"
    )
    channels = {item["ChannelName"]: item["DataSource"]["S3DataSource"]["S3Uri"] for item in sent["InputDataConfig"]}
    assert channels == {
        "hpctrain": f"s3://astro-runs/hpctrain/submitted/{name}/",
        "data0": "s3://surveys/sdss/",
        "data1": "s3://surveys/boss/",
    }
    there = amazon / f"s3/astro-runs/hpctrain/submitted/{name}"
    assert sorted(path.name for path in there.iterdir()) == ["job.json", "profile.yaml", "provenance.json"]
    assert yaml.safe_load((there / "profile.yaml").read_text())["data"]["files"] == [
        "/opt/ml/input/data/data0/*.h5",
        "/opt/ml/input/data/data1/a.h5",
        "/opt/ml/input/data/data1/b.h5",
    ]
    assert json.loads((there / "job.json").read_text())["trainer"][0] == "python3"
    assert sent["said"][-4:] == ["--region", "eu-west-1", "--output", "json"]
    assert run.read_job()["home"].endswith(f"/{name}/SDSS_vae/{run.run_id}")


def test_the_state_of_a_job_comes_from_amazon_and_it_can_be_cancelled(amazon, tmp_path):
    submission = prepared(tmp_path)
    submit(submission, tmp_path)
    (run,) = submission.runs
    (amazon / "answers.json").write_text('{"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}')
    assert describe(run).state == states.RUNNING
    assert "its ranks save within 120 s" in cancel(run)
    assert describe(run).state == states.CANCELLED
    assert newest_job(run).cluster == "sagemaker"


def test_no_job_asks_for_more_time_than_the_quota_of_the_account(tmp_path):
    assert request_of(tmp_path)["StoppingCondition"] == {"MaxRuntimeInSeconds": 432_000}
    longer = request_of(tmp_path, site_of(longest_run_h=672))
    assert longer["StoppingCondition"] == {"MaxRuntimeInSeconds": 2_419_200}


def test_a_run_that_is_resumed_has_a_job_of_another_name_and_takes_its_newest_checkpoint_along(amazon, tmp_path):
    submission = prepared(tmp_path)
    (first,) = submit(submission, tmp_path)
    (run,) = submission.runs
    for step in (10, 20):
        save_checkpoint(run, step)
    run.heartbeat(0).write_text("{}")
    (second,) = submit(prepared(tmp_path, resume=run, instance_type="ml.g5.24xlarge"), tmp_path)
    assert second == f"{first}-2"
    sent = json.loads((amazon / f"jobs/{second}.json").read_text())
    before = json.loads((amazon / f"jobs/{first}.json").read_text())
    assert sent["Environment"]["HPCTRAIN_JOB_ID"] == second
    assert sent["CheckpointConfig"] == before["CheckpointConfig"]
    assert (
        sent["AlgorithmSpecification"]["ContainerArguments"] == before["AlgorithmSpecification"]["ContainerArguments"]
    )
    assert newest_job(run).id == second
    there = amazon / "s3" / run.read_job()["home"].removeprefix("s3://")
    names = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert newest_whole(RunDir(there)) == (20, [])
    assert "provenance.json" in names
    other = ("heartbeat", "checkpoints/step-00000010", "profile.yaml", "job.json")  # these two come by their channel
    assert not any(name.startswith(other) for name in names)


def test_a_run_that_finished_there_is_finished_before_its_files_are_here(amazon, tmp_path):
    submission = prepared(tmp_path)
    submit(submission, tmp_path)
    (amazon / "answers.json").write_text('{"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed"}')
    status = describe(submission.runs[0])
    assert status.state == states.FINISHED
    assert "hpctrain pull" in status.detail


@pytest.mark.parametrize(
    ("status", "secondary", "state"),
    [
        ("InProgress", "Starting", states.PENDING),
        ("InProgress", "Training", states.RUNNING),
        ("InProgress", "Interrupted", states.REQUEUED),
        ("Completed", "Completed", states.FINISHED),
        ("Failed", "Failed", states.FAILED),
        ("Stopped", "MaxRuntimeExceeded", states.CANCELLED),
        ("SomethingNew", "", states.UNKNOWN),
    ],
)
def test_the_words_of_amazon_become_ours(status, secondary, state):
    assert judge({"TrainingJobStatus": status, "SecondaryStatus": secondary}).state == state


MODEL = r"""
import json, re, sys, boto3
from botocore.validate import ParamValidator
client = boto3.client("sagemaker", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
shape = client.meta.service_model.operation_model("CreateTrainingJob").input_shape
def walk(value, shape, where):
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from walk(part, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for index, part in enumerate(value):
            yield from walk(part, shape.member, f"{where}.{index}")
    elif shape.type_name == "map":
        for name, part in value.items():
            yield from walk(name, shape.key, f"{where} key {name}")
            yield from walk(part, shape.value, f"{where}.{name}")
    else:
        limits, size = shape.metadata, len(value) if isinstance(value, str) else value
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{where}: {value} is not one of {shape.enum[:5]}..."
        pattern = limits.get("pattern", "(?s).*")
        for java, python in (("L", "w"), ("Z", "s"), ("N", "d")):
            pattern = pattern.replace("\\p{" + java + "}", "\\" + python)
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield f"{where}: {value} does not match {limits['pattern']}"
        if not limits.get("min", size) <= size <= limits.get("max", size):
            yield f"{where}: {value} is outside {limits}"
for request in json.load(sys.stdin):
    report = ParamValidator().validate(request, shape)
    lines = [report.generate_report()] if report.has_errors() else list(walk(request, shape, ""))
    print(json.dumps(lines))
instances = shape.members["ResourceConfig"].members["InstanceType"].enum
print(json.dumps(instances))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 90 MB; set ALL_FAULTS=1")
def test_requests_are_as_amazons_own_model_wants_them_and_it_knows_our_machines(tmp_path):
    from hpctrain.profile.instances import instance_names

    python = own_environment("sagemaker", *PACKAGES, sees_ours=False)
    shared = {"id": "fs-0a1b2c3d", "directory": "/fsx/runs"}
    requests = [
        request_of(tmp_path),
        request_of(tmp_path, spot=True),
        request_of(tmp_path, site_of(shared_files=shared), nodes=2),
    ]
    wrong = {**requests[0], "TrainingJobName": "bad_name!"}
    text = json.dumps([*requests, wrong])
    done = subprocess.run([python, "-c", MODEL], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *found, instances = map(json.loads, done.stdout.splitlines())
    assert found[:-1] == [[], [], []]
    assert "bad_name!" in found[-1][0]
    assert set(instance_names("sagemaker")) <= set(instances)


MOTO = ("awscli>=1.40", "moto[server,s3,sts]>=5.1")


@pytest.fixture
def moto(tmp_path, monkeypatch) -> Iterator[None]:
    """The real ``aws`` command, and an imitation of S3, STS and SageMaker that it talks to."""
    programs = own_environment("moto", *MOTO, constrained=False, sees_ours=False).parent
    port = str(free_port())
    with open(tmp_path / "moto.log", "wb") as log:
        server = subprocess.Popen([programs / "moto_server", "-H", "127.0.0.1", "-p", port], stdout=log, stderr=log)
    for name, value in {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    make = ["aws", "s3", "mb", "s3://astro-runs", "--region", "eu-west-1"]
    try:
        wait_until(lambda: subprocess.run(make, capture_output=True, check=False).returncode == 0)
        yield
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 100 MB; set ALL_FAULTS=1")
def test_the_real_aws_command_brings_files_and_request_to_an_imitation_of_amazon(moto, tmp_path):
    assert find_target("sagemaker").answers()
    submission = prepared(tmp_path)
    (name,) = submit(submission, tmp_path)
    (run,) = submission.runs
    assert describe(run).state == states.FINISHED, "the imitation finishes each job at once"
    describing = ["aws", "sagemaker", "describe-training-job", "--region", "eu-west-1", "--training-job-name", name]
    known = json.loads(subprocess.run(describing, capture_output=True, text=True, check=True).stdout)
    sent = json.loads((run.path / REQUEST).read_text())
    for key in ("CheckpointConfig", "InputDataConfig", "OutputDataConfig", "VpcConfig", "StoppingCondition"):
        assert known[key] == sent[key]
    listing = ["aws", "s3", "ls", f"s3://astro-runs/hpctrain/submitted/{name}/"]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in listed.splitlines()} == {"job.json", "profile.yaml", "provenance.json"}
    save_checkpoint(run, 10)
    run.heartbeat(0).write_text("{}")
    assert submit(prepared(tmp_path, resume=run), tmp_path) == [f"{name}-2"]
    kept = subprocess.run(
        [*listing[:3], "--recursive", run.read_job()["home"]], capture_output=True, text=True, check=True
    )
    kept = {line.split(run.run_id)[-1] for line in kept.stdout.splitlines()}
    assert {f"/checkpoints/step-00000010/{file}" for file in ("MANIFEST.json", "model.safetensors")} < kept
    assert not any("heartbeat" in file for file in kept)
    assert submit(prepared(tmp_path, resume=run), tmp_path) == [f"{name}-3"]
