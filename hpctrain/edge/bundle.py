"""The bundle: a folder that holds a model for a device, and everything needed to use and to check it.

::

    bundle/
      bundle.json         format, status, preparation, network, metrics and gates, provenance, checksums; written last
      model.onnx          the network: normalised spectra in, latents and rest-frame spectrum out
      reference.npz       the wavelength grid, the held-out spectra that anomaly scores compare with (a summary), and
                          some spectra with their results, for the device to compare with its own
      model.safetensors   the weights, to continue training from (``hpctrain.local PROFILE --from bundle``)
      model.json          their card

This module does not import torch, and nothing in a bundle can run code.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.prepare import Preparation
from hpctrain.edge.reference import Reference
from hpctrain.errors import CheckpointError
from hpctrain.families.spectral_vae.anomaly_reference import AnomalyReference, no_scores
from hpctrain.rundir import file_digest, write_json

FORMAT = "hpctrain-bundle"
FORMAT_VERSION = 2
"""Version of the format; it increases when an older reader would misunderstand the folder. Since 2, a network may read
``pixel`` and ``fraction``."""

READABLE_VERSIONS = (1, 2)

MANIFEST = "bundle.json"
NETWORK = "model.onnx"
REFERENCE = "reference.npz"

GOOD, REJECTED = "good", "rejected"
"""Status of a bundle: whether it has passed all of its gates."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and whose files are undamaged.

    Parameters
    ----------
    path : Path
        The folder.
    entries : dict
        Contents of ``bundle.json``.
    preparation : Preparation
    wavelength_aa : ndarray, shape (L,), float64, or None
        Observed vacuum wavelengths of the network's pixels [AA]; None where each spectrum brings its own.
    forest : IsolationForest or None
        The forest of the training spectra's latents.
    reference : Reference or None
        Spectra with their results; None in a bundle of an older hpctrain.
    ordinary : AnomalyReference or None
        What anomaly scores compare with; None in a bundle of an older hpctrain.
    """

    path: Path
    entries: dict[str, Any]
    preparation: Preparation
    wavelength_aa: np.ndarray | None
    forest: IsolationForest | None
    reference: Reference | None
    ordinary: AnomalyReference | None = None

    @property
    def name(self) -> str:
        return str(self.entries.get("name", self.path.name))

    @property
    def is_good(self) -> bool:
        """Whether the bundle passed its gates."""
        return self.entries.get("status") == GOOD

    @property
    def num_pixels(self) -> int:
        """L."""
        return int(self.entries["num_pixels"])

    @property
    def network(self) -> Path:
        """The ONNX file."""
        return self.path / NETWORK

    def scores(
        self, latents: np.ndarray, chi2: np.ndarray, snr: np.ndarray, redshift: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the scores of some spectra in comparison with those of the bundle.

        Parameters
        ----------
        latents : ndarray, shape (N, S)
            As the catalogue stores them, in half precision, so that its readers can compute the same scores.
        chi2, snr, redshift : ndarray, shape (N,)

        Returns
        -------
        dict of ndarray, shape (N,)
            The columns :data:`~hpctrain.families.spectral_vae.catalogue.SCORES`; NaN where the bundle holds nothing to
            compare with.
        """
        latents = np.asarray(latents, dtype=np.float32)
        table = no_scores(len(latents)) if self.ordinary is None else self.ordinary.score(latents, chi2, snr, redshift)
        forest = np.full(len(latents), np.nan, np.float32) if self.forest is None else self.forest.score(latents)
        return {**table, "FOREST_SCORE": forest}


