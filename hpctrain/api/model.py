"""A trained model in Python: the interface that a network in torch and an exported bundle share. No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.api.data import Asked
from hpctrain.api.notebook import html_table
from hpctrain.errors import DataError
from hpctrain.profile.lookup import find_family, find_kind

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table

    from hpctrain.samples.protocols import Facts

BATCH_SIZE = 256


class Model(ABC):
    """A trained model, as :func:`hpctrain.load` returns it.

    All methods take the same data: names or patterns of files, a mapping or an astropy Table with columns, a set of
    samples that is open already, or arrays by name. Files are read a batch at a time, so they may be larger than
    memory; what is returned is kept in memory.

    Parameters
    ----------
    path : Path
        The weights, or the folder of a bundle.
    card : mapping
        What is known of the model: family, section, facts, normalisation, step, and where it comes from.
    device : str
        Where it computes, such as ``cpu``.

    Attributes
    ----------
    path : Path
    card : dict
    device : str
    """

    def __init__(self, path: Path, card: Mapping[str, Any], device: str) -> None:
        self.path, self.card, self.device = path, dict(card), device
        self._family = find_family(self.card["family"])
        self._kind = find_kind(self._family.kind)

    @property
    def name(self) -> str:
        """Name of the run that made the model."""
        return str(self.card.get("name", ""))

    @property
    def family(self) -> str:
        """Name of the model family, such as ``spectral_vae``."""
        return self._family.name

    @property
    def kind(self) -> str:
        """Name of the kind of data that it reads, such as ``spectra``."""
        return self._kind.name

    @property
    def facts(self) -> Facts:
        """Facts about the training data that size the network, such as the number of pixels."""
        return self._kind.read_facts(self.card["facts"])

    def predict(
        self,
        data: Any = None,
        *,
        rows: Any = None,
        batch_size: int | None = None,
        columns: Mapping[str, str] | None = None,
        **arrays: Any,
    ) -> Table:
        """Return what the model says about each sample.

        Parameters
        ----------
        data : str, Path, sequence of these, mapping, Table or Samples, optional
            Files, or a table, or an open set.
        rows : slice, sequence of int or mask of bool, optional
            Samples to use, by their number in the data; all by default.
        batch_size : int, optional
            Samples that are computed together; 256 by default, or fewer if there are fewer.
        columns : mapping of str, optional
            Name of a dataset or column for each of our names that differs, such as ``{"redshift": "Z"}``. Files are
            read with the names in the profile of the model's run, if it has one.
        **arrays
            The data as arrays. For spectra ``flux``, ``ivar`` (N, L), ``wavelength`` (L,) or (N, L) in vacuum AA,
            ``redshift`` (N,), and if you like ``target_id`` (N,) and ``mask`` (N, L). NaN, masked values and ivar 0
            are pixels without weight. Quantities of astropy are converted.

        Returns
        -------
        Table
            One row per sample, in the order of `rows`: ``target_id``, ``row``, and the columns of the family with units
            and descriptions.

        Raises
        ------
        DataError
            The data cannot be read, or they do not fit the model.
        """
        return self._predict(Asked(data, arrays, rows, batch_size, columns), with_scores=False)

    def encode(
        self,
        data: Any = None,
        *,
        scores: bool = False,
        rows: Any = None,
        batch_size: int | None = None,
        columns: Mapping[str, str] | None = None,
        **arrays: Any,
    ) -> Table:
        """Return the catalogue of ``hpctrain encode``: latent vectors, and how well each sample is reconstructed.

        Parameters
        ----------
        data : str, Path, sequence of these, mapping, Table or Samples, optional
            As of :meth:`predict`.
        scores : bool
            Also return the anomaly score. That of a bundle compares with the training spectra; that of any other model
            compares the samples of this call with each other.
        rows, batch_size, columns
            As of :meth:`predict`.
        **arrays
            As of :meth:`predict`.

        Returns
        -------
        Table
            For spectra: ``LATENT_VEC`` (N, S), ``RECON_MSE`` (reduced chi-square), ``STATUS`` (0 if the spectrum could
            be encoded, else the reason), ``NORM``, ``WINDOW``, ``NUM_PIXELS``. Numbers are NaN where STATUS is not 0.

        Raises
        ------
        DataError
            As of :meth:`predict`, or the family has no latent vectors.
        """
        if not self._family.encodes:
            raise DataError(f"a model of the family {self.family} has no latent vectors; use predict")
        return self._predict(Asked(data, arrays, rows, batch_size, columns), with_scores=scores)

    def reconstruct(
        self,
        data: Any = None,
        *,
        rows: Any = None,
        batch_size: int | None = None,
        columns: Mapping[str, str] | None = None,
        **arrays: Any,
    ) -> dict[str, np.ndarray]:
        """Return samples with their reconstructions, ready to plot.

        Parameters
        ----------
        data : str, Path, sequence of these, mapping, Table or Samples, optional
            As of :meth:`predict`.
        rows, batch_size, columns
            As of :meth:`predict`; the reconstructions are as large as the samples, so choose some of a large file.
        **arrays
            As of :meth:`predict`.

        Returns
        -------
        dict of ndarray, each of length n
            For spectra ``wavelength_aa``, ``rest_wavelength_aa`` [AA], ``flux``, ``ivar``, ``reconstruction`` (n, L)
            in the unit of the input; ``chi2``, ``norm``, ``redshift``, ``target_id``, ``row`` (n,). Flux is NaN where
            a pixel has no weight, the reconstruction where the model has no pixel.

        Raises
        ------
        DataError
            As of :meth:`predict`, or the family does not reconstruct its input.
        """
        return self._reconstruct(Asked(data, arrays, rows, batch_size, columns))

    @abstractmethod
    def _predict(self, asked: Asked, with_scores: bool) -> Table:
        """Return the table of :meth:`predict`, with the scores of the family if asked for."""

    @abstractmethod
    def _reconstruct(self, asked: Asked) -> dict[str, np.ndarray]:
        """Return the arrays of :meth:`reconstruct`."""

    def _meta(self) -> dict[str, Any]:
        return {"model": self.name, "family": self.family, "weights": str(self.path), "step": self.card.get("step")}

    def __repr__(self) -> str:
        return f"<hpctrain model {' '.join(f'{name}={value}' for name, value in self._shown() if value is not None)}>"

    def _repr_html_(self) -> str:
        return html_table([(name, value) for name, value in self._shown() if value is not None])

    def _shown(self) -> list[tuple[str, object]]:
        keys = ("name", "family", "step", f"validation_{self._family.objective.metric}")
        return [*((key, self.card.get(key)) for key in keys), ("device", self.device), ("path", self.path)]
