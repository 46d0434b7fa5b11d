"""Ten stages from raw SDSS spectra to a registered model on a real Slurm, each of which is killed once.

They end with the same bytes as on this machine, where nothing befell them. It needs minutes, so it runs only with
``ALL_FAULTS=1`` in the environment; ``test_pipeline_on_slurm.py`` and ``tests/flow/test_pipeline_flow.py`` show parts
of it always.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_cluster import REPOSITORY, SlurmCluster, wait_until

from hpctrain.launch.history import read_history
from hpctrain.pipeline.describe import states_of
from hpctrain.pipeline.folder import DONE, FAILED, GATE_FAILED, RUNNING, PipelineDir, StageDir, find_pipeline
from hpctrain.rundir import file_digest

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs minutes; set ALL_FAULTS=1"),
]

STAGES = ("ingest", "validate", "preprocess", "features", "split", "train", "evaluate", "gate", "register", "log")
PIPELINE = """\
name: sdss
launch: {cluster: slurm, gpus_per_node: 0}
stages:
  - {name: ingest, source: sdss, inputs: ["raw/*.fits.gz"]}
  - {name: validate, expectations: expectations.yaml, data: "{ingest}/data.h5"}
  - {name: preprocess, run: "hpctrain data repack {ingest}/data.h5 --out {out}/spectra.h5", outputs: [spectra.h5]}
  - {name: features, run: "hpctrain redshift {preprocess}/spectra.h5 --out {out}/redshifts.h5"}
  - {name: split, run: 'hpctrain audit vae.yaml --set data.files=["{preprocess}/spectra.h5"]'}
  - {name: train, profile: vae.yaml, set: ['data.files=["{preprocess}/spectra.h5"]']}
  - {name: evaluate}
  - {name: gate}
  - {name: register, model: sdss, alias: candidate}
  - {name: log, to: wandb, options: [--mode, offline]}
"""
PROFILE: dict[str, Any] = {
    "name": "sdss",
    "platform": "cpu",
    "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "time_limit": "00:10:00"},
    "data": {"files": ["spectra.h5"], "reader_threads": 0, "split": {"validation": 0.3}},
    "model": {"latent_size": 2, "encoder_hidden": [8], "decoder_hidden": [8], "rest_pixels": 300, "dropout": 0.1},
    "train": {"batch_size": 16, "epochs": 1000, "max_steps": 60, "warmup_steps": 5, "log_every_steps": 1},
    "checkpoint": {"every_steps": 10},
    "track": {"tensorboard": False},
    "monitor": {"heartbeat_s": 1},
    "validate": {"draws": 100, "gates": [{"metric": "reconstruction.reduced_chi2", "below": 100.0, "min_objects": 10}]},
}
NUM_FILES = 60


class Lab:
    """A folder with raw spectra and the pipeline."""

    def __init__(self, cluster: SlurmCluster, raw: Path) -> None:
        self.cluster, self.folder = cluster, cluster.fresh_dir()
        (self.folder / "raw").mkdir()
        for path in sorted(raw.glob("spec-7102-*.fits.gz"))[:NUM_FILES]:
            shutil.copy2(path, self.folder / "raw")
        (self.folder / "sdss.yaml").write_text(PIPELINE)
        (self.folder / "vae.yaml").write_text(yaml.safe_dump(PROFILE))
        self.types("hpctrain ingest sdss 'raw/*.fits.gz' --out good.h5")
        self.types("hpctrain data expect good.h5 --out expectations.yaml")

    def types(self, command: str) -> str:
        path = f"{REPOSITORY / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return self.cluster.run(command, cwd=self.folder, env={"PATH": path}).stdout

    def pipeline(self) -> PipelineDir:
        return find_pipeline("sdss", self.folder / "pipelines")

    def results(self) -> dict[str, Any]:
        """Return what each stage has made: SHA-256 of files; of an evaluation, what it says but when and of which run.

        What a stage has made outside its folder counts: the version in the registry, the records of the tracked run.
        """
        pipeline = self.pipeline()
        found: dict[str, Any] = {}
        for name in STAGES:
            stage = pipeline.stage(name)
            found[name] = dict(stage.read_result(stage.read_state().key)["digests"])
        run = pipeline.stage("train")
        found["train"] |= {path.name: file_digest(path) for path in run.model.iterdir()}
        said = json.loads(
            (pipeline.stage("evaluate").sealed(key_of(pipeline, "evaluate")) / "out/validation.json").read_text()
        )
        found["evaluate"] = {key: value for key, value in said.items() if key not in ("made_at", "run")}
        versions = self.folder / "registry/models/sdss/versions"
        found["register"] = {
            str(path.relative_to(versions)): file_digest(path) for path in sorted(versions.glob("*/model/*"))
        }
        [tracked] = json.loads((run.path / "track/wandb.json").read_text()).values()
        sent = json.loads(tracked["received"])
        losses = [(record["step"], record["loss"]) for record in run.read_metrics("train")]
        found["log"] = {"steps": (sent["train"], sent["evaluation"]), "losses": losses}
        return found


def key_of(pipeline: PipelineDir, name: str) -> str:
    return pipeline.stage(name).read_state().key


def kill(stage: StageDir) -> None:
    """Kill what does a stage, with KILL: the process and its commands, or the rank that trains after its fifth step."""
    if stage.stage_name == "train":
        wait_for(stage, lambda: any(record["step"] >= 5 for record in stage.read_metrics("train")))
        os.kill(stage.read_heartbeats()[0]["pid"], signal.SIGKILL)
        return
    found: list[int] = []

    def runs() -> bool:
        found[:] = processes_of(stage) if stage.read_state().state == RUNNING else []
        return bool(found)

    wait_for(stage, runs)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def wait_for(stage: StageDir, happened: Any) -> None:
    def look() -> bool:
        state = stage.read_state()
        assert state.state not in (FAILED, GATE_FAILED, DONE), f"{stage.path} is {state}"
        return happened()

    wait_until(look, f"stage {stage.stage_name}", pause_s=0.01)


def processes_of(stage: StageDir) -> list[int]:
    """Return the process that does a stage, and its commands."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if "hpctrain.pipeline.stage" in words and str(stage.path) in words and "srun" not in words[0]:
                found.append(int(path.name))
    return found + [child for child, parent in parents.items() if parent in found]


