"""Advice for runs that suffer, for a healthy one, on the page, in the status and as a changed profile."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from real_run import write_records

from benchmarks.advice_plants import PLANTS, plant_of, set_keys, stretch, tell
from hpctrain.advice.advise import RULES, advise, name_of
from hpctrain.advice.changed import changes_of
from hpctrain.advice.gather import summarise
from hpctrain.advice.summary import Option, RunSummary
from hpctrain.cli import run_command
from hpctrain.metrics.events import Diverged, NotTraced, Started
from hpctrain.monitor.ledger import RankState
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir


@pytest.fixture
def healthy(finished):
    """The real run as if it had had one attempt, with a training that takes long enough to be judged."""
    records = [
        record for record in finished.read_metrics() if record["kind"] != "event" or record["event"] != "resumed"
    ]
    write_records(finished, [record for record in records if record.get("event") != "checkpoint_rejected"])
    (finished.attempts / "ended.tsv").unlink()
    return finished


def rules_for(run: RunDir) -> list[str]:
    return [said.rule for said in advise(summarise(run))]


def test_a_healthy_run_gets_no_advice(healthy, capsys):
    assert rules_for(healthy) == []
    assert run_command("advise", [str(healthy.path)]) == 0
    assert "no rule finds anything" in capsys.readouterr().out
    assert 'id="advice"' not in write_report(healthy).read_text()


@pytest.mark.parametrize("name", sorted(PLANTS.keys() - {"spiky", "fp16", "dead", "exploding"}))
def test_each_kind_of_suffering_is_found(name, healthy):
    expected = plant_of(name, healthy)
    found = {said.rule: said for said in advise(summarise(healthy))}
    assert expected in found
    said = found[expected]
    assert all([said.seen, said.why, said.gain, said.what_to_do])


def curves(**numbers) -> RunSummary:
    """Return the summary of a run with these curves, and a clear fall of the loss where none is given."""
    length = len(next(iter(numbers.values())))
    run = RunSummary("run", {"train": {"learning_rate": 1e-3}})
    numbers.setdefault("loss", [1 / (1 + step) for step in range(length)])
    for step in range(length):
        values = {name: of[step] for name, of in numbers.items()}
        run.history.train.append(
            {"kind": "train", "step": step, "time": float(step), "attempt": 1, "lr": 1e-3, **values}
        )
    return run


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ("spiky-loss", {"loss": [30.0 if step in (20, 40, 60) else 1 / (1 + step) for step in range(80)]}),
        ("half-precision-fails", {"skipped": [float(step % 4 == 0) for step in range(80)]}),
        ("dead-gradient", {"grad_norm": [1.0 if step < 20 else 1e-9 for step in range(80)]}),
        ("exploding-gradient", {"grad_norm": [10.0 ** (step / 10) for step in range(80)]}),
        ("learning-rate-too-high", {"loss": [abs(step - 20) + 1.0 for step in range(80)]}),
    ],
)
def test_a_curve_that_suffers_is_recognised(rule, numbers):
    assert rule in [said.rule for said in advise(curves(**numbers))]
    assert advise(curves(grad_norm=[1.0] * 80)) == []


def test_advice_about_spikes_divergence_and_learning_rates_names_the_commands_that_look_into_it():
    spiky = curves(loss=[30.0 + step if step in (20, 40, 60) else 1 / (1 + step) for step in range(80)])
    (said,) = [said for said in advise(spiky) if said.rule == "spiky-loss"]
    assert "`hpctrain autopsy run --step 60`" in said.todo
    spiky.history.events.append(Diverged(quantity="loss", objects=[], batch=[1, 2]).at(79))
    (said,) = [said for said in advise(spiky) if said.rule == "diverged"]
    assert "`hpctrain autopsy run --step 79`" in said.todo
    assert "`hpctrain lr-find run/profile.yaml`" in said.todo
    (said,) = advise(curves(loss=[abs(step - 20) + 1.0 for step in range(80)]))
    assert said.todo.startswith("`hpctrain lr-find run/profile.yaml`")


def waiting(slowest, host_of=("n1", "n1", "n2", "n2"), **more) -> list[str]:
    """Return what is said of four ranks on these hosts that wait 30 % of the time, now for one and now for another."""
    steps, values = range(80), {"peer_wait_share": 0.3, **more}
    run = curves(slowest_rank=[slowest[step % len(slowest)] for step in steps])
    for record in run.history.train:
        record.update(values)
    run = replace(run, ranks=[RankState(n, 1, 5, host, 0.0, 5.0, {}, {}, [], []) for n, host in enumerate(host_of)])
    return [f"{said.seen} {said.what_to_do}" for said in advise(run) if said.rule == "waiting-for-peers"]


def test_a_rank_or_a_node_for_which_all_others_wait_is_named_and_ranks_that_take_turns_are_not():
    (said,) = waiting([3])
    assert "rank 3 on n2 waits for nobody, and the other ranks waited for it in 30 %" in said
    assert 'launch.exclude: ["n2"]' in said
    (said,) = waiting([2, 3])
    assert "the ranks on n2 wait for nobody, and the others waited for them in 30 %" in said
    assert waiting([0, 1, 2, 3]) == []
    assert waiting([3], peer_wait_share=0.1) == []
    (said,) = waiting([3], slowest_data_wait_share=0.25)
    assert "launch.exclude" not in said
    assert "data.stage" in said
    (said,) = waiting([1], host_of=("n1", "n1"))
    assert "launch.exclude" not in said


def test_a_learning_rate_is_too_low_if_the_loss_falls_as_fast_at_the_end_as_at_the_beginning():
    slow = curves(loss=[2.0 - 0.001 * step for step in range(80)])
    slow.profile["train"]["learning_rate"] = 1e-5
    assert [said.rule for said in advise(slow)] == ["learning-rate-too-low"]
    assert changes_of(advise(slow))[0].value > 1e-5


def test_a_held_out_loss_that_rises_while_the_training_loss_falls_is_overfitting():
    run = curves(grad_norm=[1.0] * 80)
    for step in range(0, 80, 8):
        loss = 1.0 - step / 60 if step < 30 else 0.4 + step / 100
        run.history.evaluations.append({"kind": "eval", "step": step, "time": 1.0, "attempt": 1, "loss": loss})
    assert [said.rule for said in advise(run)] == ["overfitting"]


def test_every_rule_has_a_run_that_suffers_from_it():
    of_curves = {
        "learning-rate-too-high",
        "learning-rate-too-low",
        "overfitting",
        "labels-not-learned",
        "nothing-held-out",
    }
    assert {name_of(rule) for rule in RULES} == {rule for rule, _ in PLANTS.values()} | of_curves


def test_the_estimate_decides_what_would_fit():
    run = RunSummary(
        "run",
        {"train": {"batch_size": 512}},
        log="CUDA out of memory",
        available_gib=40.0,
        options=[Option({"train.batch_size": 256}, 41.0), Option({"train.precision": "bf16"}, 30.0)],
    )
    (said,) = advise(run)
    assert [str(change) for change in said.changes] == ["train.precision: bf16"]
    assert "about 30.0 of 40.0 GiB" in said.gain
    assert "train.batch_size: 256 needs 41.0 GiB" in said.todo


def test_the_changed_profile_passes_the_check(healthy, tmp_path, capsys):
    stretch(healthy, data_wait_share=0.6)
    out = tmp_path / "better.yaml"
    assert run_command("advise", [str(healthy.path), "--only", "waiting-for-data", "--apply", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [said["rule"] for said in found["advice"]] == ["waiting-for-data"]
    assert yaml.safe_load(out.read_text())["data"]["cache"] == "ram"
    assert run_command("check", [str(out), "--no-memory"]) == 0


def test_an_unknown_rule_is_refused_with_the_names_of_all(healthy, capsys):
    assert run_command("advise", [str(healthy.path), "--only", "magic"]) == 2
    assert "there is no rule 'magic'; the rules are gpu-out-of-memory" in capsys.readouterr().err


def test_what_the_profiler_recorded_is_printed_and_on_the_page(healthy, capsys):
    assert run_command("trace", [str(healthy.path)]) == 2
    assert "this run has recorded no steps; start a run with train.profile_steps" in capsys.readouterr().err
    tell(healthy, NotTraced(first_step=100, last_step=110, reason="this attempt began after step 500"))
    assert run_command("trace", [str(healthy.path)]) == 2
    assert "there is none: no trace of steps 100 to 110" in capsys.readouterr().err
    assert 'id="trace"' not in write_report(healthy).read_text()
    plant_of("host", healthy)
    assert run_command("trace", [str(healthy.path)]) == 0
    shown = capsys.readouterr().out
    assert "Steps 10 to 19 on rank 0 (NVIDIA H100): 10 ms a step" in shown
    assert "time of the host: backward 50 %, forward 40 %, waiting for the next batch 1.0 %" in shown
    page = write_report(healthy).read_text()
    assert 'id="trace"' in page
    assert "the GPU computed or copied 40 % of the time" in page
    assert run_command("trace", [str(healthy.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["traces"][0]["device"]["idle_share"] == 0.6


def test_report_and_status_show_the_advice_of_a_failed_run(healthy, capsys):
    plant_of("gpu-memory", healthy)
    page = write_report(healthy).read_text()
    assert 'id="advice"' in page
    assert "train.accumulation: 2" in page
    assert run_command("status", [str(healthy.path)]) == 0
    assert "advice          gpu-out-of-memory: " in capsys.readouterr().out


def test_damaged_records_give_no_error(healthy):
    set_keys(healthy, train__learning_rate="fast")
    tell(healthy, Diverged(quantity=None, objects=None, batch=None), Started.from_record({}))
    healthy.bad_nodes.write_bytes(b"\xff\t\n1\t2\n")
    (healthy.attempts / "ended.tsv").write_text("x\n")
    assert "diverged" in rules_for(healthy)
