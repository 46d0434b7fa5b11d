"""An ensemble of the finished trials of a study: chosen on one half of the held-out objects, scored on the other."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from families import TINY, profile_values
from search_parts import end_trial, section_of

from hpctrain.cli import main
from hpctrain.families.held_out import HeldOut
from hpctrain.families.store import card_entries, read_card, save_model
from hpctrain.families.trees.family import FAMILY
from hpctrain.kinds.catalogue.kind import KIND
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.rundir import file_digest
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split
from hpctrain.search.ensemble_choice import choose_members, mixed_log_p, weights_of
from hpctrain.search.ensemble_held_out import scoring_rows
from hpctrain.search.folder import StudyDir, StudyRecord, write_study

TREES = TINY["trees"]


def grow(study, number, data, salt="hpctrain", **model):
    """Write what a finished trial leaves behind that has grown trees."""
    run = study.trial(number)
    values = profile_values(TREES, data)
    values["data"]["split"] = {"validation": 0.5, "salt": salt}
    profile = profile_of({**values, "model": {**values["model"], "trees": 6, **model}})
    samples = KIND.open(profile.data)
    side = assign_split(samples.target_id, profile.data.split)
    rows, held = np.flatnonzero(side == TRAIN), np.flatnonzero(side == VALIDATION)
    section = FAMILY.settle(profile.model, samples, rows)
    samples.labels = FAMILY.labels(section, samples)
    facts = KIND.facts(samples, rows)
    grown = FAMILY.network(section, facts)
    for round_ in range(section.rounds):
        grown.do_round(round_, rows, lambda chosen: iter([samples.read(chosen)]), number)
    entries = card_entries(profile)
    asked = HeldOut(samples, held, KIND.preparation(entries), 64, torch.device("cpu"), lambda done: None)
    FAMILY.complete(grown, asked)
    save_model(run.model, grown, section, facts, entries)
    (run.path / "results").mkdir()
    FAMILY.write_results(grown, read_card(run.model / "model.json"), asked, run.path / "results")
    run.profile.write_text(dump_profile(profile))
    end_trial(study, number, scores=[float(number)], values={"model.min_leaf": number})


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A study with three finished trials, which have learned all kinds of labels."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = TREES.tiny_file(folder / "data.h5", num=400)
    study = StudyDir(folder / "runs/searched/20261126-120000-abcd")
    study.path.mkdir(parents=True)
    write_study(study, section_of())
    study.write_record(StudyRecord("local", 0.0, 8))
    for number, part in enumerate((0.3, 0.6, 1.0)):
        grow(study, number, data, features_per_split=part, min_leaf=3 + 20 * number)
    return folder


@pytest.fixture
def study(grown, tmp_path, monkeypatch):
    shutil.copytree(grown, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return StudyDir(tmp_path / "runs/searched/20261126-120000-abcd")


def columns(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def test_the_greedy_choice_is_that_of_trying_every_model_at_every_step():
    rng = np.random.default_rng(1)
    log_p = np.log(rng.uniform(0.05, 1, (5, 60)))
    weight = rng.uniform(0.5, 2, 60)

    def loss(models):
        return float(-np.log(np.exp(log_p[models]).mean(axis=0)) @ weight / weight.sum())

    chosen, losses = choose_members(log_p, weight, 7)
    expected: list[int] = []
    for found in losses:
        expected.append(min(range(5), key=lambda model: loss([*expected, model])))
        assert found == pytest.approx(loss(expected))
    assert chosen == expected[: int(np.argmin(losses)) + 1]
    assert losses[0] == pytest.approx(min(loss([model]) for model in range(5)))
    weights = weights_of(chosen)
    assert sum(weights.values()) == pytest.approx(1)
    assert float(-mixed_log_p(log_p, weights) @ weight / weight.sum()) == pytest.approx(min(losses))


def test_a_model_that_rules_the_truth_out_does_not_spoil_the_choice():
    log_p = np.array([[-2000.0, -0.1], [-0.5, -0.5]])
    chosen, losses = choose_members(log_p, np.ones(2), 3)
    assert chosen[0] == 1
    assert np.isfinite(losses).all()


def test_all_rows_of_an_object_are_on_one_side_and_classes_are_halved():
    rng = np.random.default_rng(2)
    target_id = rng.integers(0, 300, 1000)
    strata = np.array(["A", "B", "C"])[(target_id % 7) // 3]
    scores = scoring_rows(target_id, strata)
    sides = {target: set(scores[target_id == target]) for target in set(target_id)}
    assert {len(side) for side in sides.values()} == {1}
    for name in "ABC":
        inside = [True in sides[target] for target in sides if strata[target_id == target][0] == name]
        assert abs(2 * sum(inside) - len(inside)) <= 1
    assert np.array_equal(scoring_rows(target_id[::-1], strata[::-1])[::-1], scores)


@pytest.mark.slow
def test_members_weights_scores_and_hashes_are_written(study, capsys):
    assert main(["search", "ensemble", "searched", "--size", "6"]) == 0
    said = capsys.readouterr().out
    found = json.loads((study.path / "ensemble.json").read_text())
    assert sum(member["weight"] for member in found["members"]) == pytest.approx(1)
    assert found["candidates"] == [0, 1, 2]
    assert len(found["losses_by_size"]) == 6
    assert {member["sha256"] for member in found["members"]} <= {
        file_digest(study.trial(number).model / "model.safetensors") for number in range(3)
    }
    names = [each["name"] for each in found["scores"]["scoring"]]
    assert names[:3] == ["loss", "colour_log_loss", "colour_accuracy"]
    assert {"size_rmse", "angle_log_loss", "z_log_loss"} <= set(names)
    held = columns(study.trial(0).path / "results/predictions.h5")["target_id"]
    assert found["objects"]["choosing"] + found["objects"]["scoring"] == len(held)
    first = found["scores"]["choosing"][0]
    assert first["ensemble"] <= first["single"]
    for each in found["scores"]["scoring"]:
        assert each["low"] <= each["difference"] <= each["high"]
    assert f"{found['objects']['scoring']} held-out objects, with 95 % intervals" in said
    assert f"trial {found['best_trial']}" in said


def test_the_accuracy_of_the_ensemble_is_that_of_its_mean_probability(study):
    assert main(["search", "ensemble", "searched"]) == 0
    found = json.loads((study.path / "ensemble.json").read_text())
    tables = {number: columns(study.trial(number).path / "results/predictions.h5") for number in range(3)}
    mean = sum(member["weight"] * tables[member["trial"]]["colour_PROB"] for member in found["members"])
    true = tables[0]["colour_TRUE"]
    scores = scoring_rows(tables[0]["target_id"], true) & (true != b"")
    scores &= np.all([np.isfinite(table["colour_LOG_LOSS"]) for table in tables.values()], axis=0)
    right = np.array([b"BLUE", b"FLAT", b"RED"])[mean.argmax(axis=1)] == true
    written = {each["name"]: each for each in found["scores"]["scoring"]}
    assert written["colour_accuracy"]["ensemble"] == pytest.approx(right[scores].mean())
    loss = -np.log(mean[np.arange(len(mean)), np.searchsorted([b"BLUE", b"FLAT", b"RED"], true).clip(max=2)])
    assert written["colour_log_loss"]["ensemble"] == pytest.approx(loss[scores].mean(), rel=1e-4)


@pytest.mark.slow
def test_predictions_are_the_weighted_means_of_those_of_the_members(study, capsys):
    assert main(["search", "ensemble", "searched"]) == 0
    members = json.loads((study.path / "ensemble.json").read_text())["members"]
    assert main(["search", "predict", "searched", "data.h5", "--out", "mixed.h5", "--device", "cpu"]) == 0
    assert f"400 objects by {len(members)} models" in capsys.readouterr().out
    mixed = columns("mixed.h5")
    each = {}
    for member in members:
        out = f"{member['trial']}.h5"
        assert (
            main(["predict", str(study.trial(member["trial"]).path), "data.h5", "--out", out, "--device", "cpu"]) == 0
        )
        each[member["trial"]] = columns(out)
    assert mixed.keys() == next(iter(each.values())).keys()
    mean = {
        name: sum(member["weight"] * each[member["trial"]][name].astype(float) for member in members)
        for name in ("colour_PROB", "size_PRED")
    }
    np.testing.assert_allclose(mixed["colour_PROB"], mean["colour_PROB"], atol=1e-5)
    np.testing.assert_allclose(mixed["size_PRED"], mean["size_PRED"], atol=1e-4)
    variance = sum(
        member["weight"]
        * (each[member["trial"]]["size_ERR"] ** 2 + (each[member["trial"]]["size_PRED"] - mean["size_PRED"]) ** 2)
        for member in members
    )
    np.testing.assert_allclose(mixed["size_ERR"], np.sqrt(variance), rtol=1e-3)
    assert np.all(mixed["z_LOW"] <= mixed["z_HIGH"])


def test_a_folder_that_cannot_be_written_is_no_traceback(study, capsys):
    assert main(["search", "ensemble", "searched", "--out", "data.h5/kept"]) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_a_prediction_that_rules_the_truth_out_counts(study):
    with h5py.File(study.trial(0).path / "results/predictions.h5", "r+") as file:
        known = np.flatnonzero(np.isfinite(file["colour_LOG_LOSS"][()]))
        file["colour_LOG_LOSS"][known] = np.inf
    assert main(["search", "ensemble", "searched"]) == 0
    found = json.loads((study.path / "ensemble.json").read_text())
    assert found["best_trial"] != 0
    assert found["losses_by_size"][0] < 100


def test_a_copy_of_the_ensemble_predicts_without_its_study(study):
    assert main(["search", "ensemble", "searched", "--out", "kept"]) == 0
    shutil.rmtree("runs")
    assert main(["search", "predict", "kept", "data.h5", "--out", "mixed.h5", "--device", "cpu"]) == 0
    assert len(columns("mixed.h5")["target_id"]) == 400
    assert main(["search", "predict", "kept", "data.h5", "--out", "mixed.h5", "--device", "cpu"]) == 4


def test_a_member_that_has_changed_is_refused(study, capsys):
    assert main(["search", "ensemble", "searched"]) == 0
    member = json.loads((study.path / "ensemble.json").read_text())["members"][0]["trial"]
    weights = study.trial(member).model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert main(["search", "predict", "searched", "data.h5", "--out", "mixed.h5"]) == 5
    assert "not the model that" in capsys.readouterr().err


def test_copies_of_one_model_are_no_better_than_it(study, capsys):
    for number in (1, 2):
        shutil.rmtree(study.trial(number).path)
        shutil.copytree(study.trial(0).path, study.trial(number).path)
        end_trial(study, number)
    assert main(["search", "ensemble", "searched"]) == 0
    assert json.loads((study.path / "ensemble.json").read_text())["verdict"] == "no better"
    assert "the ensemble is no better" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_with_other_splits_are_refused_with_the_number_of_shared_objects(study, capsys):
    shutil.rmtree(study.trial(2).path)
    grow(study, 2, study.path.parents[2] / "data.h5", salt="other")
    mine, theirs = (columns(study.trial(n).path / "results/predictions.h5")["target_id"] for n in (0, 2))
    assert main(["search", "ensemble", "searched"]) == 4
    said = capsys.readouterr().err
    assert f"share only {len(set(mine) & set(theirs))} of them; different are trials 2" in said


@pytest.mark.slow
def test_a_trial_with_another_label_is_no_candidate(study, capsys):
    shutil.rmtree(study.trial(2).path)
    grow(study, 2, study.path.parents[2] / "data.h5", labels=[{"column": "colour", "kind": "class"}])
    assert main(["search", "ensemble", "searched"]) == 0
    assert "trial 2 is no candidate: it predicts colour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["search", "ensemble"], 2),
        (["search", "ensemble", "nothing"], 3),
        (["search", "predict", "searched"], 2),
        (["search", "predict", "searched", "data.h5", "--out", "p.h5"], 5),
        (["search", "best", "searched", "3"], 2),
        (["search", "extend", "searched", "x"], 2),
    ],
)
def test_a_wrong_command_line_of_an_ensemble_is_no_traceback(study, capsys, words, code):
    assert main(words) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_study_without_labels_has_no_ensemble(study, capsys):
    for number in range(3):
        card = study.trial(number).model / "model.json"
        card.write_text(json.dumps({**json.loads(card.read_text()), "section": {}}))
    assert main(["search", "ensemble", "searched"]) == 4
    assert "predicts no labels" in capsys.readouterr().err
