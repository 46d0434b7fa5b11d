"""The simulated queue keeps the rules of backfill, so that its figures mean what they say."""

from __future__ import annotations

from benchmarks.backfill import HOUR_S, QueuedJob, mean_waits_h, replay, sacct_queue, swf_queue

BUSY = QueuedJob(0.0, 10 * HOUR_S, 10 * HOUR_S, 3)
WANTS_ALL = QueuedJob(1.0, 5 * HOUR_S, 5 * HOUR_S, 4)
"""Of four nodes three are busy for ten hours, and the next job waits for all four."""


def test_a_slice_uses_the_hole_before_a_job_that_waits_and_a_whole_job_cannot():
    whole = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1)
    done = replay([BUSY, WANTS_ALL], 4, whole, 8 * HOUR_S, 0.0)
    assert (round(done.finish_s / HOUR_S), done.attempts) == (23, 1)
    in_slices = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1, shortest_s=HOUR_S)
    done = replay([BUSY, WANTS_ALL], 4, in_slices, 8 * HOUR_S, 0.0)
    assert (round(done.finish_s / HOUR_S), done.attempts) == (8, 1)


def test_a_slice_never_delays_the_job_that_waits_before_it():
    in_slices = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1, shortest_s=11 * HOUR_S)
    done = replay([BUSY, WANTS_ALL], 4, in_slices, 8 * HOUR_S, 0.0)
    assert round(done.finish_s / HOUR_S) == 23


def test_each_attempt_loses_its_start():
    alone = QueuedJob(0.0, 0.0, 2 * HOUR_S, 1)
    done = replay([], 1, alone, 3 * HOUR_S, 0.5 * HOUR_S)
    assert (done.finish_s / HOUR_S, done.attempts) == (4.0, 2)


def test_a_queue_that_sacct_recorded_is_read(tmp_path):
    path = tmp_path / "jobs.txt"
    path.write_text("2026-11-20T10:00:00|2026-11-20T10:30:00|60|2|4\n2026-11-20T11:00:00|x|0|2|4\nUnknown\n")
    (job,) = sacct_queue(path)
    assert (job.runs_s, job.limit_s, job.nodes, job.waited_s) == (60.0, 120.0, 4, 1800.0)


SWF = """; MaxNodes: 4
1 100   30 3600 8 3600 -1 8 7200 -1 1 1 1 -1 -1 1 -1 -1
2 160 3510 3600 3 3600 -1 3 7200 -1 1 1 1 -1 -1 1 -1 -1
3 170   -1   -1 8   -1 -1 8 7200 -1 5 1 1 -1 -1 1 -1 -1
"""
"""Two jobs that ran, and one that was cancelled, on nodes of two processors."""


def test_a_queue_in_the_standard_workload_format_is_read_in_whole_nodes_and_replayed(tmp_path):
    path = tmp_path / "queue.swf"
    path.write_text(SWF)
    jobs = swf_queue(path, processors_per_node=2)
    assert [(job.submitted_s, job.runs_s, job.nodes) for job in jobs] == [(0.0, 3600.0, 4), (60.0, 3600.0, 2)]
    recorded_h, replayed_h = mean_waits_h(jobs, num_nodes=4)
    # The first starts at once and leaves no node: the second waits for its end.
    assert (recorded_h, replayed_h) == ((30 + 3510) / 2 / HOUR_S, 3540 / 2 / HOUR_S)
