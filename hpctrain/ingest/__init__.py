"""Survey files come in, one HDF5 file of spectra on a common wavelength grid goes out.

The way of the data::

    sources.py   files, folders and globs            ─▶ sorted paths
    sdss.py, desi.py, multimodal_universe.py,
    parquet.py   one file                            ─▶ SpectraBlock (block.py): spectra of one file on one grid
    selection.py which of them are wanted, and why not
    resample.py  overlap matrix of a pair of grids   ─▶ flux and ivar on the common grid (grid.py)
    writer.py    rows                                ─▶ FILE.h5, written beside and renamed when it is whole
    process.py   the above for many files, guarded, in one process or several
    run.py       all of it; tally.py counts what was kept, dropped and why

astropy lives here and nowhere else.
"""
