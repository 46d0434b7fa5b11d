"""Read HDF5 files of spectra and deliver batches of tensors in a reproducible order.

``hashing``, ``order`` and ``split`` need numpy only; the rest needs torch.
"""
