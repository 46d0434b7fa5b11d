"""The parts of simulated spectra.

draws.py        random numbers of an object: a function of seed and object only
rest_frame.py   the rest-frame grid, lines on it, dust
quasars.py      continuum, broad lines, iron, broad absorption        ─▶ rest-frame spectra
galaxies.py     old and young stars, absorption lines                 ─▶ rest-frame spectra
narrow_lines.py nebular lines, drawn on the observed pixels
absorbers.py    intervening absorption: Lyman-alpha forest, damped systems, metal lines
observe.py      sky, throughput, photon noise, bad pixels             ─▶ flux and ivar of a DESI-like spectrograph

``hpctrain/kinds/spectra/simulate.py`` combines them. Wavelengths are in vacuum [AA]; flux in 1e-17 erg s-1 cm-2 AA-1.
"""
