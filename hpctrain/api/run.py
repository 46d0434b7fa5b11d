"""``hpctrain.Run``: one run directory in Python. No torch here, except in the model that a run gives."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import following
from hpctrain.api.notebook import html_table
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.launch.status import RunStatus, describe
from hpctrain.states import FINISHED, RUNNING

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.api.metrics import Metrics
    from hpctrain.api.model import Model
    from hpctrain.launch.queue import Queue
    from hpctrain.profile.schema import Profile
    from hpctrain.records import Record

_POLL_S = 1.0
_QUIET_POLLS = 3
"""Number of polls in a row in which a run must look ended: one strange answer of a queue proves nothing."""
_CATALOGUES = ("latents.h5", "predictions.h5")


class Run:
    """A run: its profile, state, metrics and results. Every access reads the run directory anew.

    Parameters
    ----------
    path : str or Path
        The run directory, or the name (its newest run), run id or job id of a run.
    runs_dir : str or Path
        Folder to search for all but a path.

    Attributes
    ----------
    path : Path
        The run directory.

    Raises
    ------
    ProfileError
        There is no such run; the message names the runs that exist.

    Examples
    --------
    >>> run = hpctrain.Run("desi-vae")  # doctest: +SKIP
    >>> plt.plot(run.metrics.train.step, run.metrics.train["loss"])  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, runs_dir: str | Path = DEFAULT_RUNS_DIR) -> None:
        self._run = find_run(str(Path(path).expanduser()), Path(runs_dir).expanduser())
        self.path = self._run.path

    @property
    def name(self) -> str:
        """Name of the run: ``name`` of its profile."""
        return self._run.name

    @property
    def id(self) -> str:
        """Run id, such as ``20261126-021957-569c``; it sorts by time."""
        return self._run.run_id

    @property
    def profile(self) -> Profile:
        """The resolved profile, typed: ``run.profile.train.learning_rate``."""
        from hpctrain.profile.load import load_profile

        return load_profile(self._run.profile)

    @property
    def status(self) -> RunStatus:
        """State, step, loss, attempts, checkpoint and more, as ``hpctrain status`` shows them."""
        return describe(self._run)

    @property
    def state(self) -> str:
        """``pending``, ``running``, ``requeued``, ``finished``, ``stopped``, ``cancelled``, ``failed``, ``lost``..."""
        return self.status.state

    @property
    def metrics(self) -> Metrics:
        """What was recorded so far: ``run.metrics.train["loss"]``, ``run.metrics.evaluation.step``."""
        from hpctrain.api.metrics import Metrics

        return Metrics(self._run)

    @property
    def events(self) -> list[Record]:
        """Starts, stops, saved checkpoints and so on, oldest first."""
        return self.metrics.events

    @property
    def predictions(self) -> Table | None:
        """What the finished model says about the held-out samples; None, with a warning that says why, if nothing."""
        from hpctrain.api.tables import read_table

        for name in _CATALOGUES:
            if (self._run.results / name).is_file():
                return read_table(self._run.results / name)
        status = self.status
        why = "its data have no held-out samples, or none of them can be used"
        if status.state != FINISHED:
            why = f"the run is {status.state}, and predictions are written at its end"
        warnings.warn(f"{self.path}: there are no predictions: {why}", stacklevel=2)
        return None

    @property
    def validation(self) -> Record | None:
        """What ``hpctrain validate`` has written: metrics with intervals and more; None if it has not been run."""
        from hpctrain.rundir import read_json

        found = read_json(self._run.validation)
        return found if isinstance(found, dict) else None

    def model(self, device: str = "cpu", checkpoint: str | int | None = None) -> Model:
        """Return the model of the run: the finished one, or that of the newest checkpoint.

        Parameters
        ----------
        device, checkpoint
            As of :func:`hpctrain.load`.

        Raises
        ------
        CheckpointError
            The run has no model yet, or it is damaged.
        """
        from hpctrain.api.loading import load

        return load(self.path, device, checkpoint)

    def report(self) -> Path:
        """Write the HTML report and return its path.

        Raises
        ------
        ProfileError
            The file cannot be written.
        """
        from hpctrain.report.write import write_report

        with following(self.path):
            return write_report(self._run)

    def logs(self, rank: int | None = 0, attempt: int | None = None, lines: int | None = None) -> str:
        """Return the log of a rank.

        Parameters
        ----------
        rank : int or None
            None means the log of the batch script or the supervisor.
        attempt : int, optional
            Number of the attempt, from 1; the newest by default.
        lines : int, optional
            Return only the last lines.

        Raises
        ------
        ProfileError
            There is no such log.
        """
        from hpctrain.launch.logs import text_of

        return "".join(text_of(self._run, rank, attempt, lines))

    def wait(self, timeout_s: float | None = None, poll_s: float = _POLL_S) -> RunStatus:
        """Wait until the run has ended.

        Parameters
        ----------
        timeout_s : float, optional
            Wait no longer than this [s]; without it, as long as it takes.
        poll_s : float
            Time between two looks at the run [s].

        Returns
        -------
        RunStatus
            When the run has ended, or after `timeout_s`; ``status.state`` says which.
        """
        from hpctrain.launch.queue import Queue

        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        queue, quiet = Queue(), 0
        while True:
            status = self._describe(queue)
            quiet = 0 if status.is_active else quiet + 1
            left_s = None if deadline is None else deadline - time.monotonic()
            if status.state == FINISHED or quiet >= _QUIET_POLLS or (left_s is not None and left_s <= 0):
                return status
            time.sleep(poll_s if left_s is None else min(poll_s, left_s))

    def resume(
        self, set: Mapping[str, Any] | Sequence[str] = (), cluster: str | None = None, *, memory: bool = True
    ) -> Run:
        """Submit the run again, as ``hpc-submit --resume``: it continues exactly from its newest checkpoint.

        Parameters
        ----------
        set : mapping or sequence of str
            Changes, as of :func:`hpctrain.submit`; ``{"train.epochs": 20}`` trains a finished run further.
        cluster : str, optional
            Where to run, instead of ``launch.cluster``.
        memory : bool
            Estimate the memory first if the profile names a platform.

        Returns
        -------
        Run
            The same run. If it is finished and there is nothing left to do, a warning says so.

        Raises
        ------
        ProfileError
            The run is active, or the changes do not fit its checkpoint; the message lists all reasons.
        SiteError
            The cluster refuses the job; the run is as it was before.
        """
        from hpctrain.api.submission import resume

        return resume(self, set, cluster, memory)

    def cancel(self) -> str:
        """Cancel the run, which saves its state first, and return what was done.

        Raises
        ------
        SiteError
            The run cannot be cancelled from this host, or the platform refuses.
        """
        from hpctrain.launch.stop import cancel

        return cancel(self._run)

    def _describe(self, queue: Queue | None = None, ask_queue: bool = True) -> RunStatus:
        return describe(self._run, queue=queue, ask_queue=ask_queue)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        from hpctrain.launch.present import progress_line

        return f"<hpctrain.Run {progress_line(self._describe(ask_queue=False))}>"

    def _repr_html_(self) -> str:
        from hpctrain.launch.present import steps
        from hpctrain.words import format_number, format_short_duration

        status = self._describe(ask_queue=False)
        detail = f" ({status.detail})" if status.detail and status.state != RUNNING else ""
        rows = [
            ("run", f"{self.name}/{self.id}"),
            ("state", f"{status.state}{detail}"),
            ("step", steps(status)),
            ("loss", format_number(status.loss, "")),
            ("validation loss", format_number(status.validation_loss, "")),
            ("time left", "" if status.eta_s is None else format_short_duration(status.eta_s)),
            ("attempts", status.num_attempts),
            *(("warning", text) for text in status.warnings),
            ("path", self.path),
        ]
        return html_table([row for row in rows if row[1] != ""])
