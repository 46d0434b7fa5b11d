"""A trial with folds is several runs: all of them together are one trial for sampler, pruner and tables."""

from __future__ import annotations

import json
import random
import re

import optuna
import pytest
from pydantic import ValidationError
from search_parts import section_of

from hpctrain.cli import main
from hpctrain.profile.load import load_profile
from hpctrain.rundir import read_json
from hpctrain.search.ask import ask
from hpctrain.search.folder import run_at
from hpctrain.search.folds import place_of, tasks_of
from hpctrain.search.pruning import is_hopeless
from hpctrain.search.trials import Trial, TrialReader, read_trials
from hpctrain.states import FINISHED, RUNNING

optuna.logging.set_verbosity(optuna.logging.ERROR)
WILCOXON = {"name": "wilcoxon", "p_value": 0.2}


def end_fold(study, task, score=1.0, state="finished", **facts):
    """Write what a fold that has ended leaves behind."""
    run = study.run(task, study.section())
    run.path.mkdir(parents=True, exist_ok=True)
    run.asked.write_text(json.dumps({"number": task, "asked_at": 1.0}))
    record = {"number": task, "state": state, "scores": [score], "evaluations": [[1, score]], "gpu_hours": 0.5, **facts}
    run.outcome.write_text(json.dumps(record))


def tasks(study, number):
    return tasks_of(study.section(), [number])


@pytest.mark.parametrize("test_fold", [None, 0])
def test_each_fold_of_each_trial_is_one_task(test_fold):
    section = section_of(folds=5, test_fold=test_fold, parallel=3, trials=8)
    parts = {task: place_of(section, task) for task in tasks_of(section, range(8))}
    number = 5 if test_fold is None else 4
    assert sorted(parts.values()) == [(trial, place) for trial in range(8) for place in range(number)]
    assert all(tasks_of(section, [trial])[place] == task for task, (trial, place) in parts.items())


def test_all_trials_that_run_at_once_begin_before_the_second_fold_of_any():
    section = section_of(folds=3, parallel=2, trials=4)
    assert [place_of(section, task) for task in range(6)] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def test_each_fold_trains_the_values_of_its_trial_and_holds_out_another_fold(make_study):
    study = make_study(folds=3, test_fold=1, parallel=2)
    runs = [study.run(task, study.section()) for task in tasks(study, 1)]
    assert all(ask(run, f"17_{run.number}") for run in runs)
    values = read_json(study.trial(1).asked)["values"]
    profiles = [load_profile(run.profile) for run in runs]
    assert [profile.data.split.fold for profile in profiles] == [0, 2]
    assert {profile.train.learning_rate for profile in profiles} == {values["train.learning_rate"]}
    assert load_profile(study.trial(1).profile).data.split.fold is None
    assert run_at(runs[1].path).study.path == study.path
    assert runs[1].read_job()["submissions"][0]["array_index"] == runs[1].number


def test_the_value_of_a_trial_is_the_mean_over_its_folds(make_study):
    study = make_study(folds=3, parallel=2)
    ask(study.run(tasks(study, 0)[0], study.section()), None)
    for task, score in zip(tasks(study, 0), (1.0, 2.0, 6.0), strict=True):
        assert read_trials(study)[0].state != FINISHED
        end_fold(study, task, score)
    trial = read_trials(study)[0]
    assert (trial.state, trial.scores, trial.gpu_hours) == (FINISHED, [3.0], 1.5)
    assert trial.evaluations == [[1, 1.0], [2, 2.0], [3, 6.0]]
    assert study.trial(0).outcome.exists()


def test_a_trial_between_two_folds_waits_and_its_next_task_is_still_to_come(make_study):
    study = make_study(folds=3, parallel=2)
    first, second, _ = tasks(study, 0)
    ask(study.run(first, study.section()), None)
    end_fold(study, first)
    trial = read_trials(study)[0]
    assert (trial.state, trial.reason) == ("waiting", "1 of 3 folds have finished")
    states = {task.number: task.state for task in TrialReader(study).read_tasks()}
    assert (states[first], states[second]) == (FINISHED, "waiting")


