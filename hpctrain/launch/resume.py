"""Check whether a run can be resumed with a profile, before anything is written or queued.

The check reads only the model's card and the small ``state.json`` of the newest checkpoint, so it takes milliseconds
and needs no torch. The trainer verifies every byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed
from hpctrain.profile.load import load_profile
from hpctrain.profile.resume import describe_misfit, misfits
from hpctrain.records import is_count
from hpctrain.rundir import RunDir, read_json

if TYPE_CHECKING:
    from hpctrain.launch.status import RunStatus
    from hpctrain.profile.schema import Profile


@dataclass(frozen=True)
class Saved:
    """The facts that a run has saved so far.

    Parameters
    ----------
    card : dict
        Card of the model, which the first attempt writes; empty before.
    step : int
        Step of the newest checkpoint; 0 if there is none.
    num_train : int
        Number of training spectra; 0 if unknown.
    global_batch : int
        Number of spectra in each step; 0 if unknown.
    evaluations_without_progress : int
    stopped_early : bool
    """

    card: dict[str, Any]
    step: int = 0
    num_train: int = 0
    global_batch: int = 0
    evaluations_without_progress: int = 0
    stopped_early: bool = False


def read_saved(run: RunDir) -> Saved:
    """Return the facts that a run has saved; skip checkpoints whose small files are unreadable."""
    card = read_json(run.model / "model.json", {})
    card = card if isinstance(card, dict) else {}
    for folder in sorted(run.checkpoints.glob("step-*"), reverse=True):
        state = read_json(folder / "state.json", {})
        manifest = read_json(folder / "MANIFEST.json", {})
        if not isinstance(state, dict) or not isinstance(manifest, dict) or "sha256" not in manifest:
            continue
        data, progress = state.get("data"), state.get("progress")
        if isinstance(data, dict) and isinstance(progress, dict):
            return Saved(
                card,
                step=_count(progress.get("step")),
                num_train=_count(data.get("num_train")),
                global_batch=_count(data.get("global_batch")),
                evaluations_without_progress=_count(progress.get("evaluations_without_progress")),
                stopped_early=progress.get("stopped_early") is True,
            )
    return Saved(card)


def _count(value: object) -> int:
    return value if isinstance(value, int) and is_count(value) else 0


def refuse_to_resume(status: RunStatus) -> None:
    """Raise an error if a run is active or has lost its profile.

    Raises
    ------
    ProfileError
        The run is active, or its ``profile.yaml`` is missing.
    """
    name = as_typed(status.run.path)
    if status.is_active:
        message = f"{name} is {status.state} (according to {status.source}); first run: hpctrain cancel {name} --wait"
        raise ProfileError("command line", [Problem("--resume", message)])
    if not status.run.profile.exists():
        message = (
            f"{name} has no profile.yaml any more; put it back (attempts/*.json hold its values under 'profile'), or "
            f"start a new run from the weights: hpc-submit PROFILE --set train.init_from={name}"
        )
        raise ProfileError("command line", [Problem("--resume", message)])


def resume_problems(run: RunDir, profile: Profile, overrides: Sequence[str] = ()) -> list[Problem]:
    """Return all reasons why a run cannot be resumed with a profile.

    Parameters
    ----------
    run : RunDir
    profile : Profile
        The run's own profile with the requested changes, before its accumulation is adapted to another number of ranks.
    overrides : sequence of str
        The changes, ``a.b=value`` each.
    """
    before = load_profile(run.profile)
    saved = read_saved(run)
    if not saved.card and not saved.step:  # nothing is fixed yet, except the folder
        changed = [change for change in misfits(before, profile, {}) if change.key == "name"]
        return [*(describe_misfit(profile, change) for change in changed), *_access_problems(run, before, profile)]
    problems = [describe_misfit(before, change) for change in misfits(before, profile, saved.card)]
    problems += _access_problems(run, before, profile)
    global_batch = saved.global_batch or before.global_batch
    asked = {override.partition("=")[0].strip() for override in overrides}
    for key in ("train.global_batch", "train.accumulation"):
        if key in asked and profile.global_batch != global_batch:
            message = (
                f"would make the global batch {profile.global_batch}, this run has {global_batch}: which spectra each "
                "step sees depends on it; omit it, the accumulation follows from batch_size and the ranks"
            )
            problems.append(Problem(key, message))
    total_steps = steps_of(profile, saved)
    if total_steps is not None and total_steps < saved.step:
        key = "train.max_steps" if total_steps == profile.train.max_steps else "train.epochs"
        message = f"makes {total_steps} steps, but the run has done {saved.step} already; ask for more"
        problems.append(Problem(key, message))
    return problems


def _access_problems(run: RunDir, before: Profile, profile: Profile) -> list[Problem]:
    """Refuse to change who may use the files: those that are there would keep their permissions."""
    changed = [key for key in ("access", "group") if getattr(before.launch, key) != getattr(profile.launch, key)]
    message = f"cannot change when a run is resumed; for all its files: hpctrain access {as_typed(run.path)}"
    return [Problem(f"launch.{key}", f"{message} {profile.launch.access or 'private|group|public'}") for key in changed]


def steps_of(profile: Profile, saved: Saved) -> int | None:
    """Return the number of steps of a whole run with this profile; None before the run has counted its spectra."""
    if not saved.num_train or not saved.global_batch:
        return None
    steps = math.ceil(profile.train.epochs * saved.num_train / saved.global_batch)
    return min(steps, profile.train.max_steps or steps)


def nothing_left(status: RunStatus, profile: Profile) -> str | None:
    """Return a message for the user if a run is finished and the profile asks for no further step, else None.

    Parameters
    ----------
    status : RunStatus
    profile : Profile
        The run's own profile with the requested changes.
    """
    if status.state != "finished" or resume_problems(status.run, profile):
        return None
    saved = read_saved(status.run)
    total_steps = steps_of(profile, saved)
    limit = profile.train.early_stopping
    has_stopped = saved.stopped_early and limit is not None and saved.evaluations_without_progress >= limit.patience
    if total_steps is not None and total_steps > saved.step and not has_stopped:
        return None
    name = as_typed(status.run.path)
    done = saved.step or status.step
    done_text = f"{name} is finished at step {done}; there is nothing to do."
    from_its_weights = f"To start a new run from its weights: --set train.init_from={name}"
    if not saved.step:  # its checkpoints are gone, so it would restart at step 0
        return f"{done_text}\n{from_its_weights}"
    how = f"--set train.epochs={2 * profile.train.epochs}"
    if profile.train.max_steps is not None:
        how = f"--set train.max_steps={2 * max(done, profile.train.max_steps)} train.epochs={2 * profile.train.epochs}"
    if has_stopped:
        how = "--set train.early_stopping=null"
    return f"{done_text}\nTo train it further, ask for more, such as: --resume {name} {how}\n{from_its_weights}"
