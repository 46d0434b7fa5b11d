"""Score the objects of a catalogue, among themselves or against the held-out objects of the model's run. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.result_files import read_npz
from hpctrain.families.spectral_vae.anomaly import MIN_OBJECTS, fit_reference, isolation_scores
from hpctrain.families.spectral_vae.anomaly_reference import AnomalyReference, no_scores
from hpctrain.rundir import RunDir, write_arrays

AUTO, FILE, MODEL = "auto", "file", "model"
AGAINST = (AUTO, FILE, MODEL)
"""What objects are compared with: those of their own file, or the held-out objects of the model's run. ``auto`` takes
the file if it has enough objects, or more than the run held out."""

REFERENCE = "anomaly_reference.npz"
"""File of ``results/`` with what the held-out objects of a run have in common."""

ENOUGH_OBJECTS = 1000
"""Number of encoded objects from which a file is compared with itself."""


@dataclass(frozen=True)
class Scored:
    """Scores, and what they compare with.

    Parameters
    ----------
    columns : dict of ndarray, shape (N,)
        ``ANOMALY_SCORE``, ``LOCAL_CHI2``, ``LATENT_DENSITY``, ``ANOMALY_REASON``, ``FOREST_SCORE``; NaN where there are
        too few objects to compare with.
    attributes : dict
        Attributes of the catalogue that say what the scores mean.
    """

    columns: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)


def score_table(table: Mapping[str, np.ndarray], card: Mapping[str, Any], against: str = AUTO) -> Scored:
    """Score the objects of a table.

    Parameters
    ----------
    table : mapping
        ``LATENT_VEC`` (N, S) in half precision, ``RECON_MSE``, ``SNR``, ``redshift`` (N,).
    card : mapping
        Card of the model, with its seed and the path of its weights.
    against : {"auto", "file", "model"}

    Raises
    ------
    DataError
        The model was asked for, and its run has no reference of these weights.
    """
    inputs, seed = _inputs(table), _seed(card)
    latents = inputs[0]
    number = int(np.isfinite(latents).all(axis=1).sum())
    stored = None if against == FILE else stored_reference(card)
    if against == MODEL and stored is None:
        raise DataError(
            f"{card.get('weights', 'the model')}: there is no {REFERENCE} of these weights in the results of its run "
            "to score against (an older hpctrain made the run, it held out too few objects, or the weights are those "
            "of a checkpoint); use --score-against file"
        )
    if stored is not None and (against == MODEL or number < min(ENOUGH_OBJECTS, stored.num_objects)):
        reference, origin = stored, f"{stored.num_objects} held-out objects of the model's run"
    else:
        reference = fit_reference(*inputs, seed)
        origin = f"the {number} encoded objects of this file"
    if reference is None:
        columns = no_scores(len(latents))
        origin = f"none: {number} objects are too few, {MIN_OBJECTS} are needed"
    else:
        columns = reference.score(*inputs)
    columns["FOREST_SCORE"] = isolation_scores(latents, seed)
    return Scored(columns, {"anomaly_reference": origin, "anomaly_seed": seed})


def stored_reference(card: Mapping[str, Any]) -> AnomalyReference | None:
    """Return the reference of the run that a model belongs to; None if there is none of exactly these weights."""
    weights = Path(str(card.get("weights", "")))
    path = RunDir(weights.absolute().parent.parent).results / REFERENCE
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path)
        if int(arrays["step"]) != int(card.get("step") or -1):
            return None
        return AnomalyReference.from_arrays(arrays)
    except (LookupError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); use --score-against file") from error


def write_reference(path: Path, table: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Write what the objects of a table have in common, for other objects, with the step of the weights.

    Nothing is written if there are too few objects. See :func:`score_table` for the arguments.
    """
    reference = fit_reference(*_inputs(table), _seed(card), for_others=True)
    if reference is not None:
        write_arrays(path, reference.to_arrays() | {"step": np.int64(card.get("step") or -1)})


def _inputs(table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    latents = np.asarray(table["LATENT_VEC"]).astype(np.float32)
    return latents, table["RECON_MSE"], table["SNR"], table["redshift"]


def _seed(card: Mapping[str, Any]) -> int:
    return int(card.get("seed") or 0)
