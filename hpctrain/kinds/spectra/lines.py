"""Rest-frame vacuum wavelengths of the lines that figures label."""

from __future__ import annotations

REST_LINES_AA: tuple[tuple[str, float], ...] = (
    ("Lyβ", 1025.72),
    ("Lyα", 1215.67),
    ("N V", 1240.14),
    ("Si IV", 1397.61),
    ("C IV", 1549.06),
    ("C III]", 1908.73),
    ("Mg II", 2799.12),
    ("[O II]", 3728.48),
    ("Ca K", 3934.78),
    ("Ca H", 3969.59),
    ("Hδ", 4102.89),
    ("G", 4305.61),
    ("Hγ", 4341.68),
    ("Hβ", 4862.68),
    ("[O III]", 5008.24),
    ("Mg b", 5176.63),
    ("Na D", 5895.6),
    ("[O I]", 6302.05),
    ("Hα", 6564.61),
    ("[S II]", 6725.5),
)
"""Name and wavelength [AA] of each line; a multiplet has its mean wavelength.

References: the line list of SDSS, vacuum (https://classic.sdss.org/dr6/algorithms/linestable.html).
"""


def observed_lines(redshift: float, low_aa: float, high_aa: float) -> list[tuple[str, float]]:
    """Return name and observed wavelength [AA] of the lines within a range, shortest wavelength first.

    Parameters
    ----------
    redshift : float
        Redshift of the object; NaN gives no lines.
    low_aa, high_aa : float
        Observed range [AA].
    """
    shifted = [(name, rest_aa * (1.0 + redshift)) for name, rest_aa in REST_LINES_AA]
    return [(name, wavelength_aa) for name, wavelength_aa in shifted if low_aa < wavelength_aa < high_aa]
