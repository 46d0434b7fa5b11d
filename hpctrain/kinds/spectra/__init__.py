"""Spectra in HDF5 files: flux and inverse variance by wavelength, with a redshift for each object."""
