"""Alerts as Avro or JSON, in the style of ZTF and of LSST: an object, its last detection, and earlier ones.

References
----------
.. [1] Masci et al. 2019, PASP 131, 018003, arXiv:1902.01872 (ZTF).
.. [2] Schemas: ZwickyTransientFacility/ztf-avro-alert and lsst/alert_packet on GitHub.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.light_curves.observations import Observations, Reading

FILE_NAMES = (".json", ".jsonl", ".avro")
"""Endings of files of alerts."""

AVRO_BEGINS = b"Obj\x01"
"""First bytes of an Avro file that holds its schema."""

ZTF_BANDS = {1: "g", 2: "r", 3: "i"}
_LIMIT = "upper limit without a detection"
_NEGATIVE = "fainter than the reference image (isdiffpos is false)"


def read_alerts(path: Path, reading: Reading) -> Observations:
    """Read a file with one alert, a list of alerts, or one alert per line.

    ZTF: ``jd`` becomes a modified Julian date, and magnitudes are those of the difference image. LSST: fluxes [nJy].

    Raises
    ------
    DataError
        The file is neither JSON nor Avro with its schema, or an alert is of neither style; the message has its number.
        fastavro is needed and absent.
    """
    rows: list[tuple[str, float, float, float, str]] = []
    dropped: Counter[str] = Counter()
    unit = ""
    for number, alert in enumerate(_alerts(path), start=1):
        if "objectId" in alert and "candidate" in alert:
            found, own = _ztf(alert, dropped), "mag"
        elif "diaSource" in alert:
            found, own = _lsst(alert), "nJy"
        else:
            raise DataError(f"alert {number}: has neither objectId and candidate (ZTF) nor diaSource (LSST)")
        if unit not in ("", own):
            raise DataError(f"alert {number}: holds values in {own}, earlier ones in {unit}; ingest them separately")
        unit = own
        rows += [row for row in found if np.isfinite(row[2])]
        if limits := sum(not np.isfinite(row[2]) for row in found):
            dropped[_LIMIT] += limits
    if not rows:
        raise DataError("has no alert with a detection")
    ids, time, value, error, band = zip(*rows, strict=True)
    names, object_of = np.unique(np.array(ids, dtype=object), return_inverse=True)
    return Observations(
        names=list(names),
        object_of=object_of.reshape(-1),
        time=np.array(time),
        value=np.array(value),
        error=np.array(error),
        band=np.array(band, dtype=object),
        unit=reading.unit or unit,
        dropped=dropped,
    )


def _alerts(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as stream:
        is_avro = stream.read(len(AVRO_BEGINS)) == AVRO_BEGINS
    if is_avro:
        yield from _avro(path)
    elif path.suffix.lower() == ".avro":
        raise DataError(
            "is no Avro file with its schema inside: it does not begin with 'Obj'. Messages of a stream have a schema "
            "elsewhere; write them to files with it, as the archives of alerts do"
        )
    else:
        yield from _json(path)


def _avro(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import fastavro
    except ImportError as missing:
        raise DataError("alerts in Avro need fastavro; pip install 'hpctrain[alerts]', or convert to JSON") from missing
    with open(path, "rb") as stream:
        try:
            for alert in fastavro.reader(stream):
                if not isinstance(alert, dict):
                    raise DataError("is Avro, but no alerts: an alert is a record with names and values")
                yield alert
        except (EOFError, zlib.error) as error:
            raise DataError(f"cannot be read ({error or 'it ends too early'}); the file is damaged") from error


def _json(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise DataError(f"is no JSON (line {error.lineno}: {error.msg})") from error
    for alert in found if isinstance(found, list) else [found]:
        if not isinstance(alert, dict):
            raise DataError("is JSON, but no alert: an alert is an object with names and values")
        yield alert


def _ztf(alert: dict[str, Any], dropped: Counter[str]) -> list[tuple[str, float, float, float, str]]:
    every = [alert["candidate"], *(alert.get("prv_candidates") or [])]
    kept = [each for each in every if each.get("isdiffpos") not in ("f", "0", False)]  # the magnitude has no sign
    if len(kept) < len(every):
        dropped[_NEGATIVE] += len(every) - len(kept)
    return [
        (
            str(alert["objectId"]),
            _number(each.get("jd")) - 2400000.5,
            _number(each.get("magpsf")),
            _number(each.get("sigmapsf")),
            ZTF_BANDS.get(each.get("fid"), str(each.get("fid"))),
        )
        for each in kept
    ]


def _lsst(alert: dict[str, Any]) -> list[tuple[str, float, float, float, str]]:
    own = alert["diaSource"]
    name = (alert.get("diaObject") or {}).get("diaObjectId") or own.get("diaObjectId") or alert.get("alertId")
    earlier = [*(alert.get("prvDiaSources") or []), *(alert.get("prvDiaForcedSources") or [])]
    return [
        (
            str(name),
            _number(_first(each, "midpointMjdTai", "midPointTai")),
            _number(_first(each, "psfFlux", "psFlux")),
            _number(_first(each, "psfFluxErr", "psFluxErr")),
            str(_first(each, "band", "filterName")),
        )
        for each in (own, *earlier)
    ]


def _first(each: dict[str, Any], *names: str) -> Any:
    return next((each[name] for name in names if each.get(name) is not None), None)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
