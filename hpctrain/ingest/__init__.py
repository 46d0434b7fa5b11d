"""Converts survey files into one HDF5 file of spectra on a common wavelength grid.

Data flow::

    sources.py   files, folders and globs            ─▶ sorted paths
    sdss.py, desi.py, multimodal_universe.py,
    parquet.py   one file                            ─▶ SpectraBlock (block.py): spectra of one file on one grid
    selection.py which of them to keep, and why others are dropped
    resample.py  overlap matrix of a pair of grids   ─▶ flux and ivar on the common grid (grid.py)
    writer.py    rows                                ─▶ FILE.h5, under a hidden name until it is complete
    process.py   the above for many files, guarded, in one process or several
    run.py       all of it; tally.py counts rows kept and dropped, with the reasons

Only this package imports astropy.
"""
