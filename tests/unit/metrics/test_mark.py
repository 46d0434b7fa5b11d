"""A tracker receives each record once, whatever a resume does to metrics.jsonl in between."""

from __future__ import annotations

import pytest

from hpctrain.metrics.events import Started
from hpctrain.metrics.exporters.mark import Mark, RecordsAfter
from hpctrain.metrics.record import MetricsWriter, supersede_after
from hpctrain.rundir import RunDir


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "a_run")


def attempt(run, number, steps):
    writer = MetricsWriter(run, number)
    writer.event(Started.from_record({}), steps[0] - 1)
    for step in steps:
        writer.train(step, loss=1.0 / step)
        writer.monitor(step, gpu_power_w=1.0)
    writer.evaluation(steps[-1], loss=2.0)
    writer.close()


def take(reader, mark):
    """Return kind, step and attempt of what is new, and the mark after it."""
    read = list(reader.read(mark))
    taken = [(record["kind"], record["step"], record["attempt"]) for record, _ in read]
    return taken, read[-1][1] if read else mark


def test_records_are_read_once_while_the_file_grows(run):
    reader, mark = RecordsAfter(run.metrics), Mark()
    assert take(reader, mark) == ([], mark)
    attempt(run, 1, [1, 2])
    taken, mark = take(reader, mark)
    assert len(taken) == mark.rows == 6
    with open(run.metrics, "ab") as file:
        file.write(b'{"kind":"train","step":3,"time":1.0,"atte')
    assert take(reader, mark) == ([], mark)
    with open(run.metrics, "ab") as file:
        file.write(b'mpt":1,"loss":0.1}\nnot a record\n{"kind":"other","step":3,"time":1.0}\n')
    taken, mark = take(reader, mark)
    assert taken == [("train", 3, 1)]
    assert take(RecordsAfter(run.metrics), mark) == ([], mark)


@pytest.mark.parametrize("is_reopened", [False, True], ids=["one reader", "a new reader"])
def test_a_step_that_a_resume_repeats_is_not_read_again_and_nothing_else_is_lost(run, is_reopened):
    reader = RecordsAfter(run.metrics)
    attempt(run, 1, [1, 2, 3, 4])
    first, mark = take(reader, Mark())
    supersede_after(run, 2)
    attempt(run, 2, [3, 4, 5, 6])
    if is_reopened:
        reader, mark = RecordsAfter(run.metrics), Mark.from_json(mark.to_json())
    second, mark = take(reader, mark)
    assert [step for kind, step, _ in first + second if kind == "train"] == [1, 2, 3, 4, 5, 6]
    assert [step for kind, step, _ in first + second if kind == "eval"] == [4, 6]
    monitored = [(step, number) for kind, step, number in first + second if kind == "monitor"]
    assert monitored == [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (4, 2), (5, 2), (6, 2)]
    assert [number for kind, _, number in first + second if kind == "event"] == [1, 2]
    assert mark.rows == len(first + second)


def test_a_consumer_that_failed_gets_the_same_records_again(run):
    attempt(run, 1, [1, 2, 3])
    reader = RecordsAfter(run.metrics)
    for _record, _mark in reader.read(Mark()):
        break
    reader.rewind()
    assert len(take(reader, Mark())[0]) == 8


def test_a_mark_survives_its_text_and_a_damaged_text_is_the_first_mark():
    mark = Mark(7, 5, 3, 2, 17).with_figure().with_files("model", "12-34")
    assert Mark.from_json(mark.to_json()) == mark
    for text in (None, "", "[]", "{", '{"train": "7"}', '{"files": 3}', '{"train": -5}', '{"unknown": 1}'):
        assert Mark.from_json(text) == Mark()
