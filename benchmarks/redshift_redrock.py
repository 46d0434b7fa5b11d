"""Run redrock on DESI coadds, for benchmarks/redshift.py. Runs in a Python of its own, which needs redrock and scipy.

    PYTHON benchmarks/redshift_redrock.py OUT.json TEMPLATES_FOLDER OUR_TEMPLATES.h5 COADD.fits ...

redrock's Python functions are called, because its command needs columns of the fibre map that trimmed coadds lack. Its
template files are read from the folder. If there is none for galaxies, ours are given to redrock in their place, and
the output says so. One process, one thread; the time is CPU time, as for hpctrain. The first target is run twice, so
that the second time is without the compilation of its functions.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import redrock
from astropy.io import fits
from redrock.targets import DistTargetsCopy, Spectrum, Target
from redrock.templates import DistTemplate, Template
from redrock.zfind import zfind
from scipy.sparse import dia_matrix

MARGIN = 5000
"""Pixels that are added to our templates: redrock needs values at all wavelengths at all redshifts."""

GALAXY_REDSHIFTS = 10 ** np.arange(np.log10(1 - 0.005), np.log10(1 + 1.7), 3e-4) - 1
"""redrock's own grid for galaxy files that name no redshifts."""


def main() -> None:
    """Find the redshifts and write them."""
    out, folder, ours, *coadds = sys.argv[1:]
    templates = [template_of(path) for path in sorted(Path(folder).glob("rrtemplate-*.fits"))]
    has_galaxies = any(template.template_type == "GALAXY" for template in templates)
    if not has_galaxies:
        templates.append(our_galaxies(ours))
    names, targets = [], []
    for path in coadds:
        for row, arms in read(path):
            names.append(f"{Path(path).name}:{row}")
            targets.append(Target(len(targets), arms))
    grids = DistTargetsCopy(targets).wavegrids()
    prepared = [DistTemplate(template, grids, mp_procs=1) for template in templates]
    zfind(DistTargetsCopy(targets[:1]), prepared, mp_procs=1)
    start = time.process_time()
    _, table = zfind(DistTargetsCopy(targets), prepared, mp_procs=1)
    seconds = time.process_time() - start
    best = table[table["znum"] == 0]
    rows = {
        names[int(row["targetid"])]: [float(row["z"]), int(row["zwarn"]), str(row["spectype"]), float(row["deltachi2"])]
        for row in best
    }
    result = {"version": redrock.__version__, "galaxies_are_ours": not has_galaxies, "seconds": seconds}
    Path(out).write_text(json.dumps({**result, "num_templates": len(templates), "rows": rows}))


def template_of(path: Path) -> Template:
    """Return a template of redrock; the oldest galaxy file lacks a version and absorption, which redrock asks for."""
    with fits.open(path) as hdus:
        header, basis = hdus["BASIS_VECTORS"].header, np.array(hdus["BASIS_VECTORS"].data, dtype=np.float64)
    if header["RRTYPE"].strip() != "GALAXY" or "VERSION" in header or "RRIGM" in header:
        return Template(str(path))
    wavelength = header["CRVAL1"] + header["CDELT1"] * np.arange(basis.shape[1])
    return Template(
        spectype="GALAXY", redshifts=GALAXY_REDSHIFTS, wave=wavelength, flux=basis, igm_model="None", subtype=""
    )


def our_galaxies(path: str) -> Template:
    """Return the galaxy templates of hpctrain as redrock's; beyond their ends they keep the last value, as there."""
    with h5py.File(path) as file:
        group, step = file["GALAXY"], file.attrs["log_step"]
        basis = np.pad(group["basis"][()], ((0, 0), (MARGIN, MARGIN)), mode="edge")
        first = group.attrs["first_pixel"] - MARGIN
    wavelength = np.exp(step * (first + np.arange(basis.shape[1])))
    return Template(
        spectype="GALAXY", redshifts=GALAXY_REDSHIFTS, wave=wavelength, flux=basis, igm_model="None", subtype=""
    )


def read(path: str) -> list[tuple[int, list[Spectrum]]]:
    """Return the row and the arms of each spectrum of a coadd that has a pixel with weight."""
    with fits.open(path) as hdus:
        arms = [(row, [arm(hdus, name, row) for name in "BRZ"]) for row in range(len(hdus["B_FLUX"].data))]
    return [(row, spectra) for row, spectra in arms if any(spectrum.ivar.any() for spectrum in spectra)]


def arm(hdus: fits.HDUList, name: str, row: int) -> Spectrum:
    """Return one arm of one target; without a resolution matrix, the unit matrix takes its place."""
    wavelength = np.array(hdus[f"{name}_WAVELENGTH"].data, dtype=np.float64)
    flux = np.array(hdus[f"{name}_FLUX"].data[row], dtype=np.float64)
    ivar = np.array(hdus[f"{name}_IVAR"].data[row], dtype=np.float64)
    if f"{name}_MASK" in hdus:
        ivar[hdus[f"{name}_MASK"].data[row] != 0] = 0
    size = len(wavelength)
    bands, offsets = np.ones((1, size)), np.array([0])
    if f"{name}_RESOLUTION" in hdus:
        bands = np.array(hdus[f"{name}_RESOLUTION"].data[row], dtype=np.float64)
        offsets = len(bands) // 2 - np.arange(len(bands))
    resolution = dia_matrix((bands, offsets), shape=(size, size))
    return Spectrum(wavelength, flux, ivar, resolution, resolution.tocsr())


if __name__ == "__main__":
    main()
