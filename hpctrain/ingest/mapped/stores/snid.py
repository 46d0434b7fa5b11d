"""Template files of SNID (.lnw): the epochs of one supernova, flattened, at rest, on a logarithmic grid.

References
----------
.. [1] Blondin & Tonry 2007, ApJ 666, 1024 (SNID).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.store import Item, Store

_SHORT_YEAR = re.compile(r"^sn(\d\d)([a-z]{1,4})$")


class SnidStore(Store):
    """An opened SNID template file.

    Items are ``flux`` (epochs, pixels), ``wavelength`` (pixels), ``phase`` [d], ``name``, ``type`` and ``redshift``,
    which is 0: templates are at rest.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file does not have the numbers that its first line announces.
    """

    kind = "SNID template"

    def __init__(self, path: Path) -> None:
        super().__init__()
        lines = path.read_text(errors="replace").splitlines()
        head = lines[0].split() if lines else []
        try:
            num_epochs, num_pixels, num_knots = int(head[0]), int(head[1]), int(head[4])
            name, subtype = head[5], head[7]
            ages = np.array(lines[2 + num_knots].split()[1:], dtype=np.float64)
            words = [line.split() for line in lines[3 + num_knots : 3 + num_knots + num_pixels]]
            rows = np.array([row for row in words if len(row) == num_epochs + 1], dtype=np.float64)
        except (IndexError, ValueError) as error:
            raise DataError(f"is not a SNID template: {error}") from error
        if rows.shape != (num_pixels, num_epochs + 1) or len(ages) != num_epochs:
            raise DataError(
                f"is cut off: line 1 announces {num_epochs} epochs of {num_pixels} pixels; there are {len(ages)} ages "
                f"and {rows.shape[0]} rows of pixels"
            )
        self._arrays = {
            "flux": np.ascontiguousarray(rows[:, 1:].T),
            "wavelength": rows[:, 0],
            "phase": ages,
            "name": np.array(_full_name(name)),
            "type": np.array(subtype),
            "redshift": np.array(0.0),
        }
        units = {"wavelength": "Angstrom", "phase": "d"}
        for key, array in self._arrays.items():
            self.items[key] = Item(key, array.shape, units.get(key, ""), place=key)
        self.defaults = {
            "target_id": "name", "redshift": "redshift", "phase": "phase", "type": "type", "name": "name",
        }  # fmt: skip

    def close(self) -> None:
        """Do nothing: the whole file is in memory."""

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return an array or some of its rows."""
        values = self._arrays[item.place]
        return values if rows is None else values[rows]


def is_snid(path: Path) -> bool:
    """Return whether a file is a SNID template, by its name."""
    return path.name.endswith(".lnw")


def _full_name(name: str) -> str:
    """Return sn2005cf for sn05cf, so that two files of one supernova get one target id."""
    short = _SHORT_YEAR.match(name)
    if not short:
        return name
    year, letters = int(short.group(1)), short.group(2)
    return f"sn{1900 + year if year > 40 else 2000 + year}{letters}"
