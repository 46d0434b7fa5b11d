"""Rules of ``data``: files that do not exist, impossible splits, implausible spectra.

The rules of ``data.stage`` and of remote files are in ``rules_stage.py``.
"""

from __future__ import annotations

import glob
from pathlib import Path

from hpctrain.profile.families import kind_of
from hpctrain.profile.files import matching_files
from hpctrain.profile.inspection import ERROR, WARNING, Inspection
from hpctrain.profile.judge import Judge
from hpctrain.profile.near import nearest
from hpctrain.profile.remote import is_remote
from hpctrain.profile.rules_split import check_split
from hpctrain.profile.rules_stage import check_stage

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_INGEST = {
    ".fits": "spectra in FITS are read by 'hpctrain ingest sdss', 'desi', 'lamost' or 'fits'",
    ".fit": "spectra in FITS are read by 'hpctrain ingest sdss', 'desi', 'lamost' or 'fits'",
    ".parquet": "Parquet tables are read by 'hpctrain ingest parquet'",
    ".csv": "tables of text are read by 'hpctrain ingest table'",
    ".npz": "arrays of numpy are read by 'hpctrain ingest table'",
}


def check_data(judge: Judge, files_are_here: bool = True) -> None:
    """Judge ``data``; unless `files_are_here`, only the job can see its files."""
    if files_are_here:
        _check_files(judge)
        check_stage(judge)
    check_split(judge)


def check_spectra(judge: Judge, found: Inspection) -> None:
    """Report the errors and warnings about a sample of the training spectra. The caller prints the notes."""
    for remark in found.remarks:
        if remark.severity == ERROR:
            judge.problem(remark.text, remark.key)
        elif remark.severity == WARNING:
            judge.warn(remark.text, remark.key)


def _check_files(judge: Judge) -> None:
    data, only_hdf5 = judge.profile.data, kind_of(judge.profile).only_hdf5
    seen: dict[Path, str] = {}
    found = {pattern: matching_files(pattern) for pattern in data.files}
    makes_its_own = data.simulate is not None and not any(found.values()) and not any(map(is_remote, data.files))
    for index, pattern in enumerate(data.files):
        where = f"data.files.{index}"
        if is_remote(pattern):
            continue
        if not found[pattern] and not makes_its_own:
            judge.problem(_missing(pattern, judge.document.source), where)
        for path in found[pattern]:
            what = _what_is_wrong(path, only_hdf5)
            if what:
                judge.problem(what, where)
            elif path.resolve() in seen:
                message = f"'{path}' is given twice (also by '{seen[path.resolve()]}'); its spectra would count double"
                judge.problem(message, where)
            seen[path.resolve()] = pattern
    if makes_its_own and (len(data.files) > 1 or glob.has_magic(data.files[0])):
        message = "the simulation writes one file; name one, without wildcards, or remove data.simulate"
        judge.problem(message, "data.files", "data.simulate")


def _missing(pattern: str, source: str) -> str:
    if glob.has_magic(pattern):
        return f"no file matches '{pattern}' in {Path.cwd()}"
    path = Path(pattern).expanduser()
    suffixes = (".h5", ".hdf5", ".hdf")
    beside = Path(source).parent / pattern
    if not path.is_absolute() and beside.exists():
        return (
            f"'{pattern}' does not exist here; paths count from the folder the command is called in: write '{beside}'"
        )
    if not path.parent.is_dir():
        return f"'{pattern}' does not exist, nor does the folder '{path.parent}'"
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir() if entry.suffix in suffixes])
    if near is not None:
        return f"'{pattern}' does not exist; did you mean '{path.parent / near}'?"
    return f"'{pattern}' does not exist; 'hpctrain ingest' or 'hpctrain simulate' makes such a file"


def _what_is_wrong(path: Path, only_hdf5: bool) -> str | None:
    if path.is_dir():
        return f"'{path}' is a folder; name files, such as '{path / '*.h5'}'"
    try:
        with open(path, "rb") as stream:
            if not only_hdf5:
                return None
            # A user block may precede HDF5, which then starts at a power of two.
            for offset in (0, 512, 1024, 2048, 4096):
                stream.seek(offset)
                if stream.read(8) == _HDF5_SIGNATURE:
                    return None
    except OSError as error:
        return f"'{path}' cannot be read: {error.strerror}"
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    return f"'{path}' is not an HDF5 file" + (f"; {_INGEST[suffix]}" if suffix in _INGEST else "")
