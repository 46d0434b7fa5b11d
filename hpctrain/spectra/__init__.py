"""HDF5 files of spectra come in; batches of tensors in a reproducible order go out.

``hashing``, ``order`` and ``split`` need numpy only; the rest needs torch.
"""
