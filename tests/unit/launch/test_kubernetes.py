"""A run on Kubernetes: its manifests, and the life of its pods under each kind of job, played by processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_cluster import FakeCluster, fake_cluster
from own_environment import own_environment
from processes import wait_until

from hpctrain import states
from hpctrain.cli import main
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.history import read_history
from hpctrain.launch.pod import USER_ERRORS as USER_ERRORS_OF_PODS
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.launch.targets.kubernetes import KINDS, MANIFEST, KubernetesTarget
from hpctrain.launch.targets.kubernetes_manifest import USER_ERRORS, object_name
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.kubernetes import KubernetesSection
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir

FACTS = {
    "namespace": "astro",
    "image": "registry/hpctrain:1",
    "image_pull": "registry",
    "service_account": "trainer",
    "env_from": ["mlflow"],
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
    "tolerations": [{"key": "team", "operator": "Equal", "value": "astro", "effect": "NoSchedule"}],
    "spot_tolerations": [{"key": "spot"}],
    "priority_class": "research",
    "queue": "astro-queue",
    "queue_priority_class": "batch",
    "user_id": 1000,
    "group_id": 1000,
    "annotations": {"team/contact": "astro"},
}
MODELS = ("kubernetes-validate>=1.37", "kubeflow-trainer-api>=2.3,<3", "kubeflow-training>=1.9", "pyyaml>=6")
"""Packages with the published models of what we send."""
BOTH_RAN = """
run=$1; attempt=$run/ran-$HPCTRAIN_RESTART_COUNT; echo $RANK >> $attempt
save() { mkdir -p $run/checkpoints/step-00000001; echo {} > $run/checkpoints/step-00000001/MANIFEST.json; exit 75; }
while [ $(wc -l < $attempt) -lt $WORLD_SIZE ]; do sleep 0.02; done
"""
"""Beginning of the ranks of a job: each notes that it ran and waits for the others."""


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch) -> Iterator[FakeCluster]:
    with fake_cluster(tmp_path_factory.mktemp("cluster"), monkeypatch) as made:
        yield made


def site_of(folder: Path, **facts: object) -> Site:
    volumes = [{"claim": "runs", "path": str(folder)}]
    return Site(kubernetes=KubernetesSection.model_validate({**FACTS, "volumes": volumes, **facts}))


def prepared(folder: Path, site: Site, command: tuple[str, ...] | None = None, **launch: object):
    shape = {"nodes": 2, "gpus_per_node": 0, "cpus_per_rank": 1, "cluster": "kubernetes", "max_attempts": 6}
    profile = profile_class()(
        name="SDSS_vae",
        launch=LaunchSection(**{**shape, "runs_dir": str(folder / "runs"), **launch}),
        data=SpectraSection(files=["none.h5"]),
    )
    return prepare([profile], "kubernetes", site, trainer=command)


def started(folder: Path, site: Site, script: str, **launch: object) -> RunDir:
    """Submit a run whose ranks run a line of shell; ``$1`` is the run directory."""
    submission = prepared(folder, site, ("sh", "-c", script, "rank"), **launch)
    submit(submission, folder)
    return submission.runs[0]


def objects(folder: Path, site: Site, **launch: object) -> dict[str, dict]:
    text = prepared(folder, site, **launch).texts[MANIFEST]
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def pod_of(made: dict[str, dict]) -> dict:
    """Return the template of pods, wherever a kind of job keeps it."""
    found = []

    def search(value: object) -> None:
        if isinstance(value, dict):
            if "containers" in value.get("spec", {}):
                found.append(value)
            for item in value.values():
                search(item)
        elif isinstance(value, list):
            for item in value:
                search(item)

    search(list(made.values()))
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_saved_starts_again_with_all_its_ranks_and_finishes(kind, cluster, tmp_path):
    run = started(tmp_path, site_of(tmp_path, kind=kind), BOTH_RAN + "[ $HPCTRAIN_RESTART_COUNT = 0 ] && save; exit 0")
    wait_until(lambda: describe(run).state in states.OVER, cluster.said)
    assert describe(run).state == states.FINISHED, cluster.said()
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]
    for restart in range(2):
        assert sorted((run.path / f"ran-{restart}").read_text().split()) == ["0", "1"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_would_come_again_ends_the_run_at_once(kind, cluster, tmp_path):
    run = started(tmp_path, site_of(tmp_path, kind=kind), BOTH_RAN + "exit 4", nodes=1)
    wait_until(lambda: describe(run).state in states.OVER, cluster.said)
    assert describe(run).state == states.FAILED
    assert [ended.exit_code for ended in read_history(run)] == [4]
    assert not (run.path / "ran-1").exists()


@pytest.mark.parametrize("kind", ["jobset", "job"])
def test_pods_that_the_cluster_takes_away_save_and_are_made_anew(kind, cluster, tmp_path):
    script = (
        BOTH_RAN
        + """
