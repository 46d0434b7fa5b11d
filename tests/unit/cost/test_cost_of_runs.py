"""What runs have cost: hours, energy, money, what faults and idle GPUs cost, of one run and of many."""

from __future__ import annotations

import json

import pytest
from made_runs import BEGAN, HOUR, begin, end, interrupted_run, make_run, record, train, write_site

from hpctrain.cli import main
from hpctrain.cost.show import lines_of_run, size_of, spot_of
from hpctrain.cost.spent import cost_of_run
from hpctrain.cost.sums import Cost, total
from hpctrain.rundir import RunDir
from hpctrain.search.folder import StudyDir, write_study
from hpctrain.search.section import StudySection


def test_each_attempt_has_its_hours_money_energy_and_co2(folder):
    first, second = (each.cost for each in cost_of_run(interrupted_run(folder)).attempts)
    assert first.seconds == pytest.approx(60 + 39 * 60 + 60), "it lasted until the batch script noticed its end"
    assert first.gpu_h == pytest.approx(4 * first.seconds / HOUR)
    assert first.node_h == pytest.approx(first.seconds / HOUR)
    assert first.cpu_h == pytest.approx(32 * first.node_h), "8 cores for each of 4 ranks"
    assert first.money == {"EUR": pytest.approx(2.0 * first.gpu_h)}
    assert first.measured_kwh == pytest.approx(0.9)
    assert first.co2_kg == pytest.approx(0.9 * 0.4)
    assert (first.estimated_kwh, second.attempts) == (0.0, 1)


def test_a_fault_costs_the_steps_that_are_repeated_and_the_next_start(folder):
    first, second = (each.cost for each in cost_of_run(interrupted_run(folder)).attempts)
    assert first.repeated_s == pytest.approx(10 * 60 + 60), "ten steps, and the minute until the end was noticed"
    assert (first.restart_s, second.repeated_s) == (0.0, 0.0)
    assert second.restart_s == 60.0
    assert second.lost_money == {"EUR": pytest.approx(60 / HOUR * 4 * 2.0)}


def test_an_attempt_without_a_step_is_lost_as_a_whole(folder):
    run = interrupted_run(folder)
    begin(run, 3, BEGAN + 9 * HOUR)
    end(run, 3, BEGAN + 9 * HOUR + 300, 77, "requeued")
    assert cost_of_run(run).attempts[2].cost.restart_s == 300.0


def test_idle_gpus_count_while_they_were_measured(folder):
    whole = cost_of_run(interrupted_run(folder)).total
    assert whole.watched_gpu_h == pytest.approx(2 * 4 * 0.5)
    assert whole.idle_gpu_h == pytest.approx(0.69 * whole.watched_gpu_h)


def test_fewer_gpus_and_spot_machines_are_judged_by_what_the_run_measured(folder):
    found = cost_of_run(interrupted_run(folder))
    assert str(size_of(found)) == "4 GPUs at 31%: one would take about 1.3 x as long and cost 0.33 of it"
    spot = spot_of(found)
    assert spot.price_ratio == pytest.approx(0.4)
    assert spot.time_ratio == pytest.approx(1.0017, abs=1e-4), "exp(0.1 / h x 60 s)"
    assert any(line.startswith("spot machines would be cheaper") for line in lines_of_run(found))


def test_energy_without_a_sensor_is_an_estimate_and_marked(folder):
    run = make_run(folder)
    end(run, 1, train(run, 1, BEGAN, range(60), 60.0), 0, "finished")
    cost = cost_of_run(run).total
    assert cost.measured_kwh is None
    assert cost.estimated_kwh == pytest.approx(cost.node_h * (4 * 0.4 + 32 * 0.007)), "of an A100 and of a core"
    assert "~" in "\n".join(lines_of_run(cost_of_run(run)))


