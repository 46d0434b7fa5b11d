"""Undo the changes of a submission on disk when it fails, is interrupted or is terminated."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from hpctrain.errors import SiteError

_BACKUP = ".before-resume"
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)


class Undo:
    """Record the directories and files that a submission makes or replaces, and restore them on request."""

    def __init__(self) -> None:
        self._made: list[Path] = []
        self._new: list[Path] = []
        self._replaced: list[tuple[Path, Path]] = []
        self.is_kept = False

    def will_make(self, folder: Path) -> None:
        """Record a run directory that is about to be made, and its parents that do not exist yet."""
        self._made += [path for path in [*reversed(folder.parents), folder] if not path.exists()]

    def will_write(self, file: Path) -> None:
        """Record a file that is about to be written.

        An existing file gets a second name. Restoring it is then a rename, which works on a full disk.
        """
        if not file.exists():
            self._new.append(file)
            return
        backup = file.with_name(f".{file.name}{_BACKUP}")
        backup.unlink(missing_ok=True)
        try:
            os.link(file, backup, follow_symlinks=False)
        except OSError:  # not every file system has hard links
            shutil.copy2(file, backup, follow_symlinks=False)
        self._replaced.append((file, backup))

    def keep(self) -> None:
        """Keep the new directories and files."""
        self.is_kept = True
        for _, backup in self._replaced:
            backup.unlink(missing_ok=True)
        self._made, self._new, self._replaced = [], [], []

    def put_back(self) -> None:
        """Remove the new directories and files, and restore the replaced files byte for byte."""
        for file, backup in self._replaced:
            with contextlib.suppress(FileNotFoundError):
                os.replace(backup, file)
            backup.unlink(missing_ok=True)  # a rename between two names of the same file removes neither
        for file in self._new:
            file.unlink(missing_ok=True)
        for folder in reversed(self._made):
            _remove(folder)


@contextlib.contextmanager
def undone_on_failure() -> Iterator[Undo]:
    """Yield an :class:`Undo` that restores everything unless the block reaches its end.

    TERM and HUP count as failures here: the process restores everything and then ends with exit code 128 + the number
    of the signal.

    Raises
    ------
    SiteError
        A file cannot be written.
    """
    undo = Undo()
    with _signals(_TERMINATING, _leave):
        try:
            yield undo
        except BaseException as error:
            with _signals((*_TERMINATING, signal.SIGINT), lambda number, frame: None):
                undo.put_back()
            if isinstance(error, SystemExit) and not undo.is_kept:
                print("terminated; nothing was submitted, everything is as it was before", file=sys.stderr)
            if isinstance(error, OSError):
                raise SiteError(f"cannot write the run directory: {error}") from error
            raise
        undo.keep()


@contextlib.contextmanager
def signals_wait() -> Iterator[list[int]]:
    """Deliver INT, TERM and HUP only after the block, so that no signal separates a submission from recording its id.

    Yields the list of the signals that have arrived so far.
    """
    arrived: list[int] = []
    try:
        with _signals((*_TERMINATING, signal.SIGINT), lambda number, frame: arrived.append(number)):
            yield arrived
    finally:
        for number in arrived[:1]:
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def _signals(numbers: tuple[int, ...], handler: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # nohup: HUP stays ignored
            signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _remove(path: Path) -> None:
    if not path.exists() or any(path.glob("attempts/*")) or path.is_symlink():
        return  # a job has begun here after all
    if (path / "profile.yaml").exists() or (path / "logs").exists():
        shutil.rmtree(path)
    elif not any(path.iterdir()):
        path.rmdir()
