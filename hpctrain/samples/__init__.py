"""What all kinds of data share: rows and chunks of HDF5 files, their order, split, read-ahead and copies on a node.

Nothing here knows what a row holds; a kind of data (:mod:`hpctrain.kinds`) does.
``hashing``, ``order`` and ``split`` need numpy only; the rest needs torch.
"""
