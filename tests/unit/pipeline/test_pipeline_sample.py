"""A pipeline has a small variant of itself, to try it at each commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctrain.cli import main
from hpctrain.errors import ProfileError
from hpctrain.pipeline.file import read_pipeline

PROFILE = """\
name: forest
launch: {nodes: 2, gpus_per_node: 4}
data: {files: [galaxies.h5], features: [g, r]}
model: {family: trees, labels: [{column: z, kind: value}]}
"""
PIPELINE = """\
name: weekly
stages:
  - {name: copy, run: "cp raw.txt {out}", inputs: [raw.txt]}
  - {name: train, profile: forest.yaml, set: ['data.files=["{copy}/data.h5"]']}
  - {name: gate}
  - {name: register, model: photoz}
"""
SAMPLE = """\
sample:
  copy: {run: "cp small.txt {out}", inputs: [small.txt]}
  train: {set: [model.trees=10]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "forest.yaml").write_text(PROFILE)
    (tmp_path / "small.txt").write_text("small")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sample_has_its_own_inputs_and_folder_trains_on_cpus_and_registers_nothing(folder):
    (folder / "weekly.yaml").write_text(PIPELINE + SAMPLE)
    whole, small = read_pipeline("weekly.yaml"), read_pipeline("weekly.yaml", sample=True)
    assert (whole.name, small.name) == ("weekly", "weekly-sample")
    assert small.stage("copy").inputs == [str(folder / "small.txt")]
    assert whole.stage("copy").inputs == [str(folder / "raw.txt")]
    assert small.stage("train").set == [
        'data.files=["{copy}/data.h5"]',
        "launch.nodes=1",
        "launch.gpus_per_node=0",
        "model.trees=10",
    ]
    assert [stage.name for stage in small.stages if stage.skip] == ["gate", "register"]
    assert [stage.name for stage in whole.stages if stage.skip] == []
    assert small.launch.cluster == "local"


def test_a_gate_is_in_the_sample_if_that_is_asked_for(folder):
    (folder / "weekly.yaml").write_text(PIPELINE + SAMPLE + "  gate: {skip: false}\n")
    assert not read_pipeline("weekly.yaml", sample=True).stage("gate").skip


def test_the_name_of_a_long_pipeline_stays_a_name(folder):
    (folder / "weekly.yaml").write_text(PIPELINE.replace("weekly", "w" * 64) + SAMPLE)
    assert len(read_pipeline("weekly.yaml", sample=True).name) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample: {trian: {skip: true}}\n", "line 7: sample.trian: there is no stage 'trian'; did you mean 'train'?"),
        ("sample: {copy: {set: [a=1]}}\n", "line 7: sample.copy: set has no meaning for a stage of the kind command"),
        ("sample: {copy: {input: [a]}}\n", "line 7: sample.copy.input: unknown key; did you mean 'inputs'"),
        ("sample: {copy: {run: 'ls {traim}'}}\n", "with --sample: copy names {traim}"),
        ("sample: {train: {set: [model.trees=-1]}}\n", "with --sample: forest.yaml: --set: model.trees: "),
    ],
)
def test_a_wrong_sample_is_found_before_it_is_used(folder, text, message):
    (folder / "weekly.yaml").write_text(PIPELINE + text)
    with pytest.raises(ProfileError) as caught:
        read_pipeline("weekly.yaml")
    assert message in str(caught.value)


def test_a_pipeline_without_a_sample_says_what_is_missing(folder, capsys):
    (folder / "weekly.yaml").write_text(PIPELINE)
    assert main(["pipeline", "weekly.yaml", "--sample"]) == 2
    assert "sample: is missing: for each stage that reads files" in capsys.readouterr().err
