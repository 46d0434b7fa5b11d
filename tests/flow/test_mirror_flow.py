"""A run goes on from its mirror on a machine that has nothing else, and ends with the same bits."""

from __future__ import annotations

import shutil
import signal

from attempts import log_of, newest_step
from test_resume_exact import assert_same

from hpctrain.checkpoint.mirror import Mirror, pull
from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.metrics.events import CheckpointMirrored, MirrorFailed
from hpctrain.rundir import RunDir


def events(run, kind):
    return [record["step"] for record in run.read_metrics("event") if record["event"] == kind.name]


def test_a_run_that_lost_its_machine_and_then_its_checkpoints_ends_with_the_same_bits(attempts, tmp_path):
    place = str(tmp_path / "mirror")
    run = attempts.new_run(checkpoint={"mirror": place})
    assert attempts.cut(run, signal.SIGTERM, 9) == [75], log_of(run)
    mirror = Mirror.of(run, place)
    shutil.rmtree(run.path)

    other = RunDir(tmp_path / "other" / run.name / run.run_id)
    assert pull(mirror, other).step == 9
    assert attempts.cut(other, signal.SIGUSR2, 14) == [75], log_of(other)
    shutil.rmtree(other.checkpoints)  # as a purged scratch file system
    other.make_folders()
    assert newest_step(other) == 0
    assert attempts.attempt(other) == [0], log_of(other)
    assert "fetched the checkpoint of step 14" in log_of(other)
    assert_same(attempts.straight(), other)
    assert mirror.steps()[0] == list_checkpoints(other)[0][0]
    assert events(other, CheckpointMirrored)

    last = RunDir(tmp_path / "last" / run.name / run.run_id)
    assert pull(mirror, last).step == list_checkpoints(other)[0][0]
    weights = "model/model.safetensors"
    assert (last.path / weights).read_bytes() == (other.path / weights).read_bytes()


def test_a_mirror_that_cannot_be_written_costs_the_run_nothing(attempts, tmp_path):
    place = tmp_path / "mirror"
    place.write_text("a file where the folder should be")
    run = attempts.new_run(checkpoint={"mirror": str(place)})
    assert attempts.attempt(run) == [0], log_of(run)
    assert_same(attempts.straight(), run)
    assert events(run, MirrorFailed)
    assert "not complete" in log_of(run)
