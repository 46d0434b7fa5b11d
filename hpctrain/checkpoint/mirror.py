"""A second home for a run, in an object store: whole checkpoints, and the records that explain them.

::

    s3://bucket/prefix/<name>/<run id>/
        checkpoints/step-00001200/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json (last)
        profile.yaml  job.json  metrics.jsonl  attempts/  model/  results/  ...

An object store has neither renames nor directories. So the manifest goes last: a checkpoint without one does not exist.
On the way back every byte is verified against the manifest, and the next older checkpoint takes the place of a damaged
one. fsspec speaks the protocol of the store; credentials come from the environment.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hpctrain.checkpoint.whole import MANIFEST, Rejected, checkpoint_name, checkpoint_path, list_checkpoints, verify
from hpctrain.credentials.urls import without_secrets
from hpctrain.errors import CheckpointError
from hpctrain.profile.remote import how_to_install, missing_package, scheme_of
from hpctrain.rundir import RunDir, fsync_directory

CHECKPOINTS = "checkpoints"
_STEP = re.compile(r"step-(\d{8,})")
_NOT_MIRRORED = re.compile(r"(^|/)(checkpoints|heartbeat|figures|tensorboard)(/|$)|(^|/)\.|rendezvous-|\.lock$")
"""What stays where the run is: signs of life, locks, hidden files, and what can be made from the records."""
_WRITTEN_BY_THE_LAUNCHER = ("profile.yaml", "job.json")
"""What a run directory knows better than its mirror: the newest submission."""
_S3_OPTIONS = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}


@dataclass(frozen=True)
class Pulled:
    """What came back from a mirror.

    Parameters
    ----------
    step : int or None
        Step of the checkpoint; None if there was no whole one, or the run directory had a newer one already.
    records : int
        Number of other files.
    rejected : list of Rejected
        Checkpoints of the mirror that are damaged.
    """

    step: int | None
    records: int
    rejected: list[Rejected]


class Mirror:
    """The copy of one run in an object store, or on another file system.

    Parameters
    ----------
    url : str
        Of the run: ``s3://bucket/prefix/<name>/<run id>``; everything that fsspec knows, also ``file:///...``.

    Raises
    ------
    CheckpointError
        A package is missing, or the address is wrong.
    """

    def __init__(self, url: str) -> None:
        self.shown = without_secrets(url) if scheme_of(url) else url
        if scheme_of(url) and (package := missing_package(url)) is not None:
            raise CheckpointError(f"{self.shown}: {how_to_install(package)}")
        try:
            import fsspec.core

            options = _S3_OPTIONS if scheme_of(url) in ("s3", "s3a") else {}
            self._system, self._root = fsspec.core.url_to_fs(
                url.rstrip("/"), use_listings_cache=False, skip_instance_cache=True, **options
            )
        except (ImportError, ValueError) as error:
            raise CheckpointError(f"{self.shown}: {error}") from None
        self._root = self._root.rstrip("/")

    @classmethod
    def of(cls, run: RunDir, place: str) -> Mirror:
        """Return the mirror of a run below `place`, the value of ``checkpoint.mirror``."""
        return cls(f"{place.rstrip('/')}/{run.name}/{run.run_id}")

    # Every store has errors of its own, which no base class joins; those who call these methods catch Exception.

    def exists(self) -> bool:
        """Return whether the mirror has anything of this run."""
        self._system.invalidate_cache()
        return bool(self._system.exists(self._root))

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that have their manifest, newest first."""
        found = self._glob(f"{CHECKPOINTS}/step-*/{MANIFEST}")
        names = (PurePosixPath(path).parent.name for path in found)
        return sorted((int(match[1]) for name in names if (match := _STEP.fullmatch(name))), reverse=True)

    def push_checkpoint(self, path: Path) -> int:
        """Copy a whole checkpoint into the store, its manifest last; return its size [byte]."""
        files = sorted(path.iterdir(), key=lambda file: file.name == MANIFEST)
        for file in files:
            self._put(file, f"{CHECKPOINTS}/{path.name}/{file.name}")
        return sum(file.stat().st_size for file in files)

    def drop_checkpoints(self, keep: set[int]) -> None:
        """Remove the checkpoints whose steps are not in `keep`, each manifest first."""
        for step in self.steps():
            if step not in keep:
                folder = f"{self._root}/{CHECKPOINTS}/{checkpoint_name(step)}"
                self._system.rm(f"{folder}/{MANIFEST}")
                self._system.rm(folder, recursive=True)

    def push_records(self, run: RunDir, known: dict[str, tuple[int, int]]) -> int:
        """Copy the records of a run that have changed since they are `known`; return how many.

        Parameters
        ----------
        run : RunDir
        known : dict
            Size and time of each file as it was copied last; updated.
        """
        count = 0
        for file in records_of(run):
            name = file.relative_to(run.path).as_posix()
            try:
                status = file.stat()
                state = (status.st_size, status.st_mtime_ns)
                if known.get(name) != state:
                    self._put(file, name)
                    known[name] = state
                    count += 1
            except FileNotFoundError:
                continue  # a file that was renamed or removed meanwhile
        return count

    def push_file(self, run: RunDir, file: Path) -> None:
        """Copy one file of the run directory."""
        self._put(file, file.relative_to(run.path).as_posix())

    def pull_checkpoint(self, run: RunDir, newer_than: int = -1) -> tuple[int | None, list[Rejected]]:
        """Bring the newest whole checkpoint into the run directory.

        Parameters
        ----------
        run : RunDir
        newer_than : int
            Bring none that is not newer than this step.

        Returns
        -------
        step : int or None
        rejected : list of Rejected
            Newer ones that are damaged in the store.
        """
        rejected: list[Rejected] = []
        for step in self.steps():
            if step <= newer_than:
                break
            reason = self._bring(run, step)
            if reason is None:
                return step, rejected
            rejected.append(Rejected(Path(f"{self.shown}/{CHECKPOINTS}/{checkpoint_name(step)}"), reason))
        return None, rejected

    def pull_records(self, run: RunDir, replace: bool = False) -> int:
        """Bring all records into the run directory; those that are there stay unless `replace`. Return how many."""
        count = 0
        for path in self._system.find(self._root):
            name = PurePosixPath(path).relative_to(self._root).as_posix()
            here = run.path / name
            is_ours = here.exists() and (not replace or name in _WRITTEN_BY_THE_LAUNCHER)
            if ".." in name.split("/") or _NOT_MIRRORED.search(name) or is_ours:
                continue
            here.parent.mkdir(parents=True, exist_ok=True)
            temporary = here.with_name(f".{here.name}.{_here()}")
            self._system.get_file(path, str(temporary))
            os.replace(temporary, here)
            count += 1
        return count

    def _bring(self, run: RunDir, step: int) -> str | None:
        """Bring one checkpoint; return why it is not whole, or None."""
        final = checkpoint_path(run, step)
        # Verified under the name that it will have: the manifest knows its step.
        folder = run.checkpoints / f".mirror-{_here()}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / final.name).mkdir(parents=True)
        try:
            for path in self._glob(f"{CHECKPOINTS}/{final.name}/*"):
                self._system.get_file(path, str(folder / final.name / PurePosixPath(path).name))
            reason = verify(folder / final.name)
            if reason is None:
                for file in (folder / final.name).iterdir():
                    _fsync(file)
                fsync_directory(folder / final.name)
                if final.exists():
                    os.rename(final, folder / "replaced")
                os.rename(folder / final.name, final)
                fsync_directory(run.checkpoints)
            return reason
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _glob(self, pattern: str) -> list[str]:
        self._system.invalidate_cache()
        return [str(path) for path in self._system.glob(f"{self._root}/{pattern}")]

    def _put(self, file: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        if "file" in _protocols(self._system):
            # A file system has folders, and a reader would see half a file; an object appears whole.
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            temporary = f"{target}.{_here()}.part"
            shutil.copyfile(file, temporary)
            os.replace(temporary, target)
        else:
            self._system.put_file(str(file), target)


def pull(mirror: Mirror, run: RunDir) -> Pulled:
    """Bring a run back from its mirror, for a machine that has nothing else, or an older state.

    A run directory that has the same or a newer whole checkpoint stays as it is.

    Raises
    ------
    CheckpointError
        The store cannot be read.
    """
    try:
        newest = next((step for step, path in list_checkpoints(run) if verify(path) is None), -1)
        if not mirror.exists():
            return Pulled(None, 0, [])
        run.make_folders()
        step, rejected = mirror.pull_checkpoint(run, newer_than=newest)
        is_fresh = not run.metrics.exists()
        records = mirror.pull_records(run, replace=step is not None) if step is not None or is_fresh else 0
    except Exception as error:  # each store has errors of its own
        raise CheckpointError(f"{mirror.shown}: cannot be read: {describe(error)}") from None
    return Pulled(step, records, rejected)


def push_files(mirror: Mirror, run: RunDir, files: Iterable[Path]) -> None:
    """Copy some files of a run directory.

    Raises
    ------
    CheckpointError
        The store cannot be reached.
    """
    try:
        for file in files:
            mirror.push_file(run, file)
    except Exception as error:  # each store has errors of its own
        raise CheckpointError(f"{mirror.shown}: cannot be written: {describe(error)}") from None


def push_if_newer(mirror: Mirror, run: RunDir, step: int) -> bool:
    """Copy the checkpoint of a step, and the records of its run, unless the mirror has one as new.

    Parameters
    ----------
    mirror : Mirror
    run : RunDir
    step : int
        Of the newest whole checkpoint of the run directory.

    Returns
    -------
    bool
        Whether anything was copied.

    Raises
    ------
    CheckpointError
        The store cannot be reached.
    """
    try:
        if any(there >= step for there in mirror.steps()):
            return False
        mirror.push_records(run, {})
        mirror.push_checkpoint(checkpoint_path(run, step))
    except Exception as error:  # each store has errors of its own
        raise CheckpointError(f"{mirror.shown}: cannot take the checkpoint of step {step}: {describe(error)}") from None
    return True


def records_of(run: RunDir) -> Iterator[Path]:
    """Yield the files of a run that a mirror has beside its checkpoints."""
    for folder, folders, files in os.walk(run.path):
        relative = Path(folder).relative_to(run.path)
        folders[:] = sorted(name for name in folders if not _NOT_MIRRORED.search((relative / name).as_posix()))
        for name in sorted(files):
            path = Path(folder) / name
            if not _NOT_MIRRORED.search((relative / name).as_posix()) and not path.is_symlink():
                yield path


def describe(error: BaseException) -> str:
    """Return an error of a store in one line, without addresses that may hold a secret."""
    text = re.sub(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"']+", lambda found: without_secrets(found[0]), str(error)).split(
        "\n", 1
    )[0]
    return f"{type(error).__name__}: {text}"[:300]


def _here() -> str:
    """Return a name for this process: the first one of each container may have the same number."""
    return f"{os.uname().nodename}.{os.getpid()}"


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
