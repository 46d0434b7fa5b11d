"""``hpctrain search ensemble STUDY``: finished trials whose predictions are mixed, and how good the mixture is.

One half of the held-out objects chooses the members, the other half scores the ensemble beside the best single trial of
the first half. ``ensemble.json`` holds members, weights, scores, and the SHA-256 of each member's weights::

    <study>/ensemble.json               the members are trials of the study
    FOLDER/ensemble.json                with --out FOLDER: copies of the members, which need the study no longer
    FOLDER/members/<trial>/model/ ...
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.errors import CheckpointError, DataError, Problem, ProfileError, SiteError
from hpctrain.rundir import RunDir, file_digest, read_json, write_json
from hpctrain.search.describe import shown
from hpctrain.search.ensemble_choice import choose_members, weights_of
from hpctrain.search.ensemble_held_out import Candidates, read_candidates, scoring_rows
from hpctrain.search.ensemble_scores import Score, metrics_of, score
from hpctrain.search.folder import StudyDir
from hpctrain.search.ranking import ranked
from hpctrain.search.trials import Trial, read_trials

FILE = "ensemble.json"
FORMAT = "hpctrain-ensemble"
FORMAT_VERSION = 1
DEFAULT_SIZE = 20
FEWEST_OBJECTS = 20
"""Smallest number of objects with labels in each half."""
WEIGHTS = "model.safetensors"

BETTER, WORSE, NO_BETTER = "better", "worse", "no better"


def make_ensemble(study: StudyDir, size: int = DEFAULT_SIZE) -> dict[str, Any]:
    """Choose the members of an ensemble among the finished trials of a study, and score it.

    Parameters
    ----------
    study : StudyDir
    size : int
        Largest number of steps of the selection; each adds a member, or weight to one.

    Returns
    -------
    dict
        JSON values; see the module.

    Raises
    ------
    DataError
        There are too few members or objects, or the trials held out different objects.
    """
    trials = read_trials(study)
    candidates = read_candidates(study, ranked(study.section(), trials))
    scores_it = scoring_rows(candidates.target_id, candidates.strata)
    chosen, losses = _choose(study, candidates, scores_it, size)
    weights, best = weights_of(chosen), chosen[0]
    metrics = metrics_of(study, candidates, weights, best)
    scores: dict[str, list[Score]] = {}
    for name, rows in (("choosing", ~scores_it), ("scoring", scores_it)):
        found = [score(metric, candidates.target_id, rows) for metric in metrics]
        scores[name] = [each for each in found if each is not None]
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "hpctrain_version": __version__,
        "made_at": time.time(),
        "study": f"{study.name}/{study.id}",
        "labels": [label.title for label in candidates.labels],
        "members": [_member(study, trials[candidates.numbers[place]], weight) for place, weight in weights.items()],
        "best_trial": candidates.numbers[best],
        "candidates": candidates.numbers,
        "skipped": {str(number): reason for number, reason in candidates.skipped.items()},
        "objects": {
            "choosing": _num_objects(candidates, ~scores_it),
            "scoring": _num_objects(candidates, scores_it),
        },
        "losses_by_size": losses,
        "scores": {name: [asdict(each) for each in found] for name, found in scores.items()},
        "verdict": _verdict(scores["scoring"][0], len(weights)),
    }


def _choose(study: StudyDir, candidates: Candidates, scores_it: np.ndarray, size: int) -> tuple[list[int], list[float]]:
    """Return the models of each step, and the losses, on the rows that do not score."""
    known = np.isfinite(candidates.log_p[0]).any(axis=1)
    for rows in (scores_it, ~scores_it):
        if (num := len(np.unique(candidates.target_id[rows & known]))) < FEWEST_OBJECTS:
            raise DataError(
                f"{study.path}: half of the held-out objects are {num} with labels; choosing and scoring need "
                f"{FEWEST_OBJECTS} each. Hold out more: data.split.validation"
            )
    log_p = candidates.log_p[:, ~scores_it]
    has = np.isfinite(log_p[0])
    factor = np.broadcast_to([label.weight for label in candidates.labels], has.shape)
    return choose_members(log_p[:, has], factor[has], size)


def _num_objects(candidates: Candidates, rows: np.ndarray) -> int:
    return len(np.unique(candidates.target_id[rows]))


def _member(study: StudyDir, trial: Trial, weight: float) -> dict[str, Any]:
    run = study.trial(trial.number)
    card = read_json(run.model / "model.json", {})
    return {
        "trial": trial.number,
        "weight": weight,
        "run": str(trial.number),
        "family": card.get("family"),
        "sha256": file_digest(run.model / WEIGHTS),
        "values": trial.values,
    }


def _verdict(loss: Score, num_members: int) -> str:
    if num_members > 1 and loss.high < 0:
        return BETTER
    return WORSE if loss.low > 0 else NO_BETTER


def write_ensemble(study: StudyDir, ensemble: Mapping[str, Any], out: Path | None) -> Path:
    """Write ``ensemble.json`` into the study, or into a new folder with copies of the members; return its path.

    Raises
    ------
    ProfileError
        The folder exists and is not empty.
    SiteError
        The folder cannot be written.
    """
    if out is None:
        write_json(study.path / FILE, ensemble)
        return study.path / FILE
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ProfileError("hpctrain search ensemble", [Problem("--out", f"{out} exists and is not empty")])
    members = []
    try:
        for member in ensemble["members"]:
            run, copy = study.trial(member["trial"]), RunDir(out / "members" / str(member["trial"]))
            _copy_contents(run.model, copy.model)
            shutil.copyfile(run.profile, copy.profile)
            members.append({**member, "run": f"members/{member['trial']}"})
        write_json(out / FILE, {**ensemble, "members": members})
    except OSError as error:
        raise SiteError(f"{out}: the ensemble cannot be written: {error}") from error
    return out / FILE


def _copy_contents(folder: Path, target: Path) -> None:
    """Copy files without their permissions: those of a study that is private would close an ensemble for a group."""
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        copy = target / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def read_ensemble(folder: Path) -> dict[str, Any]:
    """Return the ``ensemble.json`` of a folder, whose members are unchanged since it was written.

    Raises
    ------
    CheckpointError
        There is none, it is damaged, or the weights of a member have changed.
    """
    path = folder / FILE
    if not path.exists():
        raise CheckpointError(f"{path}: does not exist; make it with 'hpctrain search ensemble'")
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not found.get("members"):
        raise CheckpointError(f"{path}: is damaged; write it again with 'hpctrain search ensemble'")
    if found.get("version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {found.get('version')!r}; this hpctrain reads {FORMAT_VERSION}")
    for member in found["members"]:
        weights = RunDir(folder / member["run"]).model / WEIGHTS
        if not weights.is_file() or file_digest(weights) != member["sha256"]:
            raise CheckpointError(f"{weights}: is absent, or not the model that {path} was made of; write it again")
    return found


def described(ensemble: Mapping[str, Any]) -> str:
    """Return members, scores and verdict as text for a terminal."""
    objects = ensemble["objects"]
    lines = [
        f"{ensemble['study']}: {len(ensemble['members'])} members of {len(ensemble['candidates'])} trials that predict "
        f"{', '.join(ensemble['labels'])}; {objects['choosing']:,} held-out objects chose them"
    ]
    lines += [f"  trial {number} is no candidate: {reason}" for number, reason in ensemble["skipped"].items()]
    lines += ["  weight  trial  values"]
    for member in ensemble["members"]:
        values = "  ".join(f"{key}={shown(value)}" for key, value in member["values"].items())
        lines.append(f"  {member['weight']:>6.3f}  {member['trial']:>5}  {values}")
    title = f"trial {ensemble['best_trial']}"
    lines += [
        f"  on the other {objects['scoring']:,} held-out objects, with 95 % intervals from a bootstrap over objects:",
        f"  {'':<20} {'ensemble':>10} {title:>10} {'difference':>11}",
    ]
    for each in ensemble["scores"]["scoring"]:
        interval = f"{each['low']:+.4g} to {each['high']:+.4g}"
        lines.append(
            f"  {each['name']:<20} {each['ensemble']:>10.4g} {each['single']:>10.4g} "
            f"{each['difference']:>+11.4g}  {interval}"
        )
    return "\n".join([*lines, f"  {_conclusion(ensemble)}"])


def _conclusion(ensemble: Mapping[str, Any]) -> str:
    best = f"trial {ensemble['best_trial']}"
    if ensemble["verdict"] == BETTER:
        return f"the ensemble has a lower loss than {best}, the best single one by the first half"
    if len(ensemble["members"]) == 1:
        return f"no mixture is better than {best} alone, so it is the only member; the ensemble is no better"
    if ensemble["verdict"] == WORSE:
        return f"the ensemble is worse than {best} alone: use that trial"
    return f"the ensemble is no better than {best} alone: the interval of the loss includes 0"
