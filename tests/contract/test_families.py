"""What every model family promises, whoever wrote it: DESIGN's list, over all families of `families.TINY`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from families import Tiny, profile_values

from hpctrain.cli import run_command
from hpctrain.errors import DataError
from hpctrain.families.family import Family
from hpctrain.families.predictions import predict
from hpctrain.families.store import card_entries, load_model, save_model
from hpctrain.kinds.kind import Kind
from hpctrain.profile.families import family_of, kind_of, profile_of
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.lookup import find_family
from hpctrain.profile.schema import Profile
from hpctrain.rundir import file_digest


class Made:
    """A family with a new model, and samples that it has not seen."""

    def __init__(self, tiny: Tiny, folder: Path) -> None:
        self.profile: Profile = profile_of(profile_values(tiny, tiny.tiny_file(folder / "data.h5", num=24)))
        self.family: Family = family_of(self.profile)
        self.kind: Kind = kind_of(self.profile)
        self.samples = self.kind.open(self.profile.data)
        self.rows = np.arange(len(self.samples))
        self.facts = self.kind.facts(self.samples, self.rows)
        self.prepare = self.kind.preparation(self.profile.data.card_entries)
        self.section = self.family.settle(self.profile.model, self.samples, self.rows)
        self.samples.labels = self.family.labels(self.section, self.samples)
        torch.manual_seed(1)
        self.model: Any = self.family.network(self.section, self.facts)
        if self.learns_in_rounds:
            self.do_round(0)

    @property
    def learns_in_rounds(self) -> bool:
        return self.family.how == "rounds"

    def batch(self, rows: np.ndarray) -> Any:
        return self.prepare(self.samples.read(np.asarray(rows, dtype=np.int64)))

    def sums(self, rows: np.ndarray) -> dict[str, float]:
        """Return the sums over some rows without random numbers."""
        if self.learns_in_rounds:
            return {name: float(value) for name, value in self.model.score(self.batch(rows)).items()}
        with torch.no_grad():
            return {name: float(value) for name, value in self.model.eval()(self.batch(rows), 0).items()}

    def do_round(self, number: int) -> dict[str, float]:
        return self.model.do_round(number, self.rows, lambda rows: iter([self.batch(rows)]), seed=number + 7)

    def predictions(self, model: Any) -> dict[str, np.ndarray]:
        return predict(model if self.learns_in_rounds else model.eval(), self.batch(self.rows))


@pytest.fixture
def made(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # draws depend on the batch, on purpose
    return Made(tiny, tmp_path)


def test_padding_rows_add_exactly_nothing(made):
    assert set(made.sums([-1, -1, -1]).values()) == {0.0}
    alone, padded = made.sums([3, 4]), made.sums([3, 4, -1, -1])
    assert padded["weight_sum"] == alone["weight_sum"]
    assert padded["num_samples"] == alone["num_samples"] == 2
    assert padded["loss_sum"] == pytest.approx(alone["loss_sum"], rel=1e-5)


def test_sums_over_micro_batches_equal_the_whole(made):
    whole, parts = made.sums(range(24)), [made.sums(range(start, start + 8)) for start in (0, 8, 16)]
    assert {"loss_sum", "weight_sum", "num_samples"} <= whole.keys()
    for name, value in whole.items():
        assert sum(part[name] for part in parts) == pytest.approx(value, rel=1e-4), name


def test_metrics_are_finite_numbers_and_have_the_objective(made):
    found = made.model.metrics(made.sums(range(24)))
    assert made.family.objective.metric in found
    assert all(np.isfinite(value) for value in found.values())


def test_predictions_have_one_row_per_sample_and_do_not_change(made):
    first, again = made.predictions(made.model), made.predictions(made.model)
    assert first
    for name, values in first.items():
        assert len(values) == 24, name
        np.testing.assert_array_equal(values, again[name])


def test_a_model_and_its_card_go_round(made, tmp_path):
    save_model(tmp_path / "model", made.model, made.section, made.facts, card_entries(made.profile))
    loaded, card = load_model(tmp_path / "model")
    assert card["family"] == made.profile.model.family
    assert made.kind.read_facts(card["facts"]) == made.facts
    assert made.facts.difference(made.samples) is None
    assert json.loads(json.dumps(card)) == card
    for name, values in made.predictions(made.model).items():
        np.testing.assert_array_equal(values, made.predictions(loaded)[name])
    _vectors_are_those_of_the_samples(made, loaded, card)


def _vectors_are_those_of_the_samples(made, model, card):
    read = [made.samples.read(np.asarray(rows, dtype=np.int64)) for rows in (made.rows, made.rows[::-1])]
    there, back = (made.family.embedding(model, card, batch) for batch in read)
    if there is not None:
        assert there.shape == back.shape == (24, there.shape[1])
        np.testing.assert_allclose(there, back[::-1], rtol=1e-4, atol=1e-4)


def test_a_state_that_was_loaded_goes_on_with_the_same_bits(made):
    if not made.learns_in_rounds:
        pytest.skip("the state of a network is its weights, which the card goes round with")
    other = made.family.network(made.section, made.facts)
    other.load({name: array.copy() for name, array in made.model.state().items()})
    mine = made.do_round(1)
    made.model, states = other, made.model.state()
    assert made.do_round(1) == mine
    for name, array in made.model.state().items():
        np.testing.assert_array_equal(array, states[name])


def test_a_profile_goes_round_and_near_names_are_exact(made, tmp_path):
    text = dump_profile(made.profile)
    (tmp_path / "profile.yaml").write_text(text)
    assert load_profile(tmp_path / "profile.yaml") == made.profile
    values = yaml.safe_load(text)
    key = next(key for key in values["model"] if key != "family")
    values["model"][f"{key}x"] = values["model"].pop(key)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(values))
    from hpctrain.profile.check import check_profile

    [problem] = check_profile(tmp_path / "wrong.yaml", memory=False).problems
    assert problem.where == f"model.{key}x"
    assert problem.line is not None
    assert f"did you mean '{key}'?" in problem.message


def test_a_run_that_was_killed_and_resumed_has_the_bits_of_one_left_in_peace(home, peace, train):
    killed = home.make_run("killed")
    train(killed, kill_at=6)
    assert train(killed) == [0], train.stderr
    assert len(list(killed.attempts.glob("[0-9]*.json"))) == 2
    assert file_digest(killed.model / "model.safetensors") == file_digest(peace.model / "model.safetensors")
    losses = [[(r["step"], r["loss"]) for r in run.read_metrics("train")] for run in (peace, killed)]
    assert losses[0] == losses[1]


def test_two_ranks_learn_what_one_does_or_are_refused_by_check(home, peace, train, capsys):
    pair = home.make_run("pair", launch={"ranks_per_node": 2}, train={"accumulation": 1})
    profile = load_profile(pair.profile)
    family = family_of(profile)
    if family.how == "rounds" and family.most_ranks(profile.model) == 1:
        assert run_command("check", [str(pair.profile), "--no-memory"]) == 2
        assert "learns in one process" in capsys.readouterr().err
        return
    if family.how == "rounds":  # a round is the same on any number of ranks, bit by bit
        train(pair, 2, kill_at=6)
        assert train(pair) == [0], train.stderr
        assert file_digest(pair.model / "model.safetensors") == file_digest(peace.model / "model.safetensors")
        return
    assert train(pair, 2) == [0, 0], train.stderr
    losses = [np.array([r["loss"] for r in run.read_metrics("train")]) for run in (peace, pair)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def is_network(run: Any) -> bool:
    """Return whether a finished model is a network, or says that it can be one."""
    model, card = load_model(run.path)
    if isinstance(model, torch.nn.Module):
        return True
    try:
        return bool(find_family(card["family"]).to_network(model))
    except DataError:
        return False


@pytest.mark.usefixtures("warm_python")
def test_check_report_predict_and_export_run_without_the_family_being_named(home, peace, tmp_path, capsys):
    run = peace
    assert run_command("check", [str(run.profile)]) == 0
    assert run_command("status", [str(run.path)]) == 0
    assert "finished" in capsys.readouterr().out
    assert run_command("report", [str(run.path)]) == 0
    assert "Training" in (run.path / "report.html").read_text()
    out = tmp_path / "predictions.h5"
    assert run_command("predict", [str(run.path), str(home.data), "--out", str(out)]) == 0
    with h5py.File(out) as file:
        assert len(file["target_id"]) == 60
        assert set(file) > {"target_id", "row"}
    pytest.importorskip("onnx")
    capsys.readouterr()
    if not is_network(run):
        assert run_command("export", [str(run.path)]) == 2
        assert "network" in capsys.readouterr().err
        return
    small = ("edge.gates.min_spectra=2", "edge.latency_batch=2", "edge.latency_calls=30")
    code = run_command("export", [str(run.path), *(word for value in small for word in ("--set", value))])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert list((run.path / "export").glob("*/model.onnx")) or list((run.path / "export").glob("*/*.onnx"))
