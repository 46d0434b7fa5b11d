"""A run on Ray, as far as no cluster is needed: what is asked of it, states by the record, shapes, what follows."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest
import yaml
from families import TINY, profile_values

from hpctrain import states
from hpctrain.cli import main
from hpctrain.distributed.containers import NodePlace, node_place
from hpctrain.errors import ProfileError, SiteError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.plan import Job, JobPlan, plan_job
from hpctrain.launch.pod import is_marked_cancelled
from hpctrain.launch.targets.ray import RayTarget, read_record, record_path, warned_path
from hpctrain.launch.targets.ray_controller import judge
from hpctrain.launch.targets.ray_nodes import variables_of
from hpctrain.launch.targets.ray_shape import smaller_shapes, take_shape
from hpctrain.profile.families import profile_class
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.ray import RaySection
from hpctrain.profile.site import Site, load_site
from hpctrain.rundir import RunDir, write_json

JOB_ID = "ray-01234567"


@pytest.fixture
def run(tmp_path) -> RunDir:
    """A run that was submitted to Ray, with two nodes and a global batch of 24."""
    run = RunDir.create(tmp_path, "run")
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    values["launch"] |= {"nodes": 6, "gpus_per_node": 0, "cpus_per_rank": 1}
    values["train"] |= {"batch_size": 2, "accumulation": 2}
    run.profile.write_text(yaml.safe_dump(values))
    write_json(run.job, {"cluster": "ray", "num_nodes": 6, "world_size": 6, "submissions": [{"job_id": JOB_ID}]})
    return run


def plan(site: Site | None = None, **launch: object) -> JobPlan:
    profile = profile_class()(
        name="job",
        launch=LaunchSection(**{"gpus_per_node": 2, "nodes": 2, "cpus_per_rank": 4, **launch}),
        data=SpectraSection(files=["none.h5"]),
    )
    return plan_job(profile, RunDir("/shared/runs/job/1").path, RayTarget(), site)


def wrong(plan: JobPlan) -> list[str]:
    return [f"{problem.where}: {problem.message}" for problem in RayTarget().check(plan, None)]


def test_ray_is_asked_for_the_shape_of_the_profile_on_each_of_its_nodes():
    site = Site(ray=RaySection(resources={"accelerator_type:A100": 0.001}, wait_s=7), setup=["ulimit -n 4096"])
    asked = json.loads(RayTarget().files(plan(site, memory_gib_per_node=64, min_nodes=1))["ray.json"])
    bundle = {"CPU": 8, "GPU": 2, "memory": 64 * 2**30, "accelerator_type:A100": 0.001}
    assert asked["bundle_of_each_node"] == bundle
    assert (asked["nodes"], asked["min_nodes"], asked["wait_s"]) == (2, 1, 7)
    assert asked["strategy"] == "STRICT_SPREAD"
    assert asked["setup"][-1] == "ulimit -n 4096"
    assert asked["command"][1:] == ["-u", "-m", "hpctrain.launch.targets.ray_node", "/shared/runs/job/1"]


def test_what_ray_cannot_do_is_said_before_anything_is_written():
    assert wrong(plan()) == []
    assert wrong(plan(min_nodes=3)) == ["launch.min_nodes: 3, and launch.nodes is 2"]
    (message,) = wrong(plan(Site(ray=RaySection(resources={"GPU": 1}))))
    assert "ray.resources.GPU: the profile asks for it" in message


@pytest.mark.parametrize("address", ["head", "ftp://head:21", "ray://head", "head:6379; rm -rf /"])
def test_an_address_of_no_known_form_is_refused(address, tmp_path, monkeypatch):
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({"ray": {"address": address}}))
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    with pytest.raises(SiteError, match=r"ray\.address"):
        load_site("lab")


def test_a_dry_run_needs_no_ray_and_prints_what_would_be_asked(tmp_path, monkeypatch, capsys):
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "run.yaml", "--cluster", "ray", "--dry-run"]) == 0
    assert '"bundle_of_each_node"' in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["data.h5", "run.yaml"]


def test_an_address_where_nothing_listens_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if Ray were installed
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{taken.getsockname()[1]}"
        asked = plan(Site(ray=RaySection(address=address)))
        with pytest.raises(SiteError, match=f"no Ray cluster answers at '{address}'"):
            RayTarget().ask(asked, {})
        taken.listen()
        assert RayTarget().ask(asked, {}) == [f"Ray: {address} answers"]


def record(run: RunDir, **facts: object) -> None:
    write_json(record_path(run), {"job_id": JOB_ID, "host": "n1", "time": time.time(), "state": "running", **facts})


def test_the_record_of_the_controller_is_the_state_while_it_is_fresh(run):
    job = Job(JOB_ID, "ray", run.path)
    assert RayTarget().state(job).state == states.UNKNOWN
    record(run, where="n1, n2")
    assert (RayTarget().state(job).state, RayTarget().state(job).where) == (states.RUNNING, "n1, n2")
    record(run, state="pending", reason="waits for \x1b[31mnodes")
    assert RayTarget().state(job).state == states.PENDING
    assert "\x1b" not in RayTarget().state(job).reason
    record(run, time=time.time() - 3600)
    assert RayTarget().state(job).state == states.UNKNOWN
    assert "the controller on n1 has not written" in RayTarget().state(job).silent[0]
    for gone in ({"state": "ended"}, {"job_id": "ray-89abcdef"}, {"time": "now"}, {"state": ["running"]}):
        record(run, **gone)
        assert RayTarget().state(job).state == states.UNKNOWN
    record_path(run).write_text("[")
    assert read_record(run) == {}


def test_a_run_is_cancelled_or_warned_only_while_its_controller_would_read_it(run):
    target, job = RayTarget(), Job(JOB_ID, "ray", run.path)
    for ask in (target.cancel, target.warn):
        with pytest.raises(SiteError, match="no controller of job ray-01234567 answers"):
            ask(job)
    assert not is_marked_cancelled(run)
    record(run)
    assert target.warn(job) == f"touch {warned_path(run)}"
    assert "n1" in target.cancel(job)
    assert is_marked_cancelled(run)


@pytest.mark.parametrize(
    ("codes", "follows"),
    [
        ([0, 0], 0),
        ([0, None], 0),  # the first node has the finished model
        ([75, 75], None),
        ([76, 137], None),
        ([None, 76], None),
        ([None, None], None),
        ([78, 75], None),
        ([1], 1),
        ([76, 4], 4),
        ([1, 5], 5),
        ([3, 75], 3),  # no attempt is left
    ],
)
def test_the_codes_of_the_nodes_say_whether_another_attempt_follows(codes, follows):
    assert judge(codes) == follows


def test_a_node_finds_its_place_in_the_variables_it_gets():
    first = NodePlace(0, 3, "10.0.0.7", 40123, "Ray")
    inside_a_pod = {"JOB_COMPLETION_INDEX": "0", "HPCTRAIN_NODES": "1", "PET_NNODES": "1"}
    found = node_place({**inside_a_pod, **variables_of(first, 2, JOB_ID, 4)})
    assert found == NodePlace(2, 3, "10.0.0.7", 40123, "Ray")


def test_fewer_nodes_keep_the_global_batch_and_give_it_back(run):
    before = load_profile(run.profile)
    assert before.global_batch == 24
    assert smaller_shapes(run, 6, 1) == [4, 3, 2, 1]  # the ranks of five nodes cannot share it
    assert smaller_shapes(run, 6, 3) == [4, 3]
    take_shape(run, 3)
    smaller = load_profile(run.profile)
    assert (smaller.launch.nodes, smaller.accumulation, smaller.global_batch) == (3, 4, 24)
    assert (run.read_job()["num_nodes"], run.read_job()["world_size"]) == (3, 3)
    assert run.read_job()["submissions"] == [{"job_id": JOB_ID}]
    with pytest.raises(ProfileError, match="global batch of 24"):
        take_shape(run, 5)
    take_shape(run, 6)
    assert load_profile(run.profile).accumulation == before.accumulation
