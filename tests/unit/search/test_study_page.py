"""The page of a study: it is whole and of bounded size for any study, and shows what happened."""

import math
import re

import pytest
from study_folders import curve_towards, end_trial, fill, make_study

from hpctrain.search.facts import at_the_edge, facts_of, saved_by_pruning, short_names
from hpctrain.search.page import write_page
from hpctrain.search.trials import read_trials

ONE = {"train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}


def page_of(study):
    return write_page(study, read_trials(study), study.report, now=1.8e9).read_text()


def test_a_study_without_a_finished_trial_has_a_page_that_says_so(tmp_path):
    page = page_of(make_study(tmp_path))
    assert "0 of 10 trials have finished. There is no best trial yet." in page
    assert "No trial was evaluated yet." in page


@pytest.mark.slow
def test_the_page_names_the_best_trial_and_links_to_the_report_of_its_run(tmp_path):
    study = make_study(tmp_path, trials=40, pruner={"name": "median"})
    fill(study, 38)
    trials = read_trials(study)
    best = min((t for t in trials if t.state == "finished"), key=lambda t: t.scores[0])
    study.trial(best.number).report.write_text("the run")
    page = page_of(study)
    assert f"The best is trial {best.number} with loss {best.scores[0]:.4g}" in page
    assert f'<a href="{best.number}/report.html">' in page
    assert page.count('href="') - page.count('href="#') == 1
    assert "8 pruned, 3 failed, 3 diverged, 2 waiting" in page
    assert "model.family is clusters" in page  # importance among the trials that have groups


def test_a_page_elsewhere_links_to_the_runs_from_there(tmp_path):
    study = make_study(tmp_path / "runs", space=ONE)
    end_trial(study, 0, "finished", {"train.learning_rate": 1e-3}, [0.5])
    study.trial(0).report.write_text("the run")
    page = write_page(study, read_trials(study), tmp_path / "page.html").read_text()
    assert 'href="runs/made/20261126-120000-abcd/0/report.html"' in page


def test_the_size_of_a_page_does_not_grow_with_the_number_of_trials(tmp_path):
    study = make_study(tmp_path, space=ONE, trials=600)
    for number in range(600):
        rate = 10 ** (-5 + 4 * number / 599)
        state = "pruned" if number % 3 else "finished"
        curve = curve_towards(1 + math.sin(number) ** 2)
        end_trial(study, number, state, {"train.learning_rate": rate}, [curve[-1][1]], evaluations=curve, step=40)
    page = page_of(study)
    assert "150 of 600 lines" in page
    assert "100 of 600 trials" in page
    assert len(page) < 500_000


def test_several_objectives_get_a_front_and_no_best_trial(tmp_path):
    objectives = [{"metric": "loss"}, {"metric": "accuracy", "direction": "maximize"}]
    study = make_study(tmp_path, space=ONE, objectives=objectives, trials=4)
    for number, scores in enumerate([[0.1, 0.5], [0.2, 0.9], [0.3, 0.8]]):
        end_trial(study, number, "finished", {"train.learning_rate": 1e-3}, scores)
    page = page_of(study)
    assert "No other beats 2 trials in all of loss, accuracy." in page
    assert "loss, lower is better" in page
    assert "accuracy, higher is better" in page


def test_trials_that_failed_for_one_reason_share_a_row_and_text_from_outside_is_escaped(tmp_path):
    study = make_study(tmp_path, space=ONE)
    for number in range(3):
        end_trial(study, number, "failed", {"train.learning_rate": 1e-3}, None, reason="exit code 4: <script>alert(1)")
    page = page_of(study)
    assert page.count("exit code 4: &lt;script&gt;alert(1)") == 1
    assert "<script>alert" not in page
    assert "3 trials failed or diverged" in page


def test_the_page_never_shows_the_password_of_a_database(tmp_path):
    page = page_of(make_study(tmp_path, storage="postgresql+psycopg://me:secret@db.example/studies"))
    assert "postgresql+psycopg://…@db.example/studies" in page
    assert "secret" not in page


def test_what_pruning_saved_is_the_rest_of_each_pruned_trial_at_its_own_pace(tmp_path):
    study = make_study(tmp_path, space=ONE, trials=3)
    values = {"train.learning_rate": 1e-3}
    end_trial(study, 0, "pruned", values, [1.0], step=20, gpu_hours=0.5, kwh=0.2)  # 20 of 80 steps
    end_trial(study, 1, "pruned", values, None, step=0, gpu_hours=0.1)
    end_trial(study, 2, "diverged", values, None, step=20, gpu_hours=0.5, kwh=0.2)
    saved = saved_by_pruning(read_trials(study))
    assert saved == pytest.approx((1.5, 0.6, 2, 1))


def test_best_trials_at_an_end_of_a_range_are_a_thing_to_know(tmp_path):
    study = make_study(tmp_path, space=ONE, trials=20)
    for number in range(20):
        rate = 10 ** (-5 + 4 * (number / 19) ** 3)
        end_trial(study, number, "finished", {"train.learning_rate": rate}, [rate])
    sentences = at_the_edge(facts_of(study, read_trials(study), 0.0))
    assert len(sentences) == 1
    assert "lower end of train.learning_rate (1e-05)" in sentences[0]


def test_names_are_as_short_as_they_can_be_without_a_double(tmp_path):
    space = {key: [1, 2] for key in ("train.rate", "model.rate", "model.depth")}
    study = make_study(tmp_path, space=space)
    assert set(short_names(study.space()).values()) == {"train.rate", "model.rate", "depth"}


def test_every_number_in_a_drawing_is_finite(tmp_path):
    study = make_study(tmp_path, trials=30)
    fill(study, 30)
    for trial in range(2):
        end_trial(
            study, trial, "finished", {"train.learning_rate": 1e-3}, [0.5], evaluations=[[1, None], [2, math.inf]]
        )
    drawn = re.findall(r'(?:d|x|y|width|cx)="([^"]*)"', page_of(study))
    assert drawn
    assert not [text for text in drawn if "nan" in text or "inf" in text]
