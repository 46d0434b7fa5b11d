"""The run directory, which launcher, trainer, status and report share.

::

    runs/<name>/<run id>/
      profile.yaml        the resolved profile, the only configuration the trainer reads
      job.json            the job: cluster, command, job ids of all submissions
      job.sh              the rendered batch script
      provenance.json     git commit and diff, package versions, host, data fingerprints
      logs/               stdout and stderr, one file per attempt and rank
      attempts/           0001.json ...: one numbered lease per attempt; the highest number owns the run;
                          bad-nodes.tsv: nodes that failed, with time and cause
      heartbeat/          rank-0000.json ...: last step and state of each rank, with time
      monitor/            rank-0000.json ...: measurements of each rank: newest values, energy of every attempt
      metrics.jsonl       the authoritative record of progress; every tracker exports from it
      tensorboard/        event files
      traces/             rank-0000.trace.json.gz, rank-0000.summary.json: some steps, recorded by the profiler
      figures/            reconstruction/0/step-00000500.png ...: what MLflow and W&B show; only with one of them
      track/              mlflow.json, wandb.json: ids of the tracked run, and what W&B has received
      checkpoints/        step-00001200/ ...
      model/              the finished model: model.safetensors, model.json
      test-looks.jsonl    who computed numbers on the test side of the split, and when
      results/            what the model says about held-out samples; validation.json: how good that is
      report.html

A user can read, move and resume it without the launcher and without a database.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpctrain.access import following, make
from hpctrain.errors import HpctrainError
from hpctrain.files import NewFile, open_append, put_aside, read_lines, read_text
from hpctrain.files import fsync_directory as fsync_directory
from hpctrain.records import HEARTBEAT, JOB, LEASE, SUBMISSION, Record, metric_record, parse_json, well_typed

_BLOCK = 1 << 22
"""Number of bytes of a file to hash at a time."""
_ATTEMPT_FILE = re.compile(r"^(\d{4,9})\.json$")
_RUN_ID = re.compile(r"\d{8}-\d{6}-")
_RANK_FILE = re.compile(r"^rank-\d{4,9}\.json$")


def new_run_id(now: float | None = None) -> str:
    """Return a run id that sorts by time and never collides, such as ``20261121-143000-7f3a``."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{stamp}-{secrets.token_hex(2)}"


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a compressed ``.npz``, whole or not at all; its folder is made where it is missing."""
    import numpy as np

    path.parent.mkdir(exist_ok=True)
    with NewFile(path, durable=False, replace_folders=True) as new:
        np.savez_compressed(new.stream, **arrays)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(
    path: Path, text: str, *, durable: bool = True, mode: int = 0o666, replace_folders: bool = False
) -> None:
    """Write a whole file or none: a new file with a random name, fsync, rename, fsync of the directory.

    Parameters
    ----------
    path : Path
        Path of the file; an existing file is replaced.
    text : str
        Contents, written as UTF-8.
    durable, mode, replace_folders
        As of :class:`~hpctrain.files.NewFile`.
    """
    with NewFile(path, durable=durable, mode=mode, replace_folders=replace_folders) as new:
        new.stream.write(text.encode("utf-8"))


def write_json(path: Path, value: Any, **options: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; options as of :func:`write_atomic`."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n", **options)


def read_json(path: Path, default: Any = None) -> Any:
    """Read a JSON file; return `default` if it is absent, unreadable, not a regular file or not JSON."""
    try:
        return parse_json(read_text(path))
    except (OSError, ValueError):
        return default


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield the JSON objects of a JSON-lines file, one at a time; skip torn and damaged lines."""
    try:
        for line in read_lines(path):
            record = _record_of(line)
            if record is not None:
                yield record
    except OSError:
        return


