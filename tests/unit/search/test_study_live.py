"""The live view of a study, and the run that trains with its best values again."""

import io
import json
import re
import time

from rich.console import Console
from study_folders import end_trial, fill
from study_folders import make_study as make_folder

from hpctrain.cli import main
from hpctrain.commands.search_refit import changes_of
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.search.ask import ask
from hpctrain.search.facts import facts_of
from hpctrain.search.live import draw
from hpctrain.search.trials import read_trials


def drawn(study):
    screen = Console(file=io.StringIO(), width=140)
    screen.print(draw(facts_of(study, read_trials(study), time.time())))
    return screen.file.getvalue()


def test_the_view_shows_how_far_a_study_is_and_its_best_trials(tmp_path):
    study = make_folder(tmp_path, trials=40, budget={"gpu_hours": 100})
    fill(study, 30)
    text = drawn(study)
    assert "30 of 40 trials have ended" in text
    assert "18 finished" in text
    assert "of 100 GPU hours spent" in text
    assert "pruning saved about 2" in text  # six trials, each spared 50 of 80 steps after 0.2 hours in 30
    best = min((trial for trial in read_trials(study) if trial.state == "finished"), key=lambda trial: trial.scores[0])
    first = next(line for line in re.split(r"\nbest +\n", text)[1].splitlines() if "finished" in line)
    assert first.split()[0] == str(best.number)
    assert "2 more are not shown" in text
    assert "exit code 4: out of memory" in text


def test_the_view_shows_a_running_trial_with_its_newest_evaluation(make_study):
    study = make_study()
    assert ask(study.trial(0), "7_0")
    study.trial(0).evaluations.write_text(json.dumps({"10": [0.5], "20": [0.25]}))
    text = drawn(study)
    assert re.search(r"\nrunning +\n", text)
    assert "(0.25)" in text


def test_a_refit_takes_the_best_values_and_leaves_only_the_test_objects_out(make_study, capsys, monkeypatch):
    study = make_study()
    monkeypatch.chdir(study.path.parents[2])
    assert main(["search", "refit", "searched"]) != 0
    assert "no trial has finished yet" in capsys.readouterr().err
    for number, loss in enumerate((0.5, 0.2)):
        assert ask(study.trial(number), "7_0")
        end_trial(study, number, "finished", read_trials(study)[number].values, [loss])
    assert main(["search", "refit", "searched", "--dry-run", "--set", "train.seed=5"]) == 0
    assert "runs/searched-refit/" in capsys.readouterr().out
    assert not (study.path.parents[1] / "searched-refit").exists()
    assert main(["search", "refit", "searched", "--trial", "5", "--dry-run"]) != 0
    assert "there is no trial 5 with a profile" in capsys.readouterr().err


def test_a_refit_holds_no_object_out_for_validation_and_does_not_stop_early(make_study):
    study = make_study()
    assert ask(study.trial(0), "7_0")
    path = study.trial(0).profile
    trial = load_profile(path, ["data.split.test=0.1", "train.early_stopping={patience: 2}"])
    path.write_text(dump_profile(trial))
    again = load_profile(path, changes_of(path, study))
    assert (again.name, again.data.split.validation, again.train.early_stopping) == ("searched-refit", 0.0, None)
    assert again.data.split.test == 0.1
    assert again.train.learning_rate == trial.train.learning_rate
