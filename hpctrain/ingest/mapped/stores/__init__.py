"""Files as named arrays: the one form in which the reader sees FITS, HDF5, npz, tables, SNID templates, specutils."""
