"""The data of the model in service: a file, or those of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpctrain.errors import DataError, ProfileError
from hpctrain.expectations.section import Expectations
from hpctrain.expectations.sources import Source, open_sources
from hpctrain.rundir import RunDir, is_run

RESULTS = ("latents.h5", "predictions.h5")


def open_reference(text: str, expected: Expectations) -> list[Source]:
    """Open what new data are compared with.

    Parameters
    ----------
    text : str
        A run directory, or a file or pattern of files.
    expected : Expectations
        Of a run, those files are taken that have most of its columns: the data, or the predictions or latents of its
        held-out objects.

    Raises
    ------
    DataError
        The files cannot be read, or have none of the columns.
    """
    if not Path(text).is_dir():
        return open_sources([text])
    if not is_run(Path(text)):
        raise DataError(f"{text}: is a folder without a run; name a run directory or a file")
    best: list[Source] = []
    for files in _files_of(RunDir(text)):
        sources = open_sources(files)
        if _num_known(sources, expected) > _num_known(best, expected):
            best = sources
    if not best:
        raise DataError(f"{text}: neither its data nor its results have a column of the expectations")
    return best


def _num_known(sources: Sequence[Source], expected: Expectations) -> int:
    return len(set(sources[0].declared) & set(expected.columns)) if sources else 0


def _files_of(run: RunDir) -> list[list[str]]:
    from hpctrain.profile.load import load_profile

    try:
        files = [str(path) for path in load_profile(run.profile).data.files]
    except (ProfileError, OSError) as error:
        raise DataError(f"{run.profile}: cannot be read, so the data files are not known ({error})") from error
    results = [[str(run.results / name)] for name in RESULTS if (run.results / name).is_file()]
    return [files, *results] if files else results
