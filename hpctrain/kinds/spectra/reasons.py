"""Why a spectrum carries no weight in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hpctrain.kinds.spectra.hdf5 import SpectraSet
    from hpctrain.kinds.spectra.section import SpectraSection

NO_REDSHIFT, MASKED, NO_WINDOW, NO_SIGNAL, OUTSIDE = (
    "no redshift",
    "fully masked",
    "no normalisation window within the observed range",
    "signal to noise ratio of the normalisation window too low",
    "no valid pixel within the rest-frame range of the network",
)
REMEDIES = {
    NO_REDSHIFT: "set data.columns.redshift to the column that holds redshifts",
    MASKED: "check data.columns.ivar and data.columns.mask",
    NO_WINDOW: "add a window that the spectra reach to data.normalise.windows_aa, and check the unit of wavelength",
    NO_SIGNAL: "lower data.normalise.min_snr, and check that flux and ivar are in the same units",
    OUTSIDE: "widen model.rest_wavelength_aa",
}
"""What to do about each reason."""


def reasons(spectra: SpectraSet, rows: np.ndarray, data: SpectraSection) -> list[str]:
    """Return, for each of these rows (n,) without weight in training, the reason."""
    import numpy as np

    from hpctrain.kinds.spectra.norm import choose_window
    from hpctrain.kinds.spectra.section import NormaliseSection
    from hpctrain.kinds.spectra.transform import normalise, normalise_observed
    from hpctrain.samples.protocols import PADDING_ROW

    section = data.normalise
    raw = spectra.read(rows[rows != PADDING_ROW])
    if isinstance(section, NormaliseSection):
        batch = normalise(raw, section)
        chosen = choose_window(raw.wavelength_aa.numpy(), raw.redshift.numpy(), section.windows_aa)
    else:
        batch = normalise_observed(raw, section)
        chosen = np.zeros(len(batch), np.int8)
    is_masked, is_rejected = ~batch.has_weight.numpy(), batch.window.numpy() < 0
    found = np.full(len(rows), OUTSIDE, dtype=object)
    found[is_rejected] = NO_SIGNAL
    found[is_rejected & (chosen < 0)] = NO_WINDOW
    found[is_masked] = MASKED
    found[~spectra.usable(rows)] = NO_REDSHIFT
    return found.tolist()
