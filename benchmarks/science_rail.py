"""Redshift densities by RAIL, the photo-z library of the LSST DESC, for ``benchmarks/science_catalogue.py``.

    PYTHON_OF_RAIL benchmarks/science_rail.py LEARN.h5 JUDGED.h5 OUT.h5

runs in a Python that has pz-rail-base, pz-rail-sklearn and pz-rail-flexzboost, and imports nothing of hpctrain. It
learns FlexZBoost and k-nearest neighbours with RAIL's own settings, except for bands and range. RAIL's random forest
(pz-rail-sklearn) sorts objects into a few bins of redshift and gives no redshift, so it is not among them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

BANDS = ["u", "g", "r", "i", "z"]
NUM_BINS = 512
NUM_POINTS = 301
"""Points of the grid on which RAIL gives a density, its default; on more of them FlexZBoost takes very long."""


def main() -> None:
    """Learn, predict, and write the probability of each bin by each method."""
    learn, judged, out = (Path(name) for name in sys.argv[1:4])
    known, new = (read(path) for path in (learn, judged))
    top = float(known["redshift"].max()) * 1.05
    found = {name: densities(name, known, new, top, out.parent) for name in ("FlexZBoost", "k-NN")}
    with h5py.File(out, "w") as file:
        file["edges"] = np.linspace(0, top, NUM_BINS + 1)
        for name, p in found.items():
            file[name] = p


def read(path: Path) -> dict[str, np.ndarray]:
    """Return magnitudes, their errors, and redshifts."""
    with h5py.File(path) as file:
        columns = {band: file[band][...].astype(float) for band in BANDS}
        columns |= {f"{band}_err": file[f"e{band}"][...].astype(float) for band in BANDS}
        return {**columns, "redshift": file["zs"][...].astype(float)}


def densities(
    name: str, known: dict[str, np.ndarray], new: dict[str, np.ndarray], top: float, folder: Path
) -> np.ndarray:
    """Return the probability of each bin, (n, B), by one method of RAIL."""
    from rail.estimation.algos import flexzboost, k_nearneigh

    informer, estimator = {
        "FlexZBoost": (flexzboost.FlexZBoostInformer, flexzboost.FlexZBoostEstimator),
        "k-NN": (k_nearneigh.KNearNeighInformer, k_nearneigh.KNearNeighEstimator),
    }[name]
    keys = {
        "bands": BANDS,
        "err_bands": [f"{band}_err" for band in BANDS],
        "ref_band": "i",
        "redshift_col": "redshift",
        "mag_limits": dict.fromkeys(BANDS, 30.0),
        "zmin": 0.0,
        "zmax": top,
        "nzbins": NUM_POINTS,
        "hdf5_groupname": "",
    }
    if name == "FlexZBoost":
        keys["include_mag_err"] = True
    learned = informer.make_stage(name=f"{name} inform", model=str(folder / f"rail-{name}.pkl"), **keys)
    model = learned.inform(known)
    estimate = estimator.make_stage(name=f"{name} estimate", model=model, **keys)
    ensemble = estimate.estimate(new).data
    centres = (np.arange(NUM_BINS) + 0.5) * top / NUM_BINS
    density = np.nan_to_num(ensemble.pdf(centres)).clip(min=0)
    return density / density.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
