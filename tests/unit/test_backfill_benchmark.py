"""The simulated queue keeps the rules of backfill, so that its figures mean what they say."""

from __future__ import annotations

from benchmarks.backfill import HOUR_S, QueuedJob, finish_s, recorded_queue

BUSY = QueuedJob(0.0, 10 * HOUR_S, 10 * HOUR_S, 3)
WANTS_ALL = QueuedJob(1.0, 5 * HOUR_S, 5 * HOUR_S, 4)
"""Of four nodes three are busy for ten hours, and the next job waits for all four."""


def test_a_slice_uses_the_hole_before_a_job_that_waits_and_a_whole_job_cannot():
    whole = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1)
    seconds, attempts = finish_s([BUSY, WANTS_ALL], 4, whole, 8 * HOUR_S, 0.0)
    assert (round(seconds / HOUR_S), attempts) == (23, 1)
    in_slices = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1, shortest_s=HOUR_S)
    seconds, attempts = finish_s([BUSY, WANTS_ALL], 4, in_slices, 8 * HOUR_S, 0.0)
    assert (round(seconds / HOUR_S), attempts) == (8, 1)


def test_a_slice_never_delays_the_job_that_waits_before_it():
    in_slices = QueuedJob(2.0, 0.0, 24 * HOUR_S, 1, shortest_s=11 * HOUR_S)
    seconds, _ = finish_s([BUSY, WANTS_ALL], 4, in_slices, 8 * HOUR_S, 0.0)
    assert round(seconds / HOUR_S) == 23


def test_each_attempt_loses_its_start():
    alone = QueuedJob(0.0, 0.0, 2 * HOUR_S, 1)
    seconds, attempts = finish_s([], 1, alone, 3 * HOUR_S, 0.5 * HOUR_S)
    assert (seconds / HOUR_S, attempts) == (4.0, 2)


def test_a_queue_that_sacct_recorded_is_read(tmp_path):
    path = tmp_path / "jobs.txt"
    path.write_text("2026-11-20T10:00:00|x|60|2|4\n2026-11-20T11:00:00|x|0|2|4\nUnknown\n")
    (job,) = recorded_queue(path)
    assert (job.runs_s, job.limit_s, job.nodes) == (60.0, 120.0, 4)
