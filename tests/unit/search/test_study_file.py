"""A study file is checked like a profile: all problems at once, each with its line."""

from __future__ import annotations

import re

import pytest
import yaml
from families import TINY, profile_values

from hpctrain.cli import main
from hpctrain.errors import ProfileError
from hpctrain.search.study_file import check_study, read_study

GOOD = """\
name: searched
base: base.yaml
space:
  train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  model.latent_size: {low: 2, high: 8, step: 2}
trials: 6
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**values, "name": "base"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(folder, text):
    (folder / "study.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        check_study(read_study("study.yaml"), memory=False)
    return str(caught.value)


def test_a_good_study_is_good(folder):
    (folder / "study.yaml").write_text(GOOD)
    findings = check_study(read_study(folder / "study.yaml"), memory=False)
    assert findings.profile is not None


def test_all_problems_of_the_file_are_listed_with_their_lines(folder):
    said = problems(folder, GOOD.replace("trials: 6", "trials: 0\nparalel: 3\nsampler: {name: tpee}"))
    assert re.search(r"line 6: trials: .*1", said)
    assert re.search(r"line 7: paralel: .*parallel", said)
    assert re.search(r"line 8: sampler\.name: .*tpe", said)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "  train.learning_rat: {low: 1.0e-4, high: 1.0e-2}",
            r"line 6: space.*learning_rat: unknown key; did you mean 'learning_rate'",
        ),
        ("  model.dropout: {low: 0.1, high: 2.0}", r"line 6: space.*dropout.*2\.0"),
        ("  train.seed: [1, x]", r"line 6: space.*seed"),
        ("  model.dropout: {low: 0.1, high: 0.2, when: {model.latnt_size: 2}}", r"did you mean 'model\.latent_size'"),
        ("  model.dropout: {low: 0.1, high: 0.2, when: {model.latent_size: 2}}", "only choices can decide"),
        ("  launch.nodes: [1, 2]", "line 6: space.launch.nodes: belongs to the array as a whole"),
    ],
)
def test_a_key_that_cannot_vary_so_is_named_at_its_line(folder, line, message):
    said = problems(folder, GOOD.replace("trials:", f"{line}\ntrials:"))
    assert re.search(message, said), said


def test_a_grid_needs_values_to_count(folder):
    said = problems(folder, GOOD + "sampler: {name: grid}\n")
    assert "train.learning_rate has a continuous range" in said


def test_a_population_keeps_the_shape_of_its_model(folder):
    said = problems(folder, GOOD + "sampler: {name: pbt, population: 3}\n")
    assert "line 5: space.model.latent_size: cannot vary" in said


def test_several_objectives_cannot_be_pruned(folder):
    said = problems(folder, GOOD + "objectives: [{metric: loss}, {metric: gpu_hours}]\npruner: {name: median}\n")
    assert "several objectives cannot be pruned" in said


def test_a_problem_of_the_base_is_one_of_the_base(folder):
    (folder / "base.yaml").write_text((folder / "base.yaml").read_text().replace("epochs", "epocs"))
    assert "base.yaml" in problems(folder, GOOD)


def test_a_dry_run_writes_nothing_and_shows_five_trials(folder, capsys):
    (folder / "study.yaml").write_text(GOOD)
    before = sorted(folder.rglob("*"))
    assert main(["search", "study.yaml", "--dry-run", "--no-memory", "--cluster", "slurm"]) == 0
    said = capsys.readouterr().out
    assert "#SBATCH --array=0-5%4" in said
    assert "prepare=(" in said
    assert len(re.findall(r"^#   \d  train\.learning_rate=\S+  model\.latent_size=\d$", said, re.MULTILINE)) == 5
    assert sorted(folder.rglob("*")) == before


def test_values_of_the_file_can_be_set_on_the_command_line(folder):
    (folder / "study.yaml").write_text(GOOD)
    section = read_study("study.yaml", ["trials=9", "space.model.latent_size=[2, 4]", "sampler.name=random"]).section
    assert (section.trials, section.sampler.name) == (9, "random")
    assert section.space["model.latent_size"].choices == [2, 4]


@pytest.mark.parametrize(
    "words", [["search"], ["search", "best"], ["search", "best", "nothing"], ["search", "no.yaml"]]
)
def test_a_wrong_command_line_is_no_traceback(folder, capsys, words):
    assert main(words) in (2, 3)
    assert "Traceback" not in capsys.readouterr().err


def test_a_storage_that_is_no_url_is_refused_without_showing_it_and_a_file_is_relative_to_the_study(folder):
    message = problems(folder, GOOD + "storage: postgres//me:secret@db/x\n")
    assert "line 7: storage: is not the URL of a database" in message
    assert "secret" not in message
    (folder / "study.yaml").write_text(GOOD + "storage: sqlite:///copy.db\n")
    assert read_study("study.yaml").section.storage == f"sqlite:///{folder / 'copy.db'}"
