"""Columns of a catalogue of redshifts, in the field's names. This module imports no torch."""

from __future__ import annotations

from hpctrain.redshift.zwarn import MEANINGS

FORMAT = "hpctrain-redshifts"
FORMAT_VERSION = 1

COLUMNS = {
    "target_id": ("int64", "", "identifier of the object"),
    "Z": ("float64", "", "redshift of the lowest chi-square; NaN where no pixel has weight"),
    "ZERR": ("float64", "", "its standard error, from the curvature of chi-square at the minimum; NaN if unknown"),
    "ZWARN": ("int64", "", "0: good; bits: " + "; ".join(f"{int(b)} {b.name}: {text}" for b, text in MEANINGS.items())),
    "SPECTYPE": ("S8", "", "class of the templates that fit best"),
    "CHI2": (
        "float64",
        "",
        "chi-square of the best model, pixels with weight; their noise includes the error of templates",
    ),
    "NPIXELS": ("int32", "pixel", "pixels with weight"),
    "DELTACHI2": ("float64", "", "how much higher chi-square is at the best other redshift, at least 1000 km/s away"),
    "Z_SECOND": ("float64", "", "that redshift; NaN if there is none"),
    "SPECTYPE_SECOND": ("S8", "", "class of the best templates at that redshift"),
    "DELTACHI2_CLASS": ("float64", "", "how much higher chi-square is for the best other class, at any redshift"),
    "COEFF": (
        "float32",
        "unit of the input flux",
        "coefficients of the mean spectrum, the components and the polynomials; 0 where a class has fewer",
    ),
    "PZ": ("float16", "", "probability of the redshift in each bin of PZ_EDGES, all classes together"),
}
"""Name to dtype, unit, meaning."""

EDGES = "PZ_EDGES"
EDGES_MEANING = "edges of the bins of PZ, as redshifts; equal steps in ln(1 + z)"
