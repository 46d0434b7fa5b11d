"""Ten weeks of a survey that drifts, with a bad night and a week of wrong labels: what is in service, and why."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.nights import galaxies, write_night
from hpctrain.cli import main
from hpctrain.pipeline.folder import PipelineDir, find_pipeline
from hpctrain.registry.aliases import history_of
from hpctrain.registry.folder import Registry

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "continuous-training.md"
NUM = 400


@pytest.fixture
def survey(tmp_path, monkeypatch, warm_python):
    """A folder with the example of the documentation, smaller, and what data of the survey must be like."""
    monkeypatch.chdir(tmp_path)
    Path("nights").mkdir()
    forest, weekly = example()
    forest["model"] |= {"trees": 10, "min_leaf": 5}
    forest["train"], forest["validate"]["draws"] = {"batch_size": 4096}, 100
    stages = {stage["name"]: stage for stage in weekly["stages"]}
    drift = {"distance": 0.2, "psi": 0.5, "enough": 350}
    stages["new"] |= {"expectations": "expectations.yaml", "drift": drift}
    stages["challenge"]["options"] = ["--draws", "200"]
    Path("forest.yaml").write_text(yaml.safe_dump(forest))
    Path("weekly.yaml").write_text(yaml.safe_dump(weekly))
    parts = [galaxies(week, NUM, 100 + week) for week in range(13)]
    write_night(Path("good.h5"), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, 10**6)
    assert main(["data", "expect", "good.h5"]) == 0
    expected = yaml.safe_load(Path("expectations.yaml").read_text())
    expected |= {"drift": {"distance": 0.97, "psi": 8.0}, "rows": {"min": 50}}
    Path("expectations.yaml").write_text(yaml.safe_dump(expected))


def example() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the profile and the pipeline of the documentation."""
    blocks = re.split(r"\n(?! {4}|\n)", DOCUMENT.read_text())
    found = [textwrap.dedent(each[each.index("\n    ") :]) for each in blocks if "\n    name: " in each]
    forest, weekly = map(yaml.safe_load, found)
    return forest, weekly


def night(week: int, columns: dict[str, np.ndarray] | None = None) -> Path:
    """Write the night of a week."""
    columns = galaxies(week, NUM, week) if columns is None else columns
    return write_night(Path(f"nights/w{week:02d}.h5"), columns, 10_000 * week)


def call() -> int:
    """Call the pipeline as a schedule does."""
    return main(["pipeline", "weekly.yaml", "--if-changed"])


def newest() -> PipelineDir:
    return find_pipeline("weekly", Path("pipelines"))


def states() -> dict[str, str]:
    return {stage.name: newest().stage(stage.name).read_state().state for stage in newest().section().stages}


def champions() -> list[int]:
    """Return the numbers of the versions that have been in service, in their order."""
    return [move.to for move in history_of(Registry("registry").model("photoz"), "champion")]


@pytest.mark.slow
def test_ten_weeks_with_a_drift_and_a_bad_night_leave_the_right_model_in_service(survey, capsys):
    night(1)
    assert call() == 0
    assert champions() == [1]

    night(2, galaxies(2, 60, 2))  # too few objects: nothing is done until there are more
    assert call() == 0
    assert states() == {"new": "done", **dict.fromkeys(list(states())[1:], "not needed")}
    capsys.readouterr()
    assert call() == 0
    assert "nothing has changed" in capsys.readouterr().out

    night(3)  # both weeks together are enough, and the version in service has not seen such distances
    assert call() == 0
    assert champions() == [1, 2]
    assert json.loads(result_of("new", "new.json").read_text())["objects"] == 60 + NUM

    bad = night(4, {name: values + 4.0 * (name != "z") for name, values in galaxies(4, NUM, 4).items()})
    assert call() == 7
    assert states()["validate"] == "gate failed"
    assert call() == 0, "it is not tried again before something changes"
    bad.rename("rejected.h5")

    wrong = galaxies(5, NUM, 5)
    week_5 = night(5, {**wrong, "z": np.random.default_rng(5).permutation(wrong["z"])})
    assert call() == 7
    assert (states()["train"], states()["challenge"], champions()) == ("done", "gate failed", [1, 2])
    week_5.unlink()

    night(7, a_mixture_of(1, 2, 3, num=200))  # as the data of the version in service: nothing to be learned
    capsys.readouterr()
    assert call() == 0
    assert "200 good new objects since photoz:2, no drift" in capsys.readouterr().out
    assert call() == 0  # in weeks 8 and 9 it was cloudy
    night(10, galaxies(8, NUM, 10))
    assert call() == 0
    assert champions() == [1, 2, 4]
    every_number_is_traceable(capsys)
    assert main(["registry", "rollback", "photoz", "--why", "it looks odd"]) == 0
    assert call() == 0
    assert main(["pipeline", "weekly.yaml"]) == 0
    assert champions() == [1, 2, 4, 2], "what was rolled back stays so"
    night(11, galaxies(11, 50, 11))
    assert call() == 0
    assert json.loads(result_of("new", "new.json").read_text())["objects"] == 200 + NUM + 50, "they are new again"


def result_of(stage: str, name: str) -> Path:
    directory = newest().stage(stage)
    return directory.sealed(directory.read_state().key) / "out" / name


def a_mixture_of(*weeks: int, num: int) -> dict[str, np.ndarray]:
    """Return other objects of these weeks, as many of each night as it has objects in all."""
    parts = [galaxies(week, (60 if week == 2 else NUM), 50 + week) for week in weeks]
    rows = np.random.default_rng(8).permutation(sum(len(part["z"]) for part in parts))[:num]
    return {name: np.concatenate([part[name] for part in parts])[rows] for name in parts[0]}


def every_number_is_traceable(capsys) -> None:
    """From the version in service back to its nights, to the tests that it has passed, and to who promoted it."""
    model = Registry("registry").model("photoz")
    assert json.loads((model.path / "frozen.json").read_text())["files"].keys() == {
        str(Path("nights/w01.h5").absolute())
    }
    move = history_of(model, "champion")[-1].facts
    assert "better than photoz:2: " in move["why"]
    assert "frozen test set SHA-256" in move["why"]
    stage = newest().stage("train")
    began = stage.read_result(stage.read_state().key)["began"]
    assert began["replay"] == {"share": 1.0, "seen": 2 * NUM + 60}
    assert [Path(path).name for path in began["files"]] == [f"w{week:02d}.h5" for week in (7, 10, 1, 2, 3)]
    assert main(["audit-trail", "verify"]) == 0
    assert main(["registry", "verify"]) == 0
    capsys.readouterr()
    for name, versions in (("w04.h5", []), ("w03.h5", ["photoz:2", "photoz:3", "photoz:4"])):
        assert main(["registry", "lineage", "--file", name, "--json"]) == 0
        assert [each["version"] for each in json.loads(capsys.readouterr().out)] == versions
