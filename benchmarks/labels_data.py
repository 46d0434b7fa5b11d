"""Files for ``benchmarks/labels.py``: public spectra as HDF5, and simulated ones.

The public files are not part of hpctrain. ``--shared`` names a folder that holds them: ``miles_stars/miles_984.h5``,
``sn_spectra_snid/snid_templates_4813.h5``, ``sdss_spec/*.fits.gz`` with ``labels.csv``.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from hpctrain.kinds.spectra.layout import SOURCE_FILE, SOURCE_FILES
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate

ASSUMED_SNR = 100.0
"""Signal to noise ratio per pixel of MILES, whose files have no errors."""
ASSUMED_SIGMA = 0.1
"""Error per pixel of the supernova templates, in units of their flattened flux."""
REBIN = 4
"""Pixels of MILES (0.9 AA) that are averaged into one, as wide as its resolution (2.5 AA FWHM) at the end."""


def miles(shared: Path, out: Path) -> Path:
    """Write the stars of MILES with effective temperature, gravity and metallicity."""
    with h5py.File(shared / "miles_stars" / "miles_984.h5") as file:
        flux, wavelength = file["flux"][:], file["wave"][:].astype(np.float64)
        labels = {name: file[name][:] for name in ("teff", "logg", "feh")}
    kept = flux.shape[1] // REBIN * REBIN
    flux = flux[:, :kept].reshape(len(flux), -1, REBIN).mean(axis=2)
    flux /= np.median(flux, axis=1, keepdims=True)
    ivar = np.full_like(flux, ASSUMED_SNR**2)
    wavelength = wavelength[:kept].reshape(-1, REBIN).mean(axis=1)
    return _write(out, flux=flux, ivar=ivar, wavelength=wavelength, target_id=np.arange(len(flux)), **labels)


def supernovae(shared: Path, out: Path) -> Path:
    """Write the supernova templates: rest frame, continuum divided out; one identifier for all epochs of an object."""
    with h5py.File(shared / "sn_spectra_snid" / "snid_templates_4813.h5") as file:
        flux = file["flux_int16"][:].astype(np.float32) * 1e-3
        wavelength, covered = file["wave"][:].astype(np.float64), file["covered"][:]
        subtype, name = file["type"].asstr()[:], file["sn_name"].asstr()[:]
    pixel = np.arange(flux.shape[1])
    inside = (pixel >= covered[:, :1]) & (pixel <= covered[:, 1:])
    ivar = np.where(inside, ASSUMED_SIGMA**-2, 0.0).astype(np.float32)
    _, objects = np.unique([_same_name(each) for each in name], return_inverse=True)
    types = np.array([each.partition("-")[0] for each in subtype])
    return _write(
        out, flux=flux, ivar=ivar, wavelength=wavelength, target_id=objects, subtype=subtype.astype(str), type=types
    )


def _same_name(name: str) -> str:
    """Return one name for ``sn05cf`` and ``sn2005cf``."""
    short = name.lower().removeprefix("sn")
    found = re.fullmatch(r"(?:19|20)(\d\d[a-z]+)", short)
    return found[1] if found else short


def sdss(shared: Path, out: Path) -> Path:
    """Ingest the spectra of SDSS and BOSS with a redshift without warning, with class and subclass."""
    if not out.exists():
        command = ["ingest", "sdss", str(shared / "sdss_spec"), "--out", str(out), "--zwarn", "good"]
        grid = ["--grid", "log:3900:9100:2e-4"]
        subprocess.run([sys.executable, "-m", "hpctrain", *command, *grid], check=True, stdout=subprocess.DEVNULL)
        with open(shared / "sdss_spec" / "labels.csv") as stream:
            subclass = {row["file"].partition(".")[0]: _first_word(row["subclass"]) for row in csv.DictReader(stream)}
        with h5py.File(out, "a") as file:
            names = [Path(name.decode()).name.partition(".")[0] for name in file[SOURCE_FILES][:]]
            texts = [subclass.get(names[number], "") for number in file[SOURCE_FILE][:]]
            file["subclass"] = np.array(texts, dtype=object)
    return out


def _first_word(subclass: str) -> str:
    """Return the subclass, of stars only the spectral type: ``F`` for ``F3/F5V (30743)``."""
    star = re.match(r"([OBAFGKM])\d", subclass)
    return star[1] if star else subclass


def simulated(out: Path, num_spectra: int) -> Path:
    """Write simulated quasars and galaxies of the default signal to noise ratio."""
    if not out.exists():
        simulate(out, SimulateSection(num_spectra=num_spectra, num_pixels=1000, seed=11))
    return out


def _write(out: Path, **columns: np.ndarray) -> Path:
    if not out.exists():
        with h5py.File(out, "w") as file:
            for name, values in columns.items():
                texts = np.asarray(values).dtype.kind in "UO"
                file[name] = values.astype(object) if texts else values
    return out
