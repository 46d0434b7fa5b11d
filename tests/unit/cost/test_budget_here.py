"""``hpctrain local`` keeps to the budgets of its profile and of the site that the profile names."""

from __future__ import annotations

import pytest
import yaml
from made_runs import BEGAN, end, make_run, train, values, write_site

from hpctrain.cli import run_command
from hpctrain.commands.local import within_budget_here
from hpctrain.commands.submit import Wanted
from hpctrain.errors import ProfileError
from hpctrain.launch.submit import with_global_batch
from hpctrain.profile.check import check_profile
from hpctrain.profile.load import dump_profile, load_profile
from hpctrain.profile.schema import Profile

GPU = "platform=a100-40"
HERE = {"cluster": "local", "site": None, "gpus_per_node": 1}
SITE = "partitions: {gpu: {platform: a100-40}}\ndefault_partition: gpu\n"
PRICES = "prices: {date: 2026-11-01, partitions: {gpu: {gpu_hour: 2}}}\n"


def ran_here(folder, profile: Profile) -> None:
    """Let a run in the foreground do 100 steps of five seconds each; its profile has 250."""
    run = make_run(folder, len(list(folder.glob("runs/tiny/*"))) + 1, **HERE)
    run.profile.write_text(dump_profile(profile))
    end(run, 1, train(run, 1, BEGAN, range(100), 5.0), 0, "finished")


@pytest.fixture
def profile(folder):
    """A profile for four GPUs of a cluster that has run here, on one."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**values(folder), "platform": "a100-40"}))
    here = load_profile({**values(folder, **HERE), "platform": "a100-40"})
    ran_here(folder, with_global_batch(here, 256, "tiny.yaml"))
    return path


def starts(profile, *changes: str) -> int:
    return run_command("local", [str(profile), "--no-memory", "--set", *changes])


def runs(folder) -> list[str]:
    return sorted(path.name for path in (folder / "runs/tiny").iterdir())


def test_a_run_over_the_budget_of_its_profile_is_refused_before_anything_is_written(profile, folder, capsys):
    before = runs(folder)
    assert starts(profile, "launch.budget.gpu_hours=0.3") == 2
    said = capsys.readouterr().err
    assert "launch.budget.gpu_hours: allows 0.3 GPU h, but about 0.364 to come" in said, "250 steps of 5 s on one GPU"
    assert runs(folder) == before


def test_a_run_over_the_budget_of_the_site_that_its_profile_names_is_refused(profile, folder, capsys):
    write_site(folder, f"{SITE}budget: {{gpu_hours: 0.3}}\n")
    assert starts(profile, "launch.nodes=1") == 2
    assert "budget of here.yaml.gpu_hours" in capsys.readouterr().err


def test_a_budget_that_asks_is_refused_without_a_terminal(profile, capsys):
    assert starts(profile, "launch.budget={gpu_hours: 0.3, if_over: ask}") == 2
    assert "allows 0.3 GPU h" in capsys.readouterr().err


def checked(folder, *changes: str, site: str | None = "here", **train: object) -> None:
    text = {**values(folder, **HERE), "train": {"batch_size": 256, "epochs": 10, **train}}
    ran_here(folder, load_profile(text, changes))
    found = check_profile(text, changes, memory=False)
    within_budget_here(Wanted("tiny.yaml", [list(changes)]), found, site, memory=False)


def test_money_is_a_warning_because_a_site_has_prices_of_its_own_machines_only(folder, capsys):
    write_site(folder, SITE + PRICES)
    checked(folder, GPU, "launch.budget={money: 0.01}")
    assert "launch.budget: money 0.01 cannot be checked" in capsys.readouterr().err


def test_a_machine_that_uses_no_gpu_needs_no_gpu_hours(folder, capsys):
    write_site(folder, f"{SITE}budget: {{gpu_hours: 0.001}}\n")
    checked(folder, device="cpu")
    assert not capsys.readouterr().err
    with pytest.raises(ProfileError, match=r"allows 0\.001 GPU h"):
        checked(folder, GPU)


def test_a_site_whose_file_is_not_here_is_a_warning(folder, capsys):
    checked(folder, site="elsewhere")
    assert capsys.readouterr().err == "warning: there is no site 'elsewhere' here, so that no budget of it is known\n"