def _record_of(line: bytes) -> Record | None:
    try:
        record = parse_json(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class RunDir:
    """Paths and record formats of one run directory.

    Parameters
    ----------
    path : str or Path
        The directory ``runs/<name>/<run id>``; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        if self.path.is_symlink():  # such as `latest`: the run is the target of the link
            self.path = Path(os.path.realpath(self.path))
        self.profile = self.path / "profile.yaml"
        self.job = self.path / "job.json"
        self.script = self.path / "job.sh"
        self.provenance = self.path / "provenance.json"
        self.logs = self.path / "logs"
        self.attempts = self.path / "attempts"
        self.bad_nodes = self.attempts / "bad-nodes.tsv"
        self.heartbeats = self.path / "heartbeat"
        self.monitor = self.path / "monitor"
        self.metrics = self.path / "metrics.jsonl"
        self.superseded_metrics = self.logs / "superseded.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.traces = self.path / "traces"
        self.figures = self.path / "figures"
        self.track = self.path / "track"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.results = self.path / "results"
        self.validation = self.results / "validation.json"
        self.test_looks = self.path / "test-looks.jsonl"
        self.report = self.path / "report.html"

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        return self.path.parent.name

    @classmethod
    def create(
        cls,
        runs_dir: str | Path,
        name: str,
        run_id: str | None = None,
        access: str | None = None,
        group: str | None = None,
    ) -> RunDir:
        """Make a new, empty run directory and return it; `access` and `group` as of :func:`hpctrain.access.make`.

        Raises
        ------
        HpctrainError
            The directory exists already.
        """
        run = cls(Path(runs_dir) / name / (run_id or new_run_id()))
        try:
            make(run.path, access, group)
        except FileExistsError as error:
            raise HpctrainError(f"{run.path}: exists already; a run directory is never used twice") from error
        with following(run.path):
            run.make_folders()
        return run

    def make_folders(self) -> None:
        """Make the folders that every attempt needs; a file with the name of such a folder is renamed."""
        for folder in (self.logs, self.attempts, self.heartbeats, self.checkpoints):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                put_aside(folder)
                folder.mkdir(exist_ok=True)

    def heartbeat(self, rank: int) -> Path:
        """Return the path of the heartbeat of one rank."""
        return self.heartbeats / f"rank-{rank:04d}.json"

    def monitor_file(self, rank: int) -> Path:
        """Return the path of the measurements of one rank."""
        return self.monitor / f"rank-{rank:04d}.json"

    def trace_files(self, rank: int) -> tuple[Path, Path]:
        """Return the paths of the trace of one rank, and of its summary."""
        stem = self.traces / f"rank-{rank:04d}"
        return stem.with_suffix(".trace.json.gz"), stem.with_suffix(".summary.json")

    def read_metrics(self, kind: str | None = None) -> Iterator[Record]:
        """Yield the records of ``metrics.jsonl``, all or of one kind (``train``, ``eval``, ``event``, ``monitor``)."""
        for value in read_json_lines(self.metrics):
            record = metric_record(value)
            if record is not None and kind in (None, record["kind"]):
                yield record

    def num_attempts(self) -> int:
        """Return the number of leases so far."""
        return len(self._attempt_files())

    def newest_attempt(self) -> int:
        """Return the highest attempt number so far, that of the run's owner; 0 before the first attempt."""
        return max(self._attempt_files(), default=0)

    def read_attempts(self) -> list[Record]:
        """Return the leases so far, oldest first; a damaged lease has only its number."""
        files = self._attempt_files()
        return [{**well_typed(read_json(files[number]), LEASE), "attempt": number} for number in sorted(files)]

    def _attempt_files(self) -> dict[int, Path]:
        return {int(match[1]): path for path, match in _matching(self.attempts, _ATTEMPT_FILE)}

    def read_heartbeats(self) -> list[Record]:
        """Return the last heartbeat of every rank, of any attempt, by rank."""
        files = sorted(path for path, _ in _matching(self.heartbeats, _RANK_FILE))
        beats = [well_typed(read_json(path), HEARTBEAT) for path in files]
        return [beat for beat in beats if "rank" in beat]

    def monitor_files(self) -> list[Path]:
        """Return the files with the measurements of the ranks, by rank."""
        return sorted(path for path, _ in _matching(self.monitor, _RANK_FILE))

    def read_job(self) -> Record:
        """Return ``job.json``; an empty record if it is damaged or the run was started without the launcher."""
        job = well_typed(read_json(self.job), JOB)
        if "submissions" in job:
            submissions = [well_typed(entry, SUBMISSION) for entry in job["submissions"]]
            job["submissions"] = [entry for entry in submissions if "job_id" in entry]
        return job


def _matching(folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield the entries of a folder whose name matches; yield nothing if the folder is missing or may not be read.

    Other errors, such as those of a file system that is gone, are raised: they do not mean that the folder is empty.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        match = pattern.match(name)
        if match:
            yield folder / name, match


def note_bad_nodes(run: RunDir, nodes: list[str], job_id: str | None, reason: str = "preflight") -> None:
    """Add nodes to ``attempts/bad-nodes.tsv``: epoch seconds, node, job, reason.

    Parameters
    ----------
    run : RunDir
    nodes : list of str
        Names of the nodes in Slurm.
    job_id : str or None
    reason : str
        The cause, as one word.
    """
    lines = "".join(f"{time.time():.0f}\t{node}\t{job_id}\t{reason}\n" for node in nodes)
    descriptor = open_append(run.bad_nodes)
    try:
        os.write(descriptor, lines.encode("utf-8", "replace"))  # one write, so lines of two jobs never mix
    finally:
        os.close(descriptor)


def note_test_look(run: RunDir, command: str, num_samples: int) -> None:
    """Add a line to ``test-looks.jsonl``: the test side of the split says less each time that somebody looks.

    Parameters
    ----------
    run : RunDir
        A folder that is not a run directory, or that may not be written, gets no line.
    command : str
        What computed numbers, such as ``hpctrain export``.
    num_samples : int
        Number of samples of the test side.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    look = {"time": time.time(), "user": user, "host": socket.gethostname(), "command": command, "samples": num_samples}
    if not is_run(run.path):
        return
    with contextlib.suppress(OSError):
        descriptor = open_append(run.test_looks)
        try:
            os.write(descriptor, (json.dumps(look) + "\n").encode())  # one write, so lines of two jobs never mix
        finally:
            os.close(descriptor)


def is_run(path: Path) -> bool:
    """Return whether `path` is a run directory, which contains at least one of three files."""
    return any(os.path.lexists(path / name) for name in ("profile.yaml", "job.json", "metrics.jsonl"))


def all_runs(runs_dir: Path) -> list[RunDir]:
    """Return all runs below `runs_dir`, newest first (run ids sort by time)."""
    return list(newest_runs(runs_dir))


def newest_runs(runs_dir: Path, is_meant: Callable[[Path], bool] | None = None) -> Iterator[RunDir]:
    """Yield the runs below `runs_dir`, newest first, and ask the disk about a folder only when its turn comes.

    The order follows from the names alone. So whoever wants twenty of ten thousand runs costs a parallel file system
    one listing per name and some twenty questions. `is_meant` says whether the run of a path is wanted.
    """
    for folder in _newest_folders(runs_dir):
        if (is_meant is None or is_meant(folder)) and (is_run(folder) or _is_locked_run(folder)):
            yield RunDir(folder)


def _newest_folders(runs_dir: Path) -> list[Path]:
    """Return the folders two levels below, the newest run id first; the target of a link, such as `latest`, once."""
    found: dict[str, None] = {}
    for upper in _entries(str(runs_dir.absolute())):
        if upper.is_dir():
            for entry in _entries(upper.path):
                if entry.is_symlink():
                    found[os.path.realpath(entry.path)] = None
                elif entry.is_dir(follow_symlinks=False):
                    found[entry.path] = None
    return [Path(path) for path in sorted(found, key=os.path.basename, reverse=True)]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; the listing tells folders from links and files, without a question about each."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _is_locked_run(folder: Path) -> bool:
    """Return whether the name of a folder is a run id and its entries may not be read."""
    return _RUN_ID.match(folder.name) is not None and folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def job_ids(run: RunDir) -> list[str]:
    """Return the ids of all jobs that this run was submitted as, oldest first."""
    return [submission["job_id"] for submission in run.read_job().get("submissions", [])]


def runs_called(text: str, runs_dir: Path) -> list[RunDir]:
    """Return the runs below `runs_dir` that have this run id, or this name, or this job id; newest first."""
    for is_meant in (lambda path: path.name == text, lambda path: path.parent.name == text):
        if found := list(newest_runs(runs_dir, is_meant)):
            return found
    return list(_of_job(text, runs_dir))


def newest_called(text: str, runs_dir: Path) -> RunDir | None:
    """Return the first one of :func:`runs_called`, without a look at those that are older than it."""
    for is_meant in (lambda path: path.name == text, lambda path: path.parent.name == text):
        if (found := next(newest_runs(runs_dir, is_meant), None)) is not None:
            return found
    return next(_of_job(text, runs_dir), None)


def _of_job(job_id: str, runs_dir: Path) -> Iterator[RunDir]:
    return (run for run in newest_runs(runs_dir) if job_id in job_ids(run))
