"""When a run will be finished, with the waits in the queue between its attempts."""

from __future__ import annotations

import pytest

from hpctrain.launch.forecast import forecast, forecast_of, likely_waits, own_waits_s, waits_of
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.metrics.events import Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.rundir import RunDir, write_json

HOUR = 3600.0


def test_work_that_fits_the_present_attempt_needs_no_other():
    found = forecast(1 * HOUR, 2 * HOUR, 4 * HOUR, [HOUR], 300.0)
    assert (found.left_s, found.attempts) == (HOUR, 0)


def test_each_further_attempt_waits_first_and_loses_its_start_and_warning():
    found = forecast(10 * HOUR, 1 * HOUR, 2 * HOUR, [1800.0, 600.0, 900.0], 0.5 * HOUR)
    assert found.attempts == 6  # nine hours in parts of one and a half
    assert found.left_s == HOUR + 6 * (900.0 + 0.5 * HOUR) + 9 * HOUR


def test_a_run_that_waits_has_nothing_of_its_attempt_left():
    assert forecast(HOUR, None, 2 * HOUR, []).attempts == 1


def test_own_waits_are_from_the_end_of_an_attempt_to_the_next_start():
    ends = [
        EndedAttempt(100.0, "7", 0, 75, "none", "a", "requeued"),
        EndedAttempt(300.0, "7", 1, 0, "a", "b", "finished"),
    ]
    assert own_waits_s(ends, [{"started_at": 0.0}, {"started_at": 160.0}]) == [60.0]


SACCT = """\
2026-11-20T10:00:00|2026-11-20T10:30:00|240|2
2026-11-20T10:00:00|2026-11-20T11:00:00|240|64
2026-11-20T10:00:00|Unknown|240|2
2026-11-20T10:00:00|2026-11-20T10:10:00|5|2
garbage
"""


def test_only_comparable_jobs_count_and_damaged_lines_do_not():
    assert waits_of(SACCT, num_nodes=2, limit_s=4 * HOUR) == [1800.0]


@pytest.mark.parametrize(
    ("own", "others", "chosen", "source"),
    [
        ([1.0, 2.0, 3.0], [9.0], [1.0, 2.0, 3.0], "as so far"),
        ([1.0], [9.0], [9.0], "as jobs of this size lately"),
        ([1.0], [], [1.0], "as so far"),
        ([], [], [], "waits in the queue are not known"),
    ],
)
def test_a_run_trusts_its_own_waits_once_there_are_some(own, others, chosen, source):
    assert likely_waits(own, others) == (chosen, source)


def test_the_forecast_of_a_run_comes_from_its_own_records(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sacct
    run = RunDir.create(tmp_path, "vae")
    job = {"time_limit_s": 1000, "shortest_slice_s": 400, "lead_s": 100, "num_nodes": 1, "submissions": []}
    write_json(run.job, job)
    metrics = MetricsWriter(run, 1)
    metrics.event(Started.from_record({"total_steps": 1000}), 0)
    metrics.close()
    started_s = next(run.read_metrics("event"))["time"]
    with open(run.metrics, "a") as stream:
        for step in range(1, 101):
            time_s = started_s + 2.0 * step
            stream.write(f'{{"kind": "train", "step": {step}, "time": {time_s}, "attempt": 1, "loss": 1.0}}\n')
    for restart in range(3):
        ended_s = started_s - 10_000 + 1000 * restart
        append_history(run, EndedAttempt(ended_s, "7", restart, 75, "a", "b", "requeued"))
        write_json(
            run.attempts / f"{restart + 1:04d}.json", {"attempt": restart + 1, "started_at": int(ended_s) + 60.0}
        )
    found = forecast_of(run, is_running=True, now=started_s + 200.0)
    assert found is not None
    assert found.source == "as so far"
    assert found.wait_s == 60.0
    assert found.attempts == 6  # 900 steps of 2 s; 100 s are left here, and 300 s of each slice of 400 s are useful
    assert "6 more attempts, each after 1m00s in the queue (as so far)" in str(found)
