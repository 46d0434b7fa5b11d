"""Read everything that a report needs from a run directory; list missing and damaged files and continue."""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.families.spectral_vae.catalogue import SURVEY_PREFIX, survey_columns
from hpctrain.files import open_regular, read_text
from hpctrain.metrics.read import History, read_history
from hpctrain.monitor.ledger import RankState, read_ledgers
from hpctrain.profile.credentials import hide_secrets_in
from hpctrain.records import JOB, Record, parse_json, well_typed
from hpctrain.report.attempts import Attempt, list_attempts, read_endings
from hpctrain.rundir import RunDir

Arrays = dict[str, np.ndarray]

_NAMED_ROWS = 1000
"""Number of rows of the catalogue whose survey columns to read; more than there are reconstructed spectra."""
_MOST_RESULT_BYTES = 1 << 30
"""Largest results to show [byte]; a report needs a few spectra and some ten thousand latent vectors."""
_SPECTRA_KEYS = ("wavelength_aa", "flux", "ivar", "reconstruction", "covered", "target_id", "redshift")
_PER_OBJECT = ("target_id", "redshift", "chi2", "norm", "anomaly_score")
_NUMBERS = (*_SPECTRA_KEYS, *_PER_OBJECT, "step")
_LATENT_KEYS = ("LATENT_VEC", "redshift", "RECON_MSE", "ANOMALY_SCORE", "target_id", "STATUS")
_LARGEST_TEXT = 1 << 24
"""Largest number of bytes of a profile, a script or a JSON file to read for a report."""


@dataclass
class RunFacts:
    """All facts about a run, read once.

    Parameters
    ----------
    run : RunDir
    now : float
        Time of reading, seconds since 1970.
    history : History
    attempts : list of Attempt
    job, provenance : dict
    profile_text, script_text : str
        Empty if the file is absent.
    reconstructions, anomalies : dict of ndarray, optional
        Arrays of ``results/*.npz``.
    latents : dict of ndarray, optional
        ``LATENT_VEC`` (N, S), ``redshift``, ``RECON_MSE``, ``ANOMALY_SCORE``, ``target_id``, ``STATUS`` (N,).
    ranks : list of RankState
        Measurements of the sensors of each rank.
    unreadable : list of str
        Files that could not be read, and the reasons.
    """

    run: RunDir
    now: float
    history: History
    attempts: list[Attempt]
    job: dict[str, Any]
    provenance: dict[str, Any]
    profile_text: str
    script_text: str
    reconstructions: Arrays | None = None
    anomalies: Arrays | None = None
    latents: Arrays | None = None
    ranks: list[RankState] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        """Last step of the whole run; 0 before an attempt has recorded it."""
        started = self.history.last("started") or {}
        return int(started.get("total_steps") or 0)

    @property
    def step(self) -> int:
        """The last step that is recorded and not lost."""
        return max([self.history.step, *(a.last_step for a in self.attempts[-1:])], default=0)

    @property
    def num_spectra(self) -> int:
        """Number of spectra seen in training, according to the records."""
        return max((int(record.get("samples_seen") or 0) for record in self.history.train), default=0)

    @property
    def submitted_at(self) -> float | None:
        """Time of submission, seconds since 1970; None if it is not recorded."""
        value = self.job.get("submitted_at")
        return float(value) if isinstance(value, int | float) else None


def gather_facts(run: RunDir, now: float | None = None) -> RunFacts:
    """Read a run directory.

    Parameters
    ----------
    run : RunDir
        A run in any state.
    now : float, optional
        Seconds since 1970; the current time by default.
    """
    now = time.time() if now is None else now
    history = read_history(run)
    _set_aside_empty_evaluations(history)
    unreadable: list[str] = []
    endings = list(read_endings(run.attempts / "ended.tsv"))
    facts = RunFacts(
        run=run,
        now=now,
        history=history,
        attempts=list_attempts(history, run.read_attempts(), run.read_heartbeats(), endings, now),
        job=well_typed(_record(run.job, unreadable), JOB),
        provenance=hide_secrets_in(_record(run.provenance, unreadable)),
        profile_text=_text(run.profile, unreadable),
        script_text=_text(run.script, unreadable),
        ranks=read_ledgers(run),
        unreadable=unreadable,
    )
    facts.reconstructions = _read_spectra(run.results / "reconstructions.npz", facts.unreadable)
    facts.anomalies = _read_spectra(run.results / "anomalies.npz", facts.unreadable)
    facts.latents = _read_latents(run.results / "latents.h5", facts.unreadable)
    if facts.reconstructions is not None and facts.latents is not None:
        _add_survey_columns(facts.reconstructions, facts.latents)
    return facts


def _text(path: Path, unreadable: list[str]) -> str:
    """Return the text of a file; if it cannot be read or is not a regular file, note this and return an empty text."""
    try:
        return read_text(path, _LARGEST_TEXT)
    except FileNotFoundError:
        return ""
    except OSError as error:
        unreadable.append(f"{path.name} cannot be read: {error.strerror}")
        return ""


