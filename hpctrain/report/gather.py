"""Reading all a report needs from a run directory; the report names what is missing or damaged, and goes on."""

from __future__ import annotations

import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.metrics.read import History, read_history
from hpctrain.monitor.ledger import RankState, read_ledgers
from hpctrain.report.attempts import Attempt, list_attempts, read_endings
from hpctrain.rundir import RunDir, read_json
from hpctrain.science.catalogue import SURVEY_PREFIX, survey_columns

Arrays = dict[str, np.ndarray]

_NAMED_ROWS = 1000
"""Rows of the catalogue of which the survey's columns are read: more than there are reconstructed spectra."""

_SPECTRA_KEYS = ("wavelength_aa", "flux", "ivar", "reconstruction", "covered", "target_id", "redshift")


@dataclass
class RunFacts:
    """All that is known of a run, read once.

    Parameters
    ----------
    run : RunDir
    now : float
        When it was read, seconds since 1970.
    history : History
    attempts : list of Attempt
    job, provenance : dict
    profile_text, script_text : str
        Empty where the file is absent.
    reconstructions, anomalies : dict of ndarray, optional
        ``results/*.npz``.
    latents : dict of ndarray, optional
        ``LATENT_VEC`` (N, S), ``redshift``, ``RECON_MSE``, ``ANOMALY_SCORE``, ``target_id``, ``STATUS`` (N,).
    ranks : list of RankState
        What the sensors of each rank have measured.
    unreadable : list of str
        What could not be read, and why.
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
        """The step after which the run is finished; 0 while no attempt has recorded it."""
        started = self.history.last("started") or {}
        return int(started.get("total_steps") or 0)

    @property
    def step(self) -> int:
        """The last step known to be done and not lost since."""
        return max([self.history.step, *(a.last_step for a in self.attempts[-1:])], default=0)

    @property
    def num_spectra(self) -> int:
        """Spectra seen in training, as far as is on record."""
        return max((int(record.get("samples_seen") or 0) for record in self.history.train), default=0)

    @property
    def submitted_at(self) -> float | None:
        """When the run was submitted, seconds since 1970; None where nobody wrote it down."""
        value = self.job.get("submitted_at")
        return float(value) if isinstance(value, int | float) else None


def gather_facts(run: RunDir, now: float | None = None) -> RunFacts:
    """Read a run directory.

    Parameters
    ----------
    run : RunDir
        A run in any state.
    now : float, optional
        Seconds since 1970; none is the clock.
    """
    now = time.time() if now is None else now
    history = read_history(run)
    heartbeats = [_dictionary(path) for path in sorted(run.heartbeats.glob("rank-*.json"))]
    leases = [_dictionary(path) for path in sorted(run.attempts.glob("[0-9]*.json"))]
    endings = list(read_endings(run.attempts / "ended.tsv"))
    facts = RunFacts(
        run=run,
        now=now,
        history=history,
        attempts=list_attempts(history, leases, heartbeats, endings, now),
        job=_dictionary(run.job),
        provenance=_dictionary(run.provenance),
        profile_text=_text(run.profile),
        script_text=_text(run.script),
        ranks=read_ledgers(run),
    )
    facts.reconstructions = _read_spectra(run.results / "reconstructions.npz", facts.unreadable)
    facts.anomalies = _read_spectra(run.results / "anomalies.npz", facts.unreadable)
    facts.latents = _read_latents(run.results / "latents.h5", facts.unreadable)
    if facts.reconstructions is not None and facts.latents is not None:
        _add_survey_columns(facts.reconstructions, facts.latents)
    return facts


def _dictionary(path: Path) -> dict[str, Any]:
    value = read_json(path, {})
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _read_spectra(path: Path, unreadable: list[str]) -> Arrays | None:
    if not path.exists():
        return None
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        unreadable.append(f"results/{path.name} cannot be read: {error}")
        return None
    missing = [name for name in _SPECTRA_KEYS if name not in arrays]
    if missing:
        unreadable.append(f"results/{path.name} lacks {', '.join(missing)}")
        return None
    return arrays


def _add_survey_columns(spectra: Arrays, latents: Arrays) -> None:
    """Say of the reconstructed spectra what the survey says of them: they are the first rows of the catalogue."""
    target_id = spectra["target_id"]
    if len(target_id) <= _NAMED_ROWS and np.array_equal(latents.get("target_id", ())[: len(target_id)], target_id):
        for name, values in latents.items():
            if name.startswith(SURVEY_PREFIX):
                spectra[name] = values[: len(target_id)]


def _read_latents(path: Path, unreadable: list[str]) -> Arrays | None:
    if not path.exists():
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = ("LATENT_VEC", "redshift", "RECON_MSE", "ANOMALY_SCORE", "target_id", "STATUS")
            arrays = {name: file[name][()] for name in names if name in file}
            num_rows = len(arrays.get("target_id", ()))
            arrays |= survey_columns(file, np.arange(min(num_rows, _NAMED_ROWS)))
    except OSError as error:
        unreadable.append(f"results/{path.name} cannot be read: {error}")
        return None
    if "LATENT_VEC" not in arrays or arrays["LATENT_VEC"].ndim != 2:
        unreadable.append(f"results/{path.name} has no LATENT_VEC of shape (N, S)")
        return None
    return arrays
