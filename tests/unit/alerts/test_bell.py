"""An alert is raised once, is over once, survives an attempt, and gets slower if it comes again and again."""

from __future__ import annotations

from hpctrain.alerts.bell import Bell
from hpctrain.alerts.rules import RULES
from hpctrain.alerts.verdict import UNKNOWN, bad, well
from hpctrain.metrics.events import AlertCleared, AlertRaised
from hpctrain.monitor.raised import OF_JOB, OF_TRAINER, read_raised, read_times, write_raised
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.rundir import RunDir

LIMITS = AlertsSection()
NAME = "idle-gpu"  # bad for 600 s, well for 120 s


def heard(bell, said, since_s, until_s, every_s=30):
    """Let the bell hear one verdict for a while; return the events with their times."""
    events = [(now_s, bell.hear(NAME, said, now_s, 7)) for now_s in range(since_s, until_s, every_s)]
    return [(now_s, event) for now_s, event in events if event is not None]


def test_an_alert_is_raised_once_after_it_has_held_and_is_over_once():
    bell = Bell(RULES, LIMITS)
    [(raised_s, raised)] = heard(bell, bad("2 %", 2.0), 0, 3600)
    assert (raised_s, raised.alert, raised.severity, raised.text, raised.value) == (600, NAME, "warning", "2 %", 2.0)
    [(over_s, over)] = heard(bell, well("90 %"), 3600, 7200)
    assert (over_s, over) == (3720, AlertCleared(alert=NAME, text="90 %", seconds=3120))


def test_what_does_not_hold_long_enough_raises_nothing_and_ends_nothing():
    bell = Bell(RULES, LIMITS)
    for start_s in range(0, 6000, 600):
        assert heard(bell, bad(""), start_s, start_s + 570) == []
        assert heard(bell, UNKNOWN, start_s + 570, start_s + 600) == []
    assert len(heard(bell, bad(""), 6000, 6700)) == 1
    assert heard(bell, UNKNOWN, 6700, 20000) == []
    for start_s in range(20000, 21000, 200):
        assert heard(bell, well(""), start_s, start_s + 90) == heard(bell, bad(""), start_s + 90, start_s + 200) == []


def test_an_alert_that_comes_again_and_again_is_told_more_and_more_rarely():
    bell = Bell(RULES, LIMITS)
    events = []
    for start_s in range(0, 80_000, 1000):
        events += heard(bell, bad(""), start_s, start_s + 660) + heard(bell, well(""), start_s + 660, start_s + 1000)
    assert 2 <= sum(isinstance(event, AlertRaised) for _, event in events) <= 4
    assert heard(bell, well(""), 80_000, 180_000)[0][0] < 90_000


def test_an_alert_that_is_off_is_never_raised():
    bell = Bell(RULES, AlertsSection(off=[NAME]))
    assert NAME not in [rule.name for rule in bell.rules]
    assert len(bell.rules) == len(RULES) - 1


def test_the_next_attempt_knows_what_is_raised_and_what_was_raised_before(tmp_path):
    run = RunDir(tmp_path)
    first = Bell(RULES, LIMITS)
    heard(first, bad("2 %"), 0, 700)
    write_raised(run, OF_TRAINER, first.raised.values(), first.times)
    second = Bell(RULES, LIMITS, read_raised(run, OF_TRAINER), read_times(run, OF_TRAINER))
    assert heard(second, bad("1 %"), 1000, 5000) == []
    [(_, over)] = heard(second, well("90 %"), 5000, 5200)
    assert over.seconds == 5120 - 600


def test_damaged_files_of_alerts_count_as_empty(tmp_path):
    run = RunDir(tmp_path)
    run.monitor.mkdir()
    for text in ("", "[]", "{", '{"raised": [1, {"alert": 3}], "times": {"a": 1, "b": ["x"]}}', '{"raised": 1}'):
        (run.monitor / OF_JOB).write_text(text)
        assert read_raised(run) == []
        assert read_times(run, OF_JOB) in ({}, {"b": []})
