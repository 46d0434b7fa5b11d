"""The layout of the files of spectra that hpctrain writes; docs/data.md describes it."""

FORMAT = "hpctrain spectra"
FORMAT_VERSION = 1

FLUX_UNIT = "1e-17 erg s-1 cm-2 AA-1"
IVAR_UNIT = "1e34 s2 cm4 AA2 erg-2"

SURVEY_PREFIX = "survey_"
"""Prefix of the columns of a survey (plate, RA, class and so on) beside those that a network computes."""

SOURCE_FILE, SOURCE_FILES = "source_file", "provenance/source_files"
"""Column holding row numbers of ``provenance/source_files``."""

OTHER_NAMES = {
    "flux": ("spectrum_flux", "spectra", "FLUX"),
    "ivar": ("spectrum_ivar", "IVAR", "inverse_variance", "weights"),
    "mask": ("spectrum_mask", "MASK", "mask_array"),
    "wavelength": ("spectrum_lambda", "WAVELENGTH", "lambda", "wave", "wavelength_aa"),
    "target_id": ("TARGETID", "object_id", "targetid", "id"),
    "redshift": ("Z", "z", "ZBEST", "Z_HP"),
}
"""Other names for our columns; the first ones are those of the Multimodal Universe."""
