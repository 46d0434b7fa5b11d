"""``python -m hpctrain.pipeline.training STAGE_DIR``: make the run directory of a stage that trains, before its ranks.

The stage's folder is the run directory, so all that is true of a run is true of it. Exit codes: 0 train, 79 nothing is
left to do, and those of ``errors.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.credentials.hide import hide_in_tracebacks
from hpctrain.launch import provenance
from hpctrain.launch.plan import NOTHING_TO_DO, JobPlan, module_command, plan_job
from hpctrain.launch.status import describe
from hpctrain.launch.submit import Submission, record_job, with_absolute_paths
from hpctrain.launch.targets import find_target
from hpctrain.pipeline import folder
from hpctrain.pipeline.folder import StageDir
from hpctrain.pipeline.keys import date_of
from hpctrain.pipeline.kinds import OUT, filled
from hpctrain.pipeline.stage import MODEL_FILES, alone, called, look, not_needed, places_of, seal
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.profile.site import load_site
from hpctrain.rundir import file_digest, read_json, write_atomic, write_json
from hpctrain.states import FINISHED
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.pipeline.begin import Beginning

PREPARE_MODULE = "hpctrain.pipeline.training"
_BEGAN = "began.json"
_KEY = "trains.json"
"""Key of the results that the run directory is for."""


def prepare(stage: StageDir, job_id: str | None = None) -> bool:
    """Make the run directory complete; return False if the same model was trained before.

    Raises
    ------
    HpctrainError
        A stage that it needs is not done, or the profile is wrong.
    """
    if not_needed(stage):
        return False
    parts, key, is_done = look(stage)
    if is_done:
        return False
    earlier = read_json(stage.path / _KEY, {})
    if isinstance(earlier, dict) and earlier.get("key") not in (None, key):
        _put_aside(stage)
    write_json(stage.path / _KEY, {"key": key, "parts": parts})
    stage.write_state(replace(stage.read_state(), state=folder.RUNNING, started_at=time.time()))
    if not (stage.profile.exists() and stage.job.exists()):
        _write_run(stage)
    known = {entry["job_id"] for entry in stage.read_job().get("submissions", [])}
    if job_id is not None and job_id not in known:
        record_job(stage, job_id)
    return True


def profile_of_stage(stage: StageDir, places: dict[str, str], more: Sequence[str] = ()) -> Profile:
    """Return the profile that a stage trains, with the results of other stages in their places and more changes."""
    own, cluster = stage.section(), stage.pipeline.read_record().get("cluster")
    changes = [filled(change, places) for change in own.set]
    changes += [f"name={json.dumps(stage.pipeline.name)}", *([f"launch.cluster={cluster}"] if cluster else [])]
    changes = [each for each in changes if each.partition("=")[0] not in {new.partition("=")[0] for new in more}]
    cwd = Path(stage.pipeline.read_record().get("cwd") or Path.cwd())
    return with_absolute_paths(load_profile(str(own.profile), [*changes, *more]), cwd)


def plan_training(stage: StageDir, profile: Profile, cluster: str, **facts: object) -> JobPlan:
    """Return the plan of the job of a stage that trains."""
    site = load_site(profile.launch.site) if profile.launch.site else None
    return plan_job(
        profile, stage.path, find_target(cluster), site, prepare=module_command(PREPARE_MODULE, site), **facts
    )


def _write_run(stage: StageDir) -> None:
    cluster = stage.pipeline.read_record()["cluster"]
    from hpctrain.pipeline.begin import begin  # numpy, which a login node does without

    stage.make_folders()
    places = places_of(stage, stage.path)
    beginning = begin(stage, profile_of_stage(stage, places))
    profile = profile_of_stage(stage, places, beginning.changes)
    _say(stage, beginning)
    plan = replace(plan_training(stage, profile, cluster), prepare=())
    submission = Submission(cluster, (stage,), (profile,), plan, {})
    if not stage.provenance.exists():
        provenance.write(stage.provenance, profile, stage.pipeline.path)
    files = submission.files()
    for path in sorted(files, key=lambda path: path == stage.profile):
        write_atomic(path, files[path])


def _say(stage: StageDir, beginning: Beginning) -> None:
    """Keep what a training begins with, and print it."""
    note = "; ".join(beginning.notes)
    stage.write_state(replace(stage.read_state(), note=note))
    if beginning.facts:
        write_json(stage.path / _BEGAN, {**beginning.facts, "notes": beginning.notes})
    if note:
        print(printable(f"hpctrain: {stage.stage_name}: {note}"), flush=True)


def _put_aside(stage: StageDir) -> None:
    """Give the run directory of another model another name."""
    number = 1
    while (aside := stage.path.with_name(f"{stage.path.name}.{number}")).exists():
        number += 1
    state = stage.read_state()
    os.rename(stage.path, aside)
    stage.write_state(state)


def seal_training(stage: StageDir) -> bool:
    """Write the results of a stage whose run has finished; return whether it has."""
    found = read_json(stage.path / _KEY, {})
    status = describe(stage, ask_queue=False)
    if not isinstance(found, dict) or "key" not in found or status.state != FINISHED:
        return False
    key = found["key"]
    with alone(stage, key):
        if stage.read_result(key) is None:
            work = stage.work(key)
            (work / OUT).mkdir(parents=True, exist_ok=True)
            there = [name for name in MODEL_FILES if (stage.path / name).is_file()]
            digests = {name: file_digest(stage.path / name) for name in there if name.endswith(".safetensors")}
            started = stage.read_state().started_at
            size = sum(path.stat().st_size for path in stage.path.rglob("*") if path.is_file())
            facts = {
                "run": str(stage.path), "digests": digests, "started_at": started, "files": there, "bytes": size,
                "date": date_of(stage, found["parts"]["inputs"]),
            }  # fmt: skip
            if began := read_json(stage.path / _BEGAN):
                facts["began"] = began
            seal(stage, key, found["parts"], facts)
    return True


def main(arguments: list[str]) -> int:
    """Prepare the run of the stage named on the command line and return the exit code."""

    def work(stage: StageDir) -> int:
        return 0 if prepare(stage, os.environ.get("SLURM_JOB_ID")) else NOTHING_TO_DO

    return called(arguments, __doc__ or "", work)


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
