"""What orchestrators and forges get: files that name the stages in their order, and commands that run here too."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpctrain.cli import main
from hpctrain.pipeline.folder import find_pipeline

PROFILE = """\
name: forest
launch: {gpus_per_node: 4, cpus_per_rank: 6, memory_gib_per_node: 100}
data: {files: [far/away.h5], features: [g, r]}
model: {family: trees, labels: [{column: z, kind: value}]}
"""
PIPELINE = """\
name: weekly
description: Say "new", 'old' or {{other}}
launch: {cluster: local}
stages:
  - {name: ingest, run: "cp raw.txt {out}", inputs: [raw.txt], launch: {cpus: 2, memory_gib: 4}}
  - {name: not-now, run: ls, skip: true}
  - {name: train, profile: sub folder/forest.yaml, set: ['data.files=["{ingest}/data.h5"]', train.seed=3]}
  - {name: gate}
  - {name: look.at_it, run: "cp {ingest}/raw.txt {out}"}
"""
SAMPLE = """\
sample:
  ingest: {run: "cp small.txt {out}/raw.txt", inputs: [small.txt]}
  train: {skip: true}
"""
NEEDS = {"ingest": [], "train": ["ingest"], "gate": ["train"], "look.at_it": ["ingest", "gate"]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of a repository, with a pipeline."""
    here = tmp_path / "my work"
    (tmp_path / ".git").mkdir()
    (here / "sub folder").mkdir(parents=True)
    (here / "sub folder/forest.yaml").write_text(PROFILE)
    (here / "small.txt").write_text("small")
    (here / "weekly.yaml").write_text(PIPELINE + SAMPLE)
    monkeypatch.chdir(here)
    return here


def emitted(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["pipeline", "emit", *words]) == 0
    return capsys.readouterr().out