def write_reference(
    folder: Path,
    wavelength_aa: np.ndarray | None,
    forest: IsolationForest | None,
    reference: Reference | None = None,
    ordinary: AnomalyReference | None = None,
) -> None:
    """Write ``reference.npz`` into a bundle that is being made.

    Parameters
    ----------
    folder : Path
    wavelength_aa : ndarray, shape (L,), or None
        Common grid of the training spectra, if they have one.
    forest : IsolationForest or None
        None where there were too few spectra for one.
    reference : Reference, optional
        Spectra with their results.
    ordinary : AnomalyReference, optional
        What anomaly scores compare with.
    """
    arrays = {} if forest is None else forest.to_arrays()
    arrays |= {} if reference is None else reference.to_arrays()
    arrays |= {} if ordinary is None else ordinary.to_arrays()
    if wavelength_aa is not None:
        arrays["wavelength_aa"] = np.asarray(wavelength_aa, dtype=np.float64)
    np.savez_compressed(folder / REFERENCE, **arrays)


def seal_bundle(
    folder: Path,
    *,
    status: str,
    num_pixels: int,
    preparation: Preparation,
    network: Mapping[str, Any],
    card: Mapping[str, Any],
    **entries: Any,
) -> None:
    """Write ``bundle.json`` with the checksums of all files in the folder; this makes the folder a bundle.

    Parameters
    ----------
    folder : Path
        Folder that holds ``model.onnx``, ``reference.npz`` and all other files of the bundle.
    status : {"good", "rejected"}
    num_pixels : int
        L.
    preparation : Preparation
    network : mapping
        Inputs, outputs, precision and opset, as plain JSON values.
    card : mapping
        The model's card.
    **entries
        More plain JSON values: ``gates``, ``latency``, ``provenance``, ...
    """
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "name": card.get("name", folder.name),
            "status": status,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "hpctrain_version": __version__,
            "family": card["family"],
            "num_pixels": num_pixels,
            "network": dict(network),
            "preparation": preparation.to_json(),
            **entries,
            "files": files,
        },
    )


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check every byte of it.

    Parameters
    ----------
    path : str or Path
        The folder, or its ``bundle.json``.

    Raises
    ------
    CheckpointError
        There is no bundle, it is of another version, or it is damaged; the message names all damaged files.
    """
    path = Path(path)
    folder = path.parent if path.name == MANIFEST else path
    manifest = folder / MANIFEST
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder}: no bundle here ({MANIFEST} is missing); make one with: hpctrain export RUN"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{manifest}: not JSON ({error}); the file is damaged, copy the bundle again") from error
    except OSError as error:
        raise CheckpointError(f"{manifest}: cannot be read ({error})") from error
    if not isinstance(entries, dict) or entries.get("format") != FORMAT:
        raise CheckpointError(f"{manifest}: not a bundle of hpctrain (no 'format: {FORMAT}')")
    if entries.get("version") not in READABLE_VERSIONS:
        raise CheckpointError(
            f"{manifest}: format version {entries.get('version')!r}, this hpctrain reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; "
            "update hpctrain"
        )
    _check_files(folder, entries)
    try:
        with np.load(folder / REFERENCE, allow_pickle=False) as file:
            arrays = dict(file)
        preparation = Preparation.from_json(entries["preparation"])
        forest = IsolationForest.from_arrays(arrays) if "forest_feature" in arrays else None
        reference = Reference.from_arrays(arrays)
        ordinary = AnomalyReference.from_arrays(arrays)
        return Bundle(folder, entries, preparation, arrays.get("wavelength_aa"), forest, reference, ordinary)
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{folder}: an entry that every bundle of this version has is missing ({error}); export it again"
        ) from error


def _check_files(folder: Path, entries: Mapping[str, Any]) -> None:
    files = entries.get("files")
    problems = []
    if not isinstance(files, dict) or not {NETWORK, REFERENCE} <= files.keys():
        problems.append(f"{MANIFEST}: does not list {NETWORK} and {REFERENCE}")
        files = {}
    for name, facts in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif path.stat().st_size != facts["bytes"]:
            problems.append(f"{name}: {path.stat().st_size} bytes, should be {facts['bytes']}")
        elif file_digest(path) != facts["sha256"]:
            problems.append(f"{name}: other contents than when it was made (SHA-256)")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise CheckpointError(f"{folder}: the bundle is not whole; copy it again\n{lines}")
