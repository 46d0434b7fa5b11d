"""Preparation of astronomical data as plain functions of arrays: spectra, photometry, light curves.

A function takes arrays in the unit that its docstring names, or astropy quantities of any unit that can be converted
to it, and returns plain arrays. Nothing here knows files, profiles or networks.
"""
