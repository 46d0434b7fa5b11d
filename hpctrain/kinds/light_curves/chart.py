"""A chart of one light curve: the points of each band, as they are in the file. No torch here."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hpctrain.drawing.chart.parts import POINTS, Chart, Curve, Panel
from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.layout import BANDS, OFFSETS, TARGET_ID
from hpctrain.kinds.one_sample import row_of


def light_curve_chart(path: Path, wanted_id: int | None, row: int | None) -> tuple[Chart, int]:
    """Return a chart of a light curve of a file, and its row.

    Parameters
    ----------
    path : Path
    wanted_id, row : int or None
        As of :func:`~hpctrain.kinds.one_sample.row_of`.

    Raises
    ------
    DataError
        There is no such curve, or the file is damaged.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            target_id = file[TARGET_ID][...]
            row = row_of(path, target_id, wanted_id, row)
            begin, end = (int(file[OFFSETS][row + more]) for more in (0, 1))
            points = {name: file[name][begin:end] for name in ("time", "value", "error", "band")}
            bands = [name.decode() if isinstance(name, bytes) else str(name) for name in file[BANDS][...]]
            unit = file["value"].attrs.get("unit", "")
    except (OSError, KeyError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as light curves ({error})") from error
    unit = unit.decode() if isinstance(unit, bytes) else str(unit)
    curves = []
    for number in np.unique(points["band"]).tolist():
        here = points["band"] == number
        name = bands[number] if 0 <= number < len(bands) else str(number)
        values = points["value"][here].astype(np.float64)
        curves.append(Curve(name, points["time"][here], values, POINTS, points["error"][here].astype(np.float64)))
    panel = Panel("value", "time [d]", unit, curves, flip_y=unit.startswith("mag"))
    return Chart(f"object {target_id[row]}, row {row} of {path.name}: {end - begin} points", [panel]), row
