"""Check whether the columns of files are unchanged since they were written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.samples.find import find_files
from hpctrain.samples.fingerprint import CHANGED_SINCE, NOT_HASHED, ColumnHash, datasets, stored_hashes
from hpctrain.samples.library import open_library_file
from hpctrain.storage.reading import stored_blocks


@dataclass(frozen=True)
class Verdict:
    """The columns of one file compared with their hashes.

    Parameters
    ----------
    path : Path
    state : str
        State of the stored hashes (:class:`hpctrain.samples.fingerprint.StoredHashes`).
    good, without : tuple of str
        Columns that agree with their hash, and those without one.
    wrong : tuple of str
        One line for each other column.
    """

    path: Path
    state: str
    good: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the file has hashes and all of them agree."""
        return bool(self.good) and not self.wrong

    def __str__(self) -> str:
        if self.state.startswith(NOT_HASHED):
            return f"{self.path}: {self.state}; `hpctrain data repack` writes SHA-256 with each column"
        parts = [f"{len(self.good)} of {len(self.good) + len(self.wrong)} hashed columns are unchanged"]
        if not self.wrong and self.state == CHANGED_SINCE:
            parts.append("its modification time differs, but the values are the same")
        if self.without:
            parts.append(f"not hashed: {', '.join(sorted(self.without))}")
        return "\n".join([f"{self.path}: " + "; ".join(parts), *(f"  {line}" for line in self.wrong)])


def verify_file(path: Path, on_progress: Callable[[str, int, int], None] | None = None) -> Verdict:
    """Read a file and compare each column with its hash.

    Raises
    ------
    DataError
        The file cannot be opened.
    """
    stored = stored_hashes(path)
    with open_library_file(path) as library:
        sizes = {name: dataset.nbytes for name, dataset in datasets(library).items()}
    if not stored.columns:
        return Verdict(path, stored.state)
    total, done = sum(sizes[name] for name in stored.columns), 0
    good, wrong = [], []
    for name, expected in stored.columns.items():
        column = ColumnHash()
        try:
            for values in stored_blocks(path, name):
                column.update(values)
                done += values.nbytes
                if on_progress is not None:
                    on_progress("reading", done, total)
        except DataError as error:
            wrong.append(str(error))
            continue
        if column.hexdigest() == expected:
            good.append(name)
        else:
            wrong.append(f"{path}: {name}: differs from its SHA-256: changed or damaged since it was written")
    return Verdict(path, stored.state, tuple(good), tuple(wrong), tuple(sizes.keys() - stored.columns.keys()))


def verify_files(
    files: Sequence[str], on_progress: Callable[[str, int, int], None] | None = None
) -> tuple[list[str], bool]:
    """Verify all files that match names and patterns.

    Parameters
    ----------
    files : sequence of str
    on_progress : callable, optional

    Returns
    -------
    lines : list of str
        One line for each file.
    is_good : bool
        Whether all of them have hashes and agree with them.

    Raises
    ------
    DataError
        Files are missing or cannot be opened; the message lists all of them.
    """
    verdicts, problems = [], []
    for path in find_files(list(files), Path()):
        try:
            verdicts.append(verify_file(path, on_progress))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join([*(str(verdict) for verdict in verdicts), *problems]))
    return [str(verdict) for verdict in verdicts], all(verdict.is_good for verdict in verdicts)
