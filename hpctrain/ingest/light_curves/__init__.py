"""Converts tables of observations, SNANA files and alerts into one HDF5 file of light curves.

Data flow::

    readers.py   chooses by the file: table.py (a row per observation), snana.py (text), alerts.py (JSON)
                 one file                     ─▶ Observations (observations.py)
    assemble.py  all of them, sorted by object and time, without unusable points; each drop is counted
    labels.py    a table with a row per object ─▶ columns of the file
    run.py       all of it, and the summary
"""