def _record(path: Path, unreadable: list[str]) -> Record:
    """Return the JSON object of a file; if there is none, note this and return an empty one."""
    text = _text(path, unreadable)
    if not text:
        return {}
    try:
        value = parse_json(text)
    except ValueError as error:
        unreadable.append(f"{path.name} is damaged: {error}")
        return {}
    if not isinstance(value, dict):
        unreadable.append(f"{path.name} is damaged: it holds no JSON object")
        return {}
    return value


def _read_spectra(path: Path, unreadable: list[str]) -> Arrays | None:
    """Read ``results/*.npz``; return None if it is absent or unusable, and note the latter."""
    arrays = _read_results(path, unreadable, _npz_arrays)
    if arrays is None:
        return None
    missing = [name for name in _SPECTRA_KEYS if name not in arrays]
    if missing:
        unreadable.append(f"results/{path.name} lacks {', '.join(missing)}")
        return None
    if reason := _unusable_spectra(arrays):
        unreadable.append(f"results/{path.name} is damaged: {reason}")
        return None
    return arrays


def _set_aside_empty_evaluations(history: History) -> None:
    """Turn evaluations without a usable spectrum into events; older versions recorded them with a loss of 0."""
    empty = [record for record in history.evaluations if record.get("num_spectra") == 0]
    history.evaluations = [record for record in history.evaluations if record.get("num_spectra") != 0]
    history.events += [{**record, "kind": "event", "event": "evaluation_empty"} for record in empty]


def _add_survey_columns(spectra: Arrays, latents: Arrays) -> None:
    """Add the columns of the survey to the reconstructed spectra, which are the first rows of the catalogue."""
    target_id = spectra["target_id"]
    if len(target_id) <= _NAMED_ROWS and np.array_equal(latents.get("target_id", ())[: len(target_id)], target_id):
        for name, values in latents.items():
            if name.startswith(SURVEY_PREFIX):
                spectra[name] = values[: len(target_id)]


def _npz_arrays(path: Path) -> Arrays:
    with os.fdopen(open_regular(path), "rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            _refuse_large(sum(entry.file_size for entry in archive.infolist()))
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _unusable_spectra(arrays: Arrays) -> str:
    """Return the reason why arrays cannot be drawn as spectra; empty if they can."""
    flux, wavelength_aa = arrays["flux"], arrays["wavelength_aa"]
    if flux.ndim != 2 or 0 in flux.shape:
        return f"flux has the shape {flux.shape}"
    if wavelength_aa.shape not in (flux.shape, flux.shape[1:]) or not np.isfinite(_floats(wavelength_aa)).all():
        return "wavelength_aa does not belong to flux"
    shapes = {
        **dict.fromkeys(("ivar", "reconstruction", "covered"), flux.shape),
        **dict.fromkeys(_PER_OBJECT, flux.shape[:1]),
        "step": (),
    }
    shapes |= {name: flux.shape[:1] for name in arrays if name.startswith(SURVEY_PREFIX)}
    wrong = [name for name, shape in shapes.items() if name in arrays and arrays[name].shape != shape]
    wrong += [name for name, array in arrays.items() if array.dtype.kind not in "biuf" and name in _NUMBERS]
    return f"{wrong[0]} has another shape or type" if wrong else ""


def _floats(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind in "biuf" else np.full(array.shape, np.nan)


def _read_latents(path: Path, unreadable: list[str]) -> Arrays | None:
    """Read ``results/latents.h5``; return None if it is absent or unusable, and note the latter."""
    arrays = _read_results(path, unreadable, _latent_arrays)
    if arrays is None:
        return None
    latents = arrays.get("LATENT_VEC")
    if latents is None or latents.ndim != 2:
        unreadable.append(f"results/{path.name} has no LATENT_VEC of shape (N, S)")
        return None
    wrong = [
        name
        for name, array in arrays.items()
        if not name.startswith(SURVEY_PREFIX)
        and (array.dtype.kind not in "biuf" or (name != "LATENT_VEC" and array.shape != latents.shape[:1]))
    ]
    if wrong:
        unreadable.append(f"results/{path.name} is damaged: {wrong[0]} has another shape or type")
        return None
    return arrays


def _latent_arrays(path: Path) -> Arrays:
    import h5py

    with os.fdopen(open_regular(path), "rb") as stream, h5py.File(stream, "r") as file:
        found = {name: file[name] for name in _LATENT_KEYS if name in file}
        _refuse_large(sum(math.prod(dataset.shape) * dataset.dtype.itemsize for dataset in found.values()))
        arrays = {name: dataset[()] for name, dataset in found.items()}
        num_rows = len(arrays.get("target_id", ()))
        return arrays | survey_columns(file, np.arange(min(num_rows, _NAMED_ROWS)))


def _refuse_large(num_bytes: int) -> None:
    if num_bytes > _MOST_RESULT_BYTES:
        raise ValueError(f"it would need {num_bytes} bytes of memory; at most {_MOST_RESULT_BYTES} are read")


def _read_results(path: Path, unreadable: list[str], read: Callable[[Path], Arrays]) -> Arrays | None:
    """Read a file of results with a library, which may raise any exception on a damaged file."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        unreadable.append(f"results/{path.name} cannot be read: {reason}")
        return None
