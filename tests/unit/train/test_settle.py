"""Changes of the profile stand in the records once, and defaults are fixed by the first attempt."""

from __future__ import annotations

import pytest

from hpctrain.checkpoint.lease import take_lease
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.metrics.events import Started, read_event
from hpctrain.metrics.record import MetricsWriter
from hpctrain.profile.families import profile_class
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.train import TrainSection
from hpctrain.rundir import RunDir
from hpctrain.train.settle import record_profile_changes, settle_warmup

PROFILE = profile_class()(name="run", data=SpectraSection(files=["a.h5"]))


def with_train(**values) -> Profile:
    return PROFILE.model_copy(update={"train": TrainSection(**values)})


@pytest.fixture
def run(tmp_path) -> RunDir:
    return RunDir.create(tmp_path, "run")


def attempt(run: RunDir, profile: Profile, step: int = 0, dies: str = "") -> None:
    """Do what an attempt does to these records; `dies` before one of them."""
    number = take_lease(run, {"job_id": "1", "profile": plain(profile)})
    metrics = MetricsWriter(run, number)
    if dies != "before":
        record_profile_changes(run, number, metrics, step)
        if dies != "between":
            metrics.event(Started.from_record({}), step)
    metrics.close()


def changes(run: RunDir) -> list[tuple[int, int, list]]:
    return [
        (record["attempt"], record["step"], record["changes"])
        for record in run.read_metrics("event")
        if record["event"] == "profile_changed"
    ]


RATE = [{"key": "train.learning_rate", "old": 0.001, "new": 0.0005}]


@pytest.mark.parametrize(("dies", "by"), [("", 2), ("before", 3), ("between", 2)])
def test_a_change_is_recorded_exactly_once_wherever_the_attempt_dies(run, dies, by):
    attempt(run, with_train())
    attempt(run, with_train(learning_rate=5e-4), 10, dies)
    for _ in range(3):
        attempt(run, with_train(learning_rate=5e-4), 10)
    assert changes(run) == [(by, 10, RATE)]


def test_a_change_back_is_a_change_too(run):
    for rate in (1e-3, 5e-4, 5e-4, 1e-3):
        attempt(run, with_train(learning_rate=rate))
    assert [(number, found[0]["new"]) for number, _, found in changes(run)] == [(2, 0.0005), (4, 0.001)]


def test_an_attempt_of_an_older_version_is_no_change(run):
    take_lease(run, {"job_id": "1"})
    metrics = MetricsWriter(run, 1)
    metrics.event(Started.from_record({}), 0)
    metrics.close()
    attempt(run, with_train(learning_rate=5e-4))
    assert changes(run) == []


def test_the_log_line_names_the_keys():
    record = {"kind": "event", "event": "profile_changed", "step": 10, "changes": RATE}
    assert read_event(record).describe() == "changed at this resume (step 10): train.learning_rate 0.001 → 0.0005"


def test_the_default_warm_up_is_written_into_the_profile_of_the_run(run):
    settled = settle_warmup(run, PROFILE, 200, is_main=True)
    assert settled.train.warmup_steps == 20
    assert load_profile(run.profile) == settled
    assert settle_warmup(run, settled, 4000, is_main=True) is settled, "a longer run does not warm up again"


@pytest.mark.parametrize(("total_steps", "steps"), [(100_000, 500), (501, 500), (500, 50), (100, 10), (9, 0)])
def test_the_default_warm_up_is_shorter_only_where_500_steps_would_be_the_whole_run(total_steps, steps):
    assert TrainSection().warmup(total_steps) == steps
    assert TrainSection(warmup_steps=7).warmup(total_steps) == 7


@pytest.mark.parametrize(
    ("cores", "written", "threads"), [(1, None, 1), (2, None, 2), (8, None, 2), (8, 0, 0), (8, 5, 5)]
)
def test_the_default_of_reader_threads_is_what_the_cores_of_a_rank_allow(cores, written, threads):
    data = PROFILE.data.model_copy(update={"reader_threads": written})
    launch = PROFILE.launch.model_copy(update={"cpus_per_rank": cores})
    profile = PROFILE.model_copy(update={"data": data, "launch": launch})
    assert profile.reader_threads == threads
    assert load_profile_of(dump_profile(profile)).reader_threads == threads


def load_profile_of(text: str) -> Profile:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile.yaml"
        file.write_text(text)
        return load_profile(file)
