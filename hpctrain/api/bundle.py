"""An exported bundle as a model: the same interface, by onnxruntime and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.api.bundle_data import read_given
from hpctrain.api.data import Asked, refuse_too_much, sort_data
from hpctrain.api.model import Model
from hpctrain.api.tables import table_of
from hpctrain.edge.bundle import Bundle, read_bundle
from hpctrain.edge.infer import FOREST, MORE_COLUMNS, infer
from hpctrain.edge.runtime import PROVIDERS, OnnxNetwork
from hpctrain.edge.spectra_files import POSITION, RawSpectra
from hpctrain.edge.trust import why_rejected, why_unlike_the_export
from hpctrain.errors import CheckpointError, DataError, GateError
from hpctrain.families.shown import Column
from hpctrain.families.spectral_vae.catalogue import ENCODED, SCORES
from hpctrain.ingest.block import COLUMNS as SURVEY
from hpctrain.ingest.identifiers import sdss_ids
from hpctrain.rundir import read_json

if TYPE_CHECKING:
    from astropy.table import Table

_FIRST = ("target_id", "row", "redshift")
_OF_FILES = ("ra", "dec", "source_file", "source_row")
"""Columns that only spectra of files have."""

Arrays = dict[str, np.ndarray]


class BundleModel(Model):
    """A bundle of ``hpctrain export``. Files may also be FITS files of SDSS and DESI, as for ``hpctrain infer``.

    Parameters
    ----------
    bundle : Bundle
    network : OnnxNetwork
    card : mapping

    Attributes
    ----------
    bundle : Bundle
        Its ``entries`` hold gates, precision, latency and provenance.
    """

    def __init__(self, bundle: Bundle, network: OnnxNetwork, card: Mapping[str, Any]) -> None:
        super().__init__(bundle.path, card, network.provider)
        self.bundle, self._network = bundle, network

    @classmethod
    def load(cls, path: Path, device: str, force: bool) -> BundleModel:
        """Load a bundle and check it on this machine; see :func:`hpctrain.load`."""
        bundle = read_bundle(path)
        if (reason := why_rejected(bundle)) is not None and not force:
            raise CheckpointError(f"{reason}; export again, or use it anyway with force=True")
        network = OnnxNetwork(bundle.network, PROVIDERS[device.partition(":")[0]])
        if not force and (reason := why_unlike_the_export(bundle, network)) is not None:
            raise GateError(f"{reason}. Try device='cpu', export again, or use it anyway with force=True")
        card = read_json(bundle.path / "model.json", {})
        return cls(bundle, network, {**bundle.entries, **(card if isinstance(card, dict) else {})})

    def _predict(self, asked: Asked, with_scores: bool) -> Table:
        given = sort_data(asked, self._kind)
        pieces: list[Arrays] = []
        by_position: list[bool] = []
        for number, raw in read_given(given, asked, self.bundle):
            table = infer(self.bundle, self._network, raw)
            pieces.append(table | {"row": number, "source_file": np.full(len(raw), str(raw.path))})
            by_position += [raw.is_named_by_position] * len(raw)
        found = _joined(pieces)
        if any(by_position):  # all observations of one object get the same id, as in `hpctrain infer`
            at = np.flatnonzero(by_position)
            found["target_id"][at] = sdss_ids(*(found[name][at] for name in POSITION))
        hidden = () if given.files is not None else _OF_FILES
        hidden = hidden if with_scores else (*hidden, *SCORES)
        names = [*_FIRST, *(name for name in found if name not in (*_FIRST, *hidden))]
        return table_of({name: found[name] for name in names}, self._meanings(), self._meta())

    def _meanings(self) -> dict[str, Column]:
        survey = {name: Column(column.unit, column.description) for name, column in SURVEY.items()}
        more = {name: Column(*entry[1:]) for name, entry in {**MORE_COLUMNS, "FOREST_SCORE": FOREST}.items()}
        return {**survey, **self._family.columns(), **more}

    def _reconstruct(self, asked: Asked) -> Arrays:
        pieces: list[Arrays] = []
        num_bytes = num_rows = 0
        given = sort_data(asked, self._kind)
        for number, raw in read_given(given, asked, self.bundle):
            pieces.append(self._drawn(raw) | {"row": number})
            num_bytes, num_rows = num_bytes + sum(a.nbytes for a in pieces[-1].values()), num_rows + len(raw)
            refuse_too_much(num_bytes, num_rows)
        return _joined(pieces)

    def _drawn(self, raw: RawSpectra) -> Arrays:
        """Return some spectra and their reconstructions in the unit of the input."""
        preparation = self.bundle.preparation
        prepared = preparation(raw.flux, raw.ivar, raw.wavelength_aa, raw.redshift)
        outputs = self._network(prepared.feeds)
        table = preparation.catalogue(prepared, outputs)
        reconstruction, covered = preparation.reconstruct(prepared, outputs["rest_flux"])
        shown = covered & (table["STATUS"] == ENCODED)[:, None]
        with np.errstate(invalid="ignore"):
            good = np.isfinite(raw.flux) & np.isfinite(raw.ivar) & (raw.ivar > 0)
        wavelength = np.broadcast_to(raw.wavelength_aa, raw.flux.shape).astype(np.float32)
        return {
            "wavelength_aa": wavelength,
            "rest_wavelength_aa": wavelength / (1 + prepared.feeds["redshift"])[:, None],
            "flux": np.where(good, raw.flux, np.float32(np.nan)),
            "ivar": np.where(good, raw.ivar, np.float32(0)),
            "reconstruction": np.where(shown, reconstruction * prepared.norm[:, None], np.float32(np.nan)),
            "chi2": table["RECON_MSE"],
            "norm": table["NORM"],
            "redshift": raw.redshift.astype(np.float32),
            "target_id": raw.target_id,
        }


def _joined(pieces: list[Arrays]) -> Arrays:
    """Return the columns of all batches in one; a column that only some files have is left out."""
    if not pieces:
        raise DataError("there is no spectrum in the data, or none among the rows that were asked for")
    names = [name for name in pieces[0] if all(name in piece for piece in pieces)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
