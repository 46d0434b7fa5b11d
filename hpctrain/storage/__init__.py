"""Files of spectra as they lie on a disk: how fast they can be read, what is wrong with them, and a better layout."""
