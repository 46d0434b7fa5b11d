"""What a profile will cost, by an earlier run or by the work of a step; the cheapest place; budgets."""

from __future__ import annotations

import io
import sys

import pytest
from made_runs import BEGAN, end, interrupted_run, make_run, train, values, write_site

from hpctrain.commands.submit import Wanted, within_budget
from hpctrain.cost.budget import check_budget
from hpctrain.cost.choices import choices
from hpctrain.cost.choices import lines_of as choice_lines
from hpctrain.cost.estimate import estimate, estimate_from_here, lines_of
from hpctrain.errors import ProfileError
from hpctrain.profile.check import check_profile
from hpctrain.profile.judge import Findings
from hpctrain.profile.load import load_profile
from hpctrain.profile.memory import Measurement
from hpctrain.profile.site import load_site


def judged(folder, overrides=(), measurement=None, **launch) -> Findings:
    found = check_profile(values(folder, **launch), overrides, memory=False)
    found.measurement = measurement
    return found


def measurement(**facts) -> Measurement:
    sizes = {"fixed_gib": 1.0, "per_sample_gib": 0.1, "floor_gib": 1.0, "weights_gib": 0.1, "num_parameters": 10**7}
    work = {"flop_per_sample": 5e9, "made_bytes_per_sample": 1e8, "kernels_per_pass": 500.0}
    known = {"bytes_per_sample": 1000, "facts_from": "the data", "num_samples": 7000, "num_train": 6400}
    return Measurement(**{**sizes, **known, **work, **facts})


def earlier_run(folder, number=1, **launch):
    run = make_run(folder, number, **launch)
    end(run, 1, train(run, 1, BEGAN, range(100), 2.0), 0, "finished")
    return run


def test_an_earlier_run_of_the_same_shape_tells_hours_price_and_finish(folder):
    run = earlier_run(folder)
    found = estimate_from_here(judged(folder))
    assert (found.steps, found.is_rough) == (250, False), "10 epochs of 6,400 samples in batches of 256"
    assert found.step_s == pytest.approx(2.0)
    assert found.hours == pytest.approx((250 * 2.0 + 60) / 3600)
    assert found.money == pytest.approx(found.hours * 8.0)
    assert found.finish.wait_s == 3600.0, "as long as the earlier run waited"
    text = "\n".join(lines_of(found))
    assert f"as in tiny/{run.run_id}" in text
    assert "(prices of 2026-11-01)" in text


def test_all_nodes_of_the_job_are_counted(folder):
    earlier_run(folder, nodes=2)
    found = estimate_from_here(judged(folder, nodes=2))
    assert (found.machine.nodes, found.machine.gpus, found.machine.cores) == (2, 8, 64)
    assert found.money == pytest.approx(found.hours * 16.0)


@pytest.mark.parametrize(
    "override", ["train.batch_size=32", "model.latent_size=9", "launch.partition=small", "train.precision=bf16"]
)
def test_a_run_of_another_shape_tells_nothing(folder, override):
    earlier_run(folder)
    assert estimate_from_here(judged(folder, [override])) is None


