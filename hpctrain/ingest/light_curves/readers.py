"""Choose how to read a file of observations."""

from __future__ import annotations

from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.alerts import FILE_NAMES as ALERT_ENDINGS
from hpctrain.ingest.light_curves.alerts import read_alerts
from hpctrain.ingest.light_curves.observations import Observations, Reading
from hpctrain.ingest.light_curves.snana import looks_like_snana, read_snana
from hpctrain.ingest.light_curves.table import read_table_of_points

FILE_NAMES = tuple(
    f"*.{ending}"
    for ending in (
        "csv",
        "csv.gz",
        "txt",
        "txt.gz",
        "dat",
        "DAT",
        "parquet",
        "pq",
        "fits",
        "fits.gz",
        "h5",
        "hdf5",
        "xml",
        "vot",
        "votable",
        "json",
        "jsonl",
        "avro",
    )
)
"""Names of files that are looked for in folders."""


def read_observations(path: Path, reading: Reading) -> Observations:
    """Read the observations of a file; its name and first bytes say how.

    Raises
    ------
    DataError
        The file cannot be read, or lacks something; the message begins with its path.
    """
    try:
        with open(path, "rb") as stream:
            first = stream.read(4096)
        if path.suffix.lower() in ALERT_ENDINGS:
            return read_alerts(path, reading)
        if looks_like_snana(first):
            return read_snana(path, reading)
        return read_table_of_points(path, reading)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read ({error}); the file is damaged") from error