@pytest.fixture(scope="module")
def ended(slurm: SlurmCluster, shared_data: Path) -> tuple[Lab, dict[str, Any]]:
    """The pipeline after all its kills, and the results of one that was left in peace in the same folder."""
    lab = Lab(slurm, shared_data / "sdss_spec")
    lab.types("hpctrain pipeline sdss.yaml --cluster local")
    peace = lab.results()
    for name in ("pipelines", "registry"):
        (lab.folder / name).rename(lab.folder / f"{name}-in-peace")
    lab.types("hpctrain pipeline sdss.yaml")
    for name in STAGES:
        kill(lab.pipeline().stage(name))
    last = lab.pipeline().stage("log")
    wait_until(lambda: last.read_state().state in (DONE, FAILED), "the last stage", pause_s=0.2)
    return lab, peace


def test_every_stage_was_killed_once_and_ended(ended) -> None:
    lab, _ = ended
    pipeline = lab.pipeline()
    wait_until(lambda: len(read_history(pipeline.stage("log"))) == 2, "the end of the last job")
    for name in STAGES:
        assert [each.followed for each in read_history(pipeline.stage(name))] == ["requeued", "finished"], name
    assert {each["stage"]: each["state"] for each in states_of(pipeline)} == dict.fromkeys(STAGES, DONE)


def test_it_ends_with_the_results_of_one_left_in_peace(ended) -> None:
    lab, peace = ended
    assert lab.results() == peace
    assert next(iter(peace["register"])).startswith("1/"), "one version"


def test_its_costs_hold_the_attempts_that_were_killed(ended) -> None:
    lab, _ = ended
    for each in states_of(lab.pipeline()):
        assert each["cost"]["attempts"] == 2, each
        assert each["cost"]["seconds"] > 0
    said = lab.types("hpctrain pipeline status sdss")
    assert said.splitlines()[-1].split()[0] == "total"