def test_each_attempt_has_the_machines_of_its_own_profile(folder):
    run = make_run(folder, partition="small")
    begin(run, 1, BEGAN)
    profile = {"launch": {"gpus_per_node": 2, "site": "here", "partition": "gpu", "cpus_per_rank": 1}}
    facts = {"attempt": 1, "started_at": BEGAN, "world_size": 2, "num_nodes": 1, "job_id": "1", "profile": profile}
    (run.attempts / "000001.json").write_text(json.dumps(facts))
    end(run, 1, BEGAN + HOUR, 75, "requeued")
    (attempt,) = cost_of_run(run).attempts
    assert (attempt.machine.gpus, attempt.machine.platform) == (2, "a100-40")
    assert attempt.cost.money == {"EUR": pytest.approx(4.0)}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("carbon_g_per_kwh: 400\n", "no price: here.yaml has no prices"),
        ("prices: {date: 2026-11-01}\n", "no price: prices in here.yaml have no entry for no partition"),
    ],
)
def test_what_the_site_does_not_say_is_named(folder, text, note):
    run = interrupted_run(folder)
    write_site(folder, text)
    found = cost_of_run(run)
    assert note in found.notes
    assert found.total.money == {}


def test_damaged_and_empty_runs_cost_nothing_and_are_no_error(folder):
    run = RunDir.create(folder / "runs", "odd", "20261126-120000-0001")
    run.profile.write_text("launch: [\n")
    run.metrics.write_bytes(b"\xff\x00{]\n")
    assert cost_of_run(run).total == Cost()


def test_sums_keep_what_is_known():
    one, other = Cost(measured_kwh=1.0, money={"EUR": 1.0}), Cost(money={"EUR": 1.0, "USD": 3.0})
    assert total([one, other]) == Cost(measured_kwh=1.0, money={"EUR": 2.0, "USD": 3.0})


def test_the_command_prints_attempts_and_total(folder, capsys):
    run = interrupted_run(folder)
    assert main(["cost", "tiny"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[:4]] == ["attempt", "1", "2", "total"]
    assert "lost to faults: 12m00s" in said
    assert "prices of 2026-11-01 (here.yaml)" in said
    assert main(["cost", str(run.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["right_size"]["gpus"] == 1
    assert told["total"]["gpu_h"] == pytest.approx(sum(each["gpu_h"] for each in told["attempts"]))


def test_since_a_day_all_runs_and_studies_count_without_older_attempts(folder, capsys):
    interrupted_run(folder)
    study = StudyDir(folder / "runs" / "hunt" / "20261126-140000-bbbb")
    study.path.mkdir(parents=True)
    section = {"name": "hunt", "base": "b.yaml", "space": {"a.b": [1, 2]}, "trials": 2}
    write_study(study, StudySection.model_validate(section))
    trial = study.trial(0)
    trial.make_folders()
    trial.profile.write_text(next((folder / "runs/tiny").glob("2*/profile.yaml")).read_text())
    begin(trial, 1, BEGAN + 365 * 86400)
    end(trial, 1, BEGAN + 365 * 86400 + HOUR, 0, "finished")
    assert main(["cost", "--since", "2020-01-01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name.split("/")[0] for name in told["parts"]} == {"tiny", "hunt"}
    assert main(["cost", "--since", "2027-01-01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["parts"]) == ["hunt/20261126-140000-bbbb/0"]
    assert told["total"]["money"] == {"EUR": pytest.approx(8.0)}
    assert main(["cost", "hunt"]) == 0
    assert "hunt/20261126-140000-bbbb/0" in capsys.readouterr().out


def test_an_unknown_name_and_a_wrong_day_are_errors_of_the_user(folder, capsys):
    interrupted_run(folder)
    assert main(["cost", "tinny"]) == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cost", "--since", "yesterday"])
    assert "is not a day" in capsys.readouterr().err


def test_a_run_that_is_at_work_costs_up_to_now(folder):
    run = make_run(folder)
    last = train(run, 1, BEGAN, range(10), 60.0)
    beat = {"rank": 0, "attempt": 1, "state": "training", "time": last + 5, "interval_s": 10.0, "step": 10}
    run.heartbeat(0).parent.mkdir(exist_ok=True)
    run.heartbeat(0).write_text(json.dumps(beat))
    record(run, "monitor", 10, last, 1)
    assert cost_of_run(run, now=last + 7).total.seconds == pytest.approx(last + 7 - BEGAN)
