"""From a trained model to a small, fast and checked one, and what runs it on a device.

``bundle``, ``prepare``, ``forest``, ``spectra_files`` and ``infer`` are what runs on the device: numpy, h5py and
onnxruntime, and astropy for FITS files; no torch.
"""