[ $HPCTRAIN_RESTART_COUNT = 0 ] || exit 0
trap save TERM; touch $run/up-$RANK; while :; do sleep 0.05; done
"""
    )
    run = started(tmp_path, site_of(tmp_path, kind=kind), script)
    wait_until(lambda: all((run.path / f"up-{rank}").exists() for rank in range(2)), cluster.said)
    assert describe(run).state == states.RUNNING
    assert KubernetesTarget().warn(newest_job(run)).startswith("kubectl delete pods -n astro")
    wait_until(lambda: describe(run).state == states.FINISHED, cluster.said)
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]


def test_a_run_without_a_shared_volume_gets_its_files_from_a_config_map(cluster, tmp_path):
    site = site_of(tmp_path, kind="job", sees_volumes=False)
    run = started(tmp_path, site, 'cp "$1/profile.yaml" "$1/seen"', nodes=1)
    wait_until(lambda: describe(run).state == states.FINISHED, cluster.said)
    (config_map,) = cluster.objects("configmaps")
    assert set(config_map["data"]) == {"profile.yaml", "job.json", "provenance.json"}
    assert config_map["data"]["profile.yaml"] == run.profile.read_text()


def test_a_run_that_is_resumed_replaces_the_job_of_before(cluster, tmp_path):
    run = started(tmp_path, site_of(tmp_path, kind="job"), "exit 4", nodes=1)
    wait_until(lambda: describe(run).state == states.FAILED, cluster.said)
    profile = prepared(tmp_path, site_of(tmp_path)).profiles[0]
    again = prepare([profile], "kubernetes", site_of(tmp_path, kind="job"), resume=run, trainer=("true",))
    submit(again, tmp_path)
    wait_until(lambda: describe(run).state == states.FINISHED, cluster.said)
    assert len(cluster.objects("jobs.batch")) == 1


def test_a_resumed_run_gets_three_times_its_longest_save_before_it_is_killed(tmp_path):
    run = RunDir.create(tmp_path / "runs", "SDSS_vae")
    event = {"kind": "event", "event": "checkpoint", "step": 9, "time": 1.0, "attempt": 1, "path": "x", "bytes": 1}
    run.metrics.write_text("".join(json.dumps({**event, "seconds": seconds}) + "\n" for seconds in (20.0, 81.2)))
    profile = prepared(tmp_path, site_of(tmp_path)).profiles[0]
    text = prepare([profile], "kubernetes", site_of(tmp_path, kind="job"), resume=run).texts[MANIFEST]
    pod = pod_of({item["kind"]: item for item in yaml.safe_load_all(text)})
    assert pod["spec"]["terminationGracePeriodSeconds"] == 244


def test_a_cancelled_run_has_no_job_and_says_so(cluster, tmp_path):
    run = started(tmp_path, site_of(tmp_path, kind="jobset"), 'touch "$1/up"; exec sleep 600', nodes=1)
    wait_until((run.path / "up").exists, cluster.said)
    assert "is removed" in cancel(run)
    wait_until(lambda: describe(run).state == states.CANCELLED, cluster.said)
    assert cluster.objects(KINDS["jobset"]) == []


@pytest.mark.parametrize(
    ("lacks", "kind"), [("", "jobset"), ("JobSet", "trainjob"), ("JobSet,TrainJob,PyTorchJob", "job")]
)
def test_the_best_kind_that_the_cluster_knows_is_taken(lacks, kind, cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CLUSTER_LACKS", lacks)
    plan = prepared(tmp_path, site_of(tmp_path)).plan
    assert plan.options["kind"] == kind


def test_without_kubectl_a_run_is_rendered_as_an_indexed_job(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(objects(tmp_path, site_of(tmp_path))) == {"Service", "Job"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_is_safe_and_asks_for_what_the_profile_asks_for(kind, tmp_path):
    made = objects(
        tmp_path, site_of(tmp_path, kind=kind), gpus_per_node=4, cpus_per_rank=8, memory_gib_per_node=64, spot=True
    )
    pod = pod_of(made)
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"]["limits"] == {"memory": "65536Mi", "nvidia.com/gpu": "4"}
    assert container["resources"]["requests"]["cpu"] == "32"
    assert {"key": "spot", "operator": "Exists"} in spec["tolerations"]
    assert spec["terminationGracePeriodSeconds"] == 180
    assert spec["priorityClassName"] == "research"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    mounts = {item["mountPath"]: item for item in container["volumeMounts"]}
    assert set(mounts) == {str(tmp_path), "/dev/shm", "/tmp"}
    queued = next(item for item in made.values() if item["kind"].lower() == kind)
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "astro-queue"


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 110 MB; set ALL_FAULTS=1")
def test_manifests_are_as_the_published_models_of_kubernetes_and_kubeflow_want_them(tmp_path):
    python = own_environment("kubernetes", *MODELS, sees_ours=False)
    script = Path(__file__).with_name("kubernetes_models.py")

    def differences(text: str) -> list[str]:
        done = subprocess.run([python, script], input=text, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    texts = {
        kind: prepared(tmp_path, site_of(tmp_path, kind=kind), gpus_per_node=4, memory_gib_per_node=64).texts[MANIFEST]
        for kind in KINDS
    }
    assert differences("".join(texts.values())) == []
    for kind, text in texts.items():
        for wrong in ("completionModes: x", "backoffLimits: 3"):
            damaged = text.replace("completionMode: Indexed", wrong).replace("backoffLimit: 5", wrong)
            assert damaged == text or differences(damaged), (kind, wrong)


def test_the_codes_that_fail_at_once_are_those_of_user_errors():
    assert list(USER_ERRORS_OF_PODS) == USER_ERRORS


def test_names_are_those_that_dns_allows_and_differ_by_run(tmp_path):
    plan = prepared(tmp_path, site_of(tmp_path)).plan
    name = object_name(plan)
    assert name.startswith("sdss-vae-2")
    assert len(name) <= 40
    assert name.replace("-", "").isalnum()
    assert name == name.lower()


def test_what_the_cluster_cannot_do_is_told_with_its_key(tmp_path):
    from hpctrain.errors import ProfileError

    site = site_of(tmp_path / "elsewhere", image=None)
    with pytest.raises(ProfileError) as error:
        prepared(Path("/home/nobody"), site)
    assert {problem.where for problem in error.value.problems} == {"launch.image", "launch.runs_dir"}


def test_a_dry_run_of_a_profile_prints_the_manifest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    facts = {**FACTS, "kind": "jobset", "sees_volumes": False, "volumes": [{"claim": "runs", "path": str(tmp_path)}]}
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/k8s.yaml").write_text(json.dumps({"kubernetes": facts}))
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path / "sites"))
    launch = {"cluster": "kubernetes", "site": "k8s", "gpus_per_node": 0, "cpus_per_rank": 1}
    values = {"name": "vae", "launch": launch, "data": {"files": ["/d/only-there.h5"]}}
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    assert main(["submit", "p.yaml", "--dry-run"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "kind: JobSet" in said
    assert "registry/hpctrain:1" in said
