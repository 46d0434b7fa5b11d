"""The state of a trial is what its own files say; thousands that have ended are read from one file."""

from __future__ import annotations

import json

import pytest
from search_parts import end_trial, section_of

from hpctrain.errors import ProfileError
from hpctrain.rundir import read_json, write_json
from hpctrain.search import actions
from hpctrain.search.ask import ask
from hpctrain.search.ranking import pareto_front, ranked
from hpctrain.search.referee import StudyReferee
from hpctrain.search.trials import Trial, TrialReader, read_trials
from hpctrain.states import FINISHED


def test_trials_that_nobody_asked_for_are_there(make_study):
    states = [trial.state for trial in read_trials(make_study())]
    assert states == ["waiting"] * 8


def test_a_trial_that_was_asked_for_waits_for_its_ranks(make_study):
    study = make_study()
    ask(study.trial(2), None)
    assert read_trials(study)[2].state == "pending"
    assert read_trials(study)[2].values == read_json(study.trial(2).asked)["values"]


def test_many_that_have_ended_are_read_from_one_file(make_study):
    study = make_study(trials=40)
    for number in range(40):
        end_trial(study, number)
    before = TrialReader(study).read()
    assert study.sealed.exists()
    for number in range(40):
        study.trial(number).outcome.unlink()
    assert read_trials(study) == before


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"number": "x"}', '\x00\x00{"state": 3}'])
def test_a_damaged_copy_costs_nothing_but_time(make_study, damage):
    study = make_study(trials=20)
    for number in range(20):
        end_trial(study, number)
    before = read_trials(study)
    study.sealed.write_text(damage)
    assert read_trials(study) == before


def test_the_pruner_hears_of_each_evaluation_once_however_often_it_is_done(make_study):
    study = make_study(pruner={"name": "median", "startup_trials": 2, "min_evaluations": 2})
    for number in range(4):
        end_trial(study, number, evaluations=[[1, 2.0], [2, 1.0], [3, 0.5]])
    trial = study.trial(4)
    ask(trial, None)
    assert not StudyReferee(trial)(10, {"loss": 9.0, "seconds": 1})
    for _ in range(2):  # a kill after the evaluation repeats it
        assert StudyReferee(trial)(20, {"loss": 8.0})
    assert read_json(trial.evaluations) == {"10": [9.0], "20": [8.0]}
    assert read_trials(study)[4].evaluations == [[1, 9.0], [2, 8.0]]


def test_an_objective_that_no_evaluation_has_is_an_error_that_names_those_there_are(make_study):
    study = make_study(objectives=[{"metric": "los", "direction": "minimize"}])
    ask(study.trial(0), None)
    with pytest.raises(ProfileError, match="no evaluation has 'los'; it has accuracy, loss"):
        StudyReferee(study.trial(0))(10, {"loss": 1.0, "accuracy": 0.5})


def test_the_best_comes_first_by_its_direction():
    trials = [Trial(number, FINISHED, {}, [score]) for number, score in enumerate([3.0, 1.0, 2.0])]
    assert [trial.number for trial in ranked(section_of(), trials)] == [1, 2, 0]
    section = section_of(objectives=[{"metric": "accuracy", "direction": "maximize"}])
    assert [trial.number for trial in ranked(section, trials)] == [0, 2, 1]


def test_the_front_is_what_no_other_beats():
    section = section_of(objectives=[{"metric": "loss"}, {"metric": "accuracy", "direction": "maximize"}])
    scores = [[1.0, 0.5], [2.0, 0.9], [3.0, 0.8], [1.0, 0.5], [0.5, 0.1]]
    trials = [Trial(number, FINISHED, {}, score) for number, score in enumerate(scores)]
    assert [trial.number for trial in pareto_front(section, trials)] == [0, 1, 3, 4]


def test_trials_are_counted_by_state():
    trials = [Trial(0, FINISHED), Trial(1), Trial(2)]
    assert actions.counted(trials) == "3 trials: 2 waiting, 1 finished"


def test_a_record_of_a_study_may_be_from_a_later_version(make_study):
    study = make_study()
    write_json(study.record, {**json.loads(study.record.read_text()), "new": 1})
    assert study.read_record().trials == 8