def test_a_fold_that_diverged_ends_its_trial_and_no_further_fold_starts(make_study):
    study = make_study(folds=3, parallel=2)
    first, second, _ = tasks(study, 0)
    ask(study.run(first, study.section()), None)
    end_fold(study, first, state="diverged", reason="the loss is not finite", scores=None)
    assert not ask(study.run(second, study.section()), None)
    assert not study.run(second, study.section()).profile.exists()
    assert (read_trials(study)[0].state, read_trials(study)[0].reason) == (
        "diverged",
        "fold 1 of 3: the loss is not finite",
    )


def test_a_trial_that_is_worse_on_each_fold_ends_before_its_last_ones(make_study, capsys):
    study = make_study(folds=5, parallel=1, pruner=WILCOXON)
    for task in tasks(study, 0):
        ask(study.run(task, study.section()), None)
        end_fold(study, task, 1.0)
    started = []
    for task in tasks(study, 1):
        started.append(ask(study.run(task, study.section()), None))
        if started[-1]:
            end_fold(study, task, 2.0 + task / 10)
    assert started == [True, True, True, False, False]  # p = 1/8 after three folds
    assert (read_trials(study)[1].state, read_trials(study)[1].reason) == ("pruned", "pruned after 3 folds")
    assert "the study ended the trial after other folds" in capsys.readouterr().out


def test_a_stopped_study_starts_no_further_fold(make_study):
    study = make_study(folds=2, parallel=1)
    first, second = tasks(study, 0)
    assert ask(study.run(first, study.section()), None)
    study.stop.write_text("")
    assert not ask(study.run(second, study.section()), None)
    assert ask(study.run(first, study.section()), None)  # an attempt after a requeue goes on


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_folds_are_pruned_as_optuna_prunes_them(direction):
    section = section_of(folds=8, pruner=WILCOXON, objectives=[{"metric": "loss", "direction": direction}])
    sign = -1.0 if direction == "maximize" else 1.0
    draw = random.Random(5)
    decisions = []
    for _ in range(60):
        best = [[index, sign * draw.uniform(0, 1)] for index in range(1, 9)]
        mine = [[index, value + sign * draw.uniform(-0.5, 1)] for index, value in best[: draw.randint(2, 7)]]
        study = optuna.create_study(direction=direction)
        mean = sum(value for _, value in best) / 8
        steps = {int(index): value for index, value in best}
        study.add_trial(optuna.trial.create_trial(value=mean, intermediate_values=steps))
        theirs = study.ask()
        for index, value in mine:
            theirs.report(value, index)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.2, n_startup_steps=2)
        expected = pruner.prune(study, study._storage.get_trial(theirs._trial_id))
        trials = [Trial(0, FINISHED, {}, [mean], best), Trial(1, RUNNING, {}, None, mine)]
        is_better = (
            sign * sum(value for _, value in mine) / len(mine) < sign * mean
        )  # Optuna compares unlike folds there
        assert is_hopeless(section, trials, 1) == expected or is_better
        decisions.append(expected)
    assert 10 < sum(decisions) < 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_fold": 1}, "test_fold is one of the folds; set folds"),
        ({"pruner": {"name": "wilcoxon"}}, "the pruner wilcoxon compares folds; set folds"),
        ({"folds": 3, "test_fold": 3}, "there is no test_fold 3: 3 folds have the numbers 0 to 2"),
        ({"folds": 2, "test_fold": 1}, "leaves nothing to train on; use 3 folds or more"),
        ({"folds": 3, "pruner": {"name": "median"}}, "use the pruner wilcoxon, or none"),
        ({"folds": 3, "sampler": {"name": "pbt"}}, "remove folds"),
        ({"folds": 3, "engine": "ray"}, "remove folds, or engine: ray"),
    ],
)
def test_folds_that_do_not_fit_are_refused_with_what_to_do(changes, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        section_of(**changes)


def test_the_script_of_a_study_has_a_task_for_each_fold(make_study, tmp_path, monkeypatch, capsys):
    study = make_study()
    (tmp_path / "study.yaml").write_text(
        f"name: s\nbase: {study.base}\nspace: {{train.learning_rate: [1.0e-3, 1.0e-2]}}\nsampler: {{name: grid}}\n"
        "trials: 2\nfolds: 3\nparallel: 2\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["search", "study.yaml", "--dry-run", "--no-memory", "--cluster", "slurm"]) == 0
    said = capsys.readouterr().out
    assert "#SBATCH --array=0-5%2" in said
    assert "/folds/" in said
    assert "2 trials, each on 3 folds, 2 at once" in said
