"""Opens a file as stores, by the subcommand that the user called and the name of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.mapping import Mapping
from hpctrain.ingest.mapped.stores.store import Store

FILE_NAMES = {
    "fits": ("*.fits", "*.fits.gz", "*.fits.fz", "*.fit", "*.fit.gz", "*.fts", "*.fts.gz"),
    "hdf5": ("*.h5", "*.hdf5", "*.hdf", "*.he5"),
    "table": tuple(
        f"*.{end}{zipped}"
        for end in ("csv", "ecsv", "txt", "dat", "ascii", "asc", "tsv", "vot", "votable", "xml", "npz", "lnw", "mrt")
        for zipped in ("", ".gz")
    ),
    "lamost": ("spec-*.fits", "spec-*.fits.gz", "med-*.fits", "med-*.fits.gz"),
    "any": ("*",),
}
"""Names of the files that each kind looks for in a folder."""


def open_stores(kind: str, path: Path, mapping: Mapping) -> Iterator[Store]:
    """Yield the parts of a file, opened one after the other and closed behind the caller.

    Parameters
    ----------
    kind : {"fits", "lamost", "hdf5", "table", "any"}
    path : Path
    mapping : Mapping

    Raises
    ------
    DataError
        The file is not of this kind, or damaged.
    """
    if kind == "any":
        from hpctrain.ingest.mapped.stores.specutils import open_spectra

        yield from open_spectra(path, mapping.loader, mapping.part)
        return
    store = _open_one(kind, path, mapping)
    try:
        yield store
    finally:
        store.close()


def _open_one(kind: str, path: Path, mapping: Mapping) -> Store:
    if kind in ("fits", "lamost"):
        from hpctrain.ingest.mapped.stores.fits import FitsStore

        store = FitsStore(path, mapping.hdu)
        if kind == "lamost" and not store.defaults:
            store.close()
            raise DataError(
                "is not a LAMOST spectrum (TELESCOP is not LAMOST); `hpctrain ingest fits --preview` shows it"
            )
        return store
    if kind == "hdf5":
        from hpctrain.ingest.mapped.stores.hdf5 import Hdf5Store

        return Hdf5Store(path)
    from hpctrain.ingest.mapped.stores.npz import NpzStore
    from hpctrain.ingest.mapped.stores.snid import SnidStore, is_snid
    from hpctrain.ingest.mapped.stores.table import TableStore

    if path.suffix == ".npz":
        return NpzStore(path)
    return SnidStore(path) if is_snid(path) else TableStore(path)
