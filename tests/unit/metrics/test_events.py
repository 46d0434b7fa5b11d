"""The events of a run: what is written stays as it is, whatever is read makes an event, and each one has words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from damage_run import WRONG_VALUES

from hpctrain.metrics.events import EVENTS, BadValues, DataFound, Finished, OtherEvent, Started, read_event
from hpctrain.metrics.read import read_history
from hpctrain.metrics.record import MetricsWriter, format_record
from hpctrain.profile.lookup import words_of_file
from hpctrain.records import metric_record
from hpctrain.rundir import RunDir
from hpctrain.words import Words

SPECTRA = words_of_file(Path(__file__).parents[3] / "profiles" / "quickstart.yaml")

TOLD = Path(__file__).with_name("events.jsonl").read_text(encoding="utf-8").splitlines()
"""Pairs of lines: an event as runs have always written it, and its words."""
LINES, TEXTS = TOLD[::2], [json.loads(text) for text in TOLD[1::2]]


def test_there_is_an_example_of_every_event():
    assert {json.loads(line)["event"] for line in LINES} == set(EVENTS)


@pytest.mark.parametrize(("line", "text"), list(zip(LINES, TEXTS, strict=True)), ids=lambda value: value[:40])
def test_an_event_of_any_version_is_read_and_described(line, text):
    event = read_event(metric_record(json.loads(line)))
    assert type(event) is EVENTS[json.loads(line)["event"]]
    assert event.describe(SPECTRA) == text


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_an_event_that_was_read_is_written_byte_for_byte(line):
    record = json.loads(line)
    assert format_record(read_event(record).whole_record()).decode() == line + "\n"


@pytest.mark.parametrize("name", [*EVENTS, "of_a_later_version"])
def test_an_event_without_its_fields_has_words_too(name):
    assert read_event({"kind": "event", "event": name, "step": 9, "time": 0.0}).describe()


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_no_damaged_event_raises(line):
    """Each entry is replaced by everything that may be in a damaged file, read as writers and as readers do."""
    whole = json.loads(line)
    for name in whole:
        for value in WRONG_VALUES:
            damaged = {**whole, name: value}
            for record in filter(None, (damaged, metric_record(damaged))):
                event = read_event(record)
                assert isinstance(event.describe(SPECTRA), str)
                format_record(event.to_record())


def test_an_unknown_event_is_shown_with_its_fields():
    record = {"kind": "event", "event": "something_new", "step": 9, "time": 0.0, "attempt": 1, "size": 3}
    event = read_event(record)
    assert isinstance(event, OtherEvent)
    assert event.whole_record() == record
    assert event.describe() == "something new at step 9: size 3"


def test_counts_of_another_kind_of_data_are_kept_and_described_in_its_words():
    words = Words("image", "images", {"num_bad_values": "{num_bad_values} values have been masked"})
    counts = {"num_images": 50, "num_bands": 5, "num_inspected": 10, "num_rejected": 2}
    data = DataFound(counts=counts, num_train=40, num_validation=10, warnings=["dark"], notes=[])
    assert list(data.to_record()) == [
        "event", "num_images", "num_train", "num_validation", "num_bands", "num_inspected", "num_rejected", "warnings",
        "notes",
    ]  # fmt: skip
    assert DataFound.from_record(data.to_record()) == data
    assert data.describe(words) == (
        "50 images: 40 to train on, 10 held out; 2 of 10 inspected ones carry no weight\n  WARNING: dark"
    )
    bad = BadValues(counts={"num_bad_values": 7, "num_images": 50}).at(3)
    assert bad.describe(words) == "up to step 3, of 50 images read (again in each epoch): 7 values have been masked"


def test_a_field_that_a_writer_forgets_is_an_error_at_once():
    with pytest.raises(TypeError, match="check_max_difference"):
        Finished(seconds=1.0, sha256="0", best_step=None)


def test_no_field_of_an_event_has_the_name_of_an_entry_of_every_record():
    for event in EVENTS.values():
        names = {item.name for item in dataclasses.fields(event)}
        assert not names & {"kind", "time", "event", "nonfinite"}, event


def test_a_written_event_comes_back_with_its_step_time_and_attempt_and_so_does_the_one_on_disk(tmp_path):
    run = RunDir.create(tmp_path, "test", "run")
    writer = MetricsWriter(run, 3)
    started = Started.from_record(json.loads(LINES[0]))
    written = writer.event(started, 7)
    writer.close()
    assert (written.step, written.attempt) == (7, 3)
    assert written.time_s > 1.7e9
    history = read_history(run)
    assert history.newest(Started) == written
    assert history.all_of(Started) == [written]
    assert history.newest(Finished) is None
