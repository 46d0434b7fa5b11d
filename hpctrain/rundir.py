"""The run directory: where launcher, trainer, status and report meet.

::

    runs/<name>/<run id>/
      profile.yaml        the resolved profile, the only configuration the trainer reads
      job.json            what was submitted: cluster, command, job ids of all submissions
      job.sh              the rendered batch script
      provenance.json     git commit and diff, package versions, host, data fingerprints
      logs/               stdout and stderr, one file per attempt and rank
      attempts/           0001.json ...: one numbered lease per attempt; the highest number owns the run;
                          bad-nodes.tsv: nodes that failed, when and how
      heartbeat/          rank-0000.json ...: what each rank did last, and when
      monitor/            rank-0000.json ...: what each rank measured: newest values, energy of every attempt
      metrics.jsonl       the truth about progress; every tracker is an exporter of it
      tensorboard/        event files
      checkpoints/        step-00001200/ ...
      model/              the finished model: model.safetensors, model.json
      results/            reconstructions.npz, latents.h5, anomalies.npz of held-out spectra
      report.html

It can be read, moved and resumed without the launcher and without a database.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpctrain.errors import HpctrainError

_BLOCK = 1 << 22
"""Bytes of a file that are hashed at a time."""


def new_run_id(now: float | None = None) -> str:
    """Return a run id that sorts by time and never collides, such as ``20261121-143000-7f3a``."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{stamp}-{secrets.token_hex(2)}"


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable, not only the bytes of its files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a whole file or none: temporary sibling, fsync, rename, fsync of the directory.

    Parameters
    ----------
    path : Path
        Where the text ends up; an existing file is replaced.
    text : str
        Contents, written as UTF-8.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_atomic(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """Read a JSON file; `default` where it is absent or (half written by an older tool) not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return default


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file; a torn last line (a killed writer's) is passed over."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
        for line in stream:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


class RunDir:
    """Paths and record formats of one run directory.

    Parameters
    ----------
    path : str or Path
        The directory ``runs/<name>/<run id>``; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
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
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.results = self.path / "results"
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
    def create(cls, runs_dir: str | Path, name: str, run_id: str | None = None) -> RunDir:
        """Make a new, empty run directory and return it.

        Raises
        ------
        HpctrainError
            The directory exists already.
        """
        run = cls(Path(runs_dir) / name / (run_id or new_run_id()))
        try:
            run.path.mkdir(parents=True, exist_ok=False)
        except FileExistsError as error:
            raise HpctrainError(f"{run.path}: exists already; a run directory is never used twice") from error
        run.make_folders()
        return run

    def make_folders(self) -> None:
        """Make the folders every attempt needs; harmless when they are there."""
        for folder in (self.logs, self.attempts, self.heartbeats, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)

    def heartbeat(self, rank: int) -> Path:
        """Path of the heartbeat of one rank."""
        return self.heartbeats / f"rank-{rank:04d}.json"

    def monitor_file(self, rank: int) -> Path:
        """Path of what one rank has measured."""
        return self.monitor / f"rank-{rank:04d}.json"

    def read_metrics(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the records of ``metrics.jsonl``, all or of one kind (``train``, ``eval``, ``event``, ``monitor``)."""
        for record in read_json_lines(self.metrics):
            if kind is None or record.get("kind") == kind:
                yield record

    def newest_attempt(self) -> int:
        """Return the highest attempt number taken so far, that of the run's owner; 0 before the first."""
        return max((int(path.stem) for path in self.attempts.glob("[0-9]*.json")), default=0)

    def read_attempts(self) -> list[dict[str, Any]]:
        """Return the leases taken so far, oldest first."""
        return [read_json(path, {}) for path in sorted(self.attempts.glob("[0-9]*.json"))]


def note_bad_nodes(run: RunDir, nodes: list[str], job_id: str | None, reason: str = "preflight") -> None:
    """Add nodes to ``attempts/bad-nodes.tsv``: epoch seconds, node, job, reason.

    Parameters
    ----------
    run : RunDir
    nodes : list of str
        As Slurm names them.
    job_id : str or None
    reason : str
        One word.
    """
    lines = "".join(f"{time.time():.0f}\t{node}\t{job_id}\t{reason}\n" for node in nodes)
    with open(run.bad_nodes, "a", encoding="utf-8") as stream:  # one write, so lines of two jobs never mix
        stream.write(lines)
