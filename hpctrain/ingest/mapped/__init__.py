"""Reads spectra of any FITS, HDF5, npz or text file by a mapping: which column is the flux, which the wavelength, ...

Data flow::

    mapping.py     what the user said: names, units, constants
    stores/        one opened file                 ─▶ Store: named arrays with units, a header
    resolve.py     mapping + store                 ─▶ Layout: where each quantity is, how spectra are arranged
    wavelengths.py, fluxes.py, units.py            ─▶ vacuum wavelengths [AA], flux and ivar in the units of hpctrain
    labels.py      other columns: redshift, target id, whatever is to be carried along
    reader.py      all of it                       ─▶ SpectraBlock
    preview.py     the first file, in words, before ten thousand are read; suspicions.py: can the units be right?
"""
