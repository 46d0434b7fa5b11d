"""Images as a kind of data: cut-outs with bands, inverse variance or mask, in HDF5 or as files that a table lists."""
