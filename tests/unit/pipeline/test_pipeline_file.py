"""A message lists all errors of a wrong pipeline file with their lines; a right file has the commands of its stages."""

from __future__ import annotations

import pytest

from hpctrain.cli import main
from hpctrain.errors import ProfileError
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.kinds import commands_of, needs_of, waits_for

GOOD = """\
name: weekly
stages:
  - {name: ingest, source: sdss, inputs: ["raw/*.fits"]}
  - {name: clean, run: "cp {ingest}/data.h5 {out}/clean.h5"}
  - {name: train, profile: forest.yaml, set: ['data.files=["{clean}/clean.h5"]']}
  - {name: evaluate}
  - {name: gate}
  - {name: register, model: photoz, alias: candidate}
  - {name: log, to: mlflow}
"""
PROFILE = """\
name: forest
launch: {gpus_per_node: 0}
data: {files: [galaxies.h5], features: [g, r]}
model: {family: trees, labels: [{column: z, kind: value}]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "forest.yaml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(text):
    with open("wrong.yaml", "w") as file:
        file.write(text)
    with pytest.raises(ProfileError) as caught:
        read_pipeline("wrong.yaml")
    return str(caught.value)


def test_each_stage_has_its_command_and_needs_what_it_names(folder):
    (folder / "good.yaml").write_text(GOOD)
    section = read_pipeline("good.yaml")
    commands = {stage.name: commands_of(section, stage) for stage in section.stages}
    assert commands["ingest"] == [["hpctrain", "ingest", "sdss", str(folder / "raw/*.fits"), "--out", "{out}/data.h5"]]
    assert commands["evaluate"][0][:3] == ["hpctrain", "validate", "{train}"]
    assert commands["register"] == [
        ["hpctrain", "registry", "add", "{train}", "--name", "photoz", "--alias", "candidate"]
    ]
    assert commands["log"] == [["hpctrain", "track", "{train}", "--to", "mlflow"]]
    needs = {stage.name: needs_of(section, stage) for stage in section.stages}
    assert needs["train"] == ["clean"]
    assert needs["gate"] == ["train"]
    assert waits_for(section, section.stage("register")) == ["train", "gate"]


def test_a_skipped_stage_hands_on_what_it_needs(folder):
    (folder / "good.yaml").write_text(
        GOOD.replace("{out}/clean.h5", "{out}/clean.h5").replace('clean.h5"}', 'clean.h5", skip: true}')
    )
    section = read_pipeline("good.yaml")
    assert needs_of(section, section.stage("train")) == ["ingest"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("inputs: ", "input: "), "line 3: stages.0.input: unknown key; did you mean 'inputs'"),
        (GOOD.replace("{clean}", "{cleen}"), "line 5: stages.2: train names {cleen}, and no stage before it"),
        (GOOD.replace("source: sdss, ", ""), "line 3: stages.0: a stage of the kind ingest needs source"),
        (GOOD.replace("forest.yaml", "tree.yaml"), "line 5: stages.2.profile: tree.yaml"),
        (GOOD.replace("name: clean", "name: ingest"), "two stages have the name ingest"),
        (GOOD.replace(", to: mlflow", ""), "line 9: stages.6: a stage of the kind log needs to"),
        (GOOD.replace("gate}", "gate, model: x}"), "line 7: stages.4: model has no meaning for a stage"),
        ("name: w\nstages: [{name: gate}]\n", "line 2: stages.0: gate needs a stage before it that trains"),
        ("name: w\nstages: [{name: a, run: ls, needs: [b]}]\n", "a needs b, and no stage before it has this name"),
        ("name: w\nstages: [{name: new, data: a.h5, model: x}]\n", "new needs a stage after it that trains"),
        (GOOD.replace("gate}", "challenge, frozen: [a.h5]}"), "a stage of the kind challenge needs newest"),
        (GOOD.replace("gate}", "gate, start: registry:x}"), "start has no meaning for a stage of the kind gate"),
        (GOOD.replace("profile: forest.yaml,", "profile: forest.yaml, replay: {share: 2},"), "stages.2.replay.share"),
        ("name: w\n", "stages: is missing"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_what_is_wrong_and_where(text, message):
    assert message in problems(text)


def test_a_split_without_commands_looks_for_leaks_in_what_is_trained_next(folder):
    text = GOOD.replace("  - {name: train", "  - {name: split}\n  - {name: train")
    (folder / "good.yaml").write_text(text)
    section = read_pipeline("good.yaml")
    audit = ["hpctrain", "audit", str(folder / "forest.yaml"), "--set", 'data.files=["{clean}/clean.h5"]']
    assert commands_of(section, section.stage("split")) == [audit]
    assert needs_of(section, section.stage("split")) == ["clean"]
    assert "split without run needs a stage after it" in problems(GOOD + "  - {name: split}\n")
    assert "validate.* has no effect here" in problems(GOOD.replace("set: [", "set: [validate.draws=9, "))


def test_a_profile_is_checked_before_a_stage_runs(folder):
    (folder / "forest.yaml").write_text(PROFILE + "validate: {gates: [{metric: z.nmat, below: 0.1}]}\n")
    said = problems(GOOD)
    assert "line 5: stages.2.profile: forest.yaml: line 5: validate.gates.0.metric: z has no metric nmat" in said
    assert "galaxies.h5" not in said, "the data come from another stage"
    assert "data.files" in problems(GOOD.replace(""", set: ['data.files=["{clean}/clean.h5"]']""", ""))


def test_profiles_are_found_beside_the_pipeline_file(folder, monkeypatch):
    (folder / "good.yaml").write_text(GOOD)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    section = read_pipeline("../good.yaml")
    assert section.stage("train").profile == str(folder / "forest.yaml")
    assert section.stage("ingest").inputs == [str(folder / "elsewhere/raw/*.fits")]


def test_options_of_commands_are_checked_before_a_stage_runs(folder, capsys):
    text = GOOD.replace("{name: evaluate}", "{name: evaluate, options: [--drows, '5']}")
    (folder / "good.yaml").write_text(text.replace("cp {ingest}/data.h5", "hpctrain repack {ingest}/data.h5"))
    assert main(["pipeline", "good.yaml"]) == 2
    said = capsys.readouterr().err
    assert "stages.1: clean: hpctrain repack '{ingest}/data.h5' '{out}/clean.h5': there is no such command" in said
    assert "unrecognized arguments: --drows 5" in said
    assert not (folder / "pipelines").exists()


def test_a_dry_run_prints_the_commands_and_writes_nothing(folder, capsys):
    (folder / "good.yaml").write_text(GOOD)
    before = sorted(folder.rglob("*"))
    assert main(["pipeline", "good.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "train (train), after clean" in said
    assert "hpctrain registry add '{train}' --name photoz --alias candidate" in said
    assert sorted(folder.rglob("*")) == before