def test_longer_training_and_other_files_are_the_same_shape(folder):
    earlier_run(folder)
    assert estimate_from_here(judged(folder, ["train.epochs=20"])).steps == 500
    (folder / "more.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    others = judged(folder, ["data.files=[more.h5]"], measurement(num_train=12800))
    found = estimate_from_here(others)
    assert found.steps == 500
    assert found.source.endswith("which read other files")


def test_a_run_that_is_longer_than_its_time_limit_waits_again(folder):
    earlier_run(folder)
    found = estimate_from_here(judged(folder, ["train.epochs=200"], time_limit="01:00:00"))
    assert found.finish.attempts == 3, "10,000 s of steps in attempts of an hour, less the start and the warning"
    assert found.finish.left_s == 10000.0 + 3 * (3600.0 + 60.0 + 180.0)


def test_without_an_earlier_run_the_work_of_a_step_gives_an_estimate_with_its_doubt(folder):
    found = estimate_from_here(judged(folder, ["platform=a100-40"], measurement()))
    assert found.is_rough
    assert "the truth may be 2 times less or more" in "\n".join(lines_of(found))
    assert estimate_from_here(judged(folder, (), measurement(made_bytes_per_sample=0.0))) is None
    assert estimate_from_here(judged(folder)) is None


def test_the_cheapest_place_comes_first_and_others_say_why_not(folder):
    found = judged(folder, ["train.precision=bf16"], measurement())
    listed = choices(found, estimate_from_here(found))
    fits = [each for each in listed if not each.reason]
    assert {each.name for each in fits} == {"ml.g5.xlarge", "gpu", "cpu"}
    assert [each.money for each in fits] == sorted(each.money for each in fits)
    assert next(each for each in listed if each.name == "small").reason == "no bf16"
    lines = choice_lines(listed, estimate_from_here(found), "EUR")
    assert lines[0].startswith(f"cheapest: {fits[0].name} ({fits[0].platform})")
    assert lines[1] == "not on small: no bf16"


def test_a_place_whose_speed_is_not_known_gets_no_price(folder):
    earlier_run(folder)
    found = judged(folder, (), measurement(made_bytes_per_sample=0.0))
    listed = choices(found, estimate_from_here(found))
    assert [each.name for each in listed if each.money is not None] == ["gpu"]


def test_a_smaller_card_takes_a_smaller_batch_or_is_refused(folder):
    found = judged(folder, (), measurement(per_sample_gib=0.3))
    small = next(each for each in choices(found, estimate_from_here(found)) if each.name == "small")
    assert small.batch == "batch_size 32, accumulation 2"
    found.measurement = measurement(per_sample_gib=20.0)
    small = next(each for each in choices(found, estimate_from_here(found)) if each.name == "small")
    assert "of 14.6 GiB even for a batch of 1" in small.reason


def test_without_prices_memory_and_precision_are_judged_for_all_gpus(folder):
    write_site(folder, "partitions: {gpu: {}}\n")
    found = judged(folder, ["train.precision=bf16"], measurement(per_sample_gib=0.3))
    lines = choice_lines(choices(found, None), None)
    assert lines[0].startswith("memory and precision fit a100-40, a100-80, h100")
    assert "v100-32, v100, t4: no bf16" in lines[1]


@pytest.mark.parametrize("key", ["gpu_hours", "money"])
def test_a_submission_over_its_budget_is_refused(folder, key):
    earlier_run(folder)
    check_budget([judged(folder, [f"launch.budget.{key}=100"])])
    with pytest.raises(ProfileError) as caught:
        check_budget([judged(folder, [f"launch.budget.{key}=0.5"])])
    assert caught.value.exit_code == 2
    assert f"launch.budget.{key}: allows 0.5" in str(caught.value)


def test_the_runs_of_an_array_share_the_budget_and_the_site_has_one_too(folder):
    earlier_run(folder)
    tasks = [judged(folder, ["launch.budget.gpu_hours=1"])] * 2
    check_budget(tasks[:1])
    with pytest.raises(ProfileError, match=r"launch\.budget\.gpu_hours"):
        check_budget(tasks)
    write_site(folder, "partitions: {gpu: {platform: a100-40}}\ndefault_partition: gpu\nbudget: {gpu_hours: 0.5}\n")
    with pytest.raises(ProfileError, match=r"budget of here\.yaml\.gpu_hours"):
        check_budget([judged(folder)])


def test_what_a_run_has_used_counts_when_it_goes_on(folder):
    run = interrupted_run(folder)
    found = judged(folder, ["launch.budget.gpu_hours=5"])
    check_budget([found], None, 240)
    with pytest.raises(ProfileError, match=r"4\.\d+ used so far"):
        check_budget([found], run, 240)


def test_a_budget_that_cannot_be_checked_is_a_warning(folder, capsys):
    check_budget([judged(folder, ["launch.budget.gpu_hours=5"])])
    assert "launch.budget: gpu_hours 5 cannot be checked" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A terminal on which somebody has typed."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("typed", "goes_on"), [("y\n", True), ("\n", False), ("", False)])
def test_a_budget_may_ask_on_a_terminal(folder, monkeypatch, capsys, typed, goes_on):
    earlier_run(folder)
    wanted, found = Wanted("tiny.yaml", [[]]), [judged(folder, ["launch.budget={gpu_hours: 0.5, if_over: ask}"])]
    within_budget(wanted, found, may_ask=False)
    assert "warning: launch.budget.gpu_hours" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    if goes_on:
        within_budget(wanted, found, may_ask=True)
    else:
        with pytest.raises(ProfileError):
            within_budget(wanted, found, may_ask=True)
    assert "Start it all the same? [y/N]" in capsys.readouterr().err


def test_a_queue_that_knows_no_waits_is_not_asked_where_there_is_none(folder):
    earlier_run(folder)
    profile = load_profile(values(folder))
    found = estimate(Findings("x", profile, site=load_site("here")), has_queue=False)
    assert (found.finish.attempts, found.finish.wait_s) == (1, 0.0)