def values_of(text: str) -> dict[str, Any]:
    """Return what names stand for in a file of Python that we cannot import here."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                found[node.targets[0].id] = ast.unparse(node.value)
    return found


def test_a_dag_of_airflow_names_the_stages_their_order_and_this_python(folder, capsys):
    text = emitted(capsys, "airflow", "weekly.yaml", "--every", "1d")
    found = values_of(text)
    assert found["NEEDS"] == NEEDS
    assert found["FOLDER"] == str(folder)
    assert found["COMMAND"][1:] == ["-m", "hpctrain", "pipeline", str(folder / "weekly.yaml"), "--cluster", "local"]
    assert found["AGAIN"] == [3, 76, 77, 78]
    (dag,) = (node for node in ast.parse(text).body if isinstance(node, ast.With))
    call = dag.items[0].context_expr
    assert isinstance(call, ast.Call)
    said = {each.arg: ast.unparse(each.value) for each in call.keywords}
    assert (said["dag_id"], said["schedule"], said["catchup"]) == ("'weekly'", "'0 3 * * *'", "False")
    assert ast.literal_eval(said["description"]) == "Say \"new\", 'old' or {{other}}"


def test_a_dag_without_a_schedule_waits_for_people(capsys):
    assert "schedule=None" in emitted(capsys, "airflow", "weekly.yaml")


def test_a_dag_for_another_folder_names_the_pipeline_file_in_it(capsys):
    found = values_of(emitted(capsys, "airflow", "weekly.yaml", "--at", "/data/survey"))
    assert (found["FOLDER"], found["COMMAND"][4]) == ("/data/survey", "weekly.yaml")


def test_a_pipeline_of_kubeflow_has_a_container_for_each_stage_and_gpus_for_the_training(capsys):
    text = emitted(capsys, "kubeflow", "weekly.yaml", "--image", "example.org/hpctrain:1", "--claim", "survey")
    found = values_of(text)
    assert (found["IMAGE"], found["CLAIM"], found["NEEDS"]) == ("example.org/hpctrain:1", "survey", NEEDS)
    assert found["RESOURCES"] == {
        "ingest": {"cpus": "2", "memory": "4Gi"},
        "train": {"cpus": "24", "memory": "100Gi", "gpus": 4, "retries": 2},
        "gate": {"cpus": "1"},
        "look.at_it": {"cpus": "1"},
    }
    components = [
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name.startswith("stage_")
    ]
    assert [node.name for node in components] == [
        "stage_1_ingest",
        "stage_2_train",
        "stage_3_gate",
        "stage_4_look_at_it",
    ]
    assert "'--stage', 'look.at_it', '--id', run" in ast.unparse(components[3])


@pytest.mark.parametrize(
    ("words", "change", "message"),
    [
        (["kubeflow", "weekly.yaml"], "", "--image: is missing"),
        (["kubeflow", "weekly.yaml", "--image", "a"], "nodes: 2, ", "asks for 2 nodes, and a stage of Kubeflow is one"),
        (["kubeflo", "weekly.yaml"], "", "cannot emit 'kubeflo'; did you mean 'kubeflow'?"),
        (["airflow"], "", "give a platform and a pipeline file"),
        (["airflow", "weekly.yaml", "--every", "7m"], "", "cron cannot say every 7m"),
    ],
)
def test_what_a_platform_cannot_do_is_said(folder, capsys, words, change, message):
    (folder / "sub folder/forest.yaml").write_text(PROFILE.replace("launch: {", "launch: {" + change))
    (folder / "weekly.yaml").write_text(PIPELINE.replace("cluster: local", "cluster: slurm"))
    assert main(["pipeline", "emit", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["github", "gitlab", "kubeflow"])
def test_a_pipeline_file_in_another_folder_is_refused_where_only_this_one_is_seen(
    folder, capsys, monkeypatch, platform
):
    text = (PIPELINE + SAMPLE).replace("sub folder", str(folder / "sub folder"))
    (folder / "weekly.yaml").write_text(text)
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")
    assert main(["pipeline", "emit", platform, "../weekly.yaml", "--image", "a"]) == 2
    assert f"is not below {folder / 'inner'}" in capsys.readouterr().err


def job_of(platform: str, text: str) -> tuple[list[str], str, list[str], str]:
    """Return the commands of a job, the folder that is kept for the next one, the report, and where it runs."""
    found = yaml.safe_load(text)
    if platform == "github":
        steps = found["jobs"]["pipeline"]["steps"]
        uses = {step["uses"].partition("@")[0]: step["with"] for step in steps if "with" in step}
        commands = [line for step in steps for line in step.get("run", "").splitlines()]
        where = found["defaults"]["run"]["working-directory"]
        return commands, uses["actions/cache"]["path"], [uses["actions/upload-artifact"]["path"]], where
    job = found["hpctrain weekly"]
    (go, *commands), report = job["script"], job["after_script"][0].split(" && ")[1]
    where = shlex.split(go)[1]
    return [*job["before_script"], *commands, report], job["cache"][1]["paths"][0], job["artifacts"]["paths"], where


@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_the_commands_of_a_forge_check_everything_and_go_through_the_sample(folder, capsys, platform):
    text = emitted(capsys, platform, "weekly.yaml", "--install", "hpctrain[search] @ file:///a b")
    commands, kept, reports, where = job_of(platform, text)
    assert folder.parent / where == folder
    install, *commands = [shlex.split(command) for command in commands]
    assert install == ["python", "-m", "pip", "install", "hpctrain[search] @ file:///a b"]
    assert [words[:2] for words in commands] == [["hpctrain", "check"], *[["hpctrain", "pipeline"]] * 3]
    assert [main(words[1:]) for words in commands] == [0, 0, 0, 0]
    sample = find_pipeline("weekly-sample", folder / "pipelines")
    assert folder.parent / kept == sample.path.parent
    assert {stage: sample.stage(stage).read_state().state for stage in ("ingest", "train", "look.at_it")} == {
        "ingest": "done",
        "train": "skipped",
        "look.at_it": "done",
    }
    assert "weekly-sample" in (folder.parent / reports[0]).read_text()


@pytest.mark.parametrize("platform", ["github", "gitlab"])
def test_a_forge_only_checks_a_pipeline_without_a_sample_and_the_file_says_so(folder, capsys, platform):
    (folder / "weekly.yaml").write_text(PIPELINE)
    text = emitted(capsys, platform, "weekly.yaml")
    assert "has no section 'sample', so this only checks" in text
    assert "--dry-run" in text
    assert "--sample" not in text


@pytest.mark.parametrize(("platform", "schema"), [("github", "github-workflows"), ("gitlab", "gitlab-ci")])
@pytest.mark.parametrize("with_sample", [True, False])
def test_forges_take_the_files_by_their_published_schemas(folder, capsys, platform, schema, with_sample):
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas", reason="check-jsonschema has the schemas")
    jsonschema = pytest.importorskip("jsonschema")
    (folder / "weekly.yaml").write_text(PIPELINE + SAMPLE * with_sample)
    found = yaml.safe_load(emitted(capsys, platform, "weekly.yaml"))
    found = {"on" if key is True else key: value for key, value in found.items()}  # YAML 1.1 reads on as true
    check = jsonschema.Draft7Validator(schemas.get_builtin_schema(f"vendor.{schema}"))
    assert [error.message for error in check.iter_errors(found)] == []
    job = found["jobs"]["pipeline"] if platform == "github" else found["hpctrain weekly"]
    job["timeout-minutes" if platform == "github" else "interruptible"] = "soon"
    assert list(check.iter_errors(found)) != []
