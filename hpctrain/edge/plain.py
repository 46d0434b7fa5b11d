"""Export the network of any family to ONNX in float32, as it is, and compare what both predict.

::

    export/onnx-fp32/
      model.onnx       inputs: the tensors of a prepared batch; outputs: the columns that the model predicts
      model.json       the card, from which the kind of data knows how to prepare samples
      bundle.json      names and shapes of inputs and outputs, and the largest difference from PyTorch
      reference.npz    some prepared held-out samples and their predictions, to test another device with
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hpctrain import __version__
from hpctrain.edge.networks import ExportedNetwork, Port
from hpctrain.edge.onnx_file import write_onnx
from hpctrain.edge.packages import need
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.errors import CheckpointError, DataError, GateError, HpctrainError, Problem, ProfileError
from hpctrain.families.predictions import predict
from hpctrain.families.store import CARD, load_model
from hpctrain.profile.families import kind_of
from hpctrain.profile.lookup import find_family
from hpctrain.profile.schema import Profile
from hpctrain.rundir import write_arrays, write_json
from hpctrain.samples.split import TRAIN, assign_split

FORMAT = "hpctrain-network"
FORMAT_VERSION = 1

MAX_DIFFERENCE = 1e-4
"""Largest difference between the outputs of both, in units of the largest value of a column."""

_COMPARED = 256
"""Largest number of held-out samples on which they are compared."""


class _Predicts(nn.Module):
    """The model as a function of tensors, as ONNX needs it.

    Parameters
    ----------
    model : Module
    example : Batch
        Prepared batch, whose other fields do not matter to the model.
    inputs, outputs : sequence of str
        Names of the tensors that the model reads, and of the columns that it predicts.
    """

    def __init__(self, model: nn.Module, example: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self._example, self._inputs, self._outputs = model, example, inputs, outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        columns = self.model.predict(self._example.with_tensors(dict(zip(self._inputs, tensors, strict=True))))
        return tuple(columns[name] for name in self._outputs)


def export_plain(profile: Profile, source: Path, out: Path, replace: bool) -> dict[str, Any]:
    """Write a folder with the network as ONNX, and prove that it predicts the same.

    Parameters
    ----------
    profile : Profile
        Profile of the run; its held-out samples are the ones to compare on.
    source : Path
        Run directory or model folder.
    out : Path
        Folder to write.
    replace : bool
        Whether an older folder may be replaced.

    Returns
    -------
    dict
        Contents of ``bundle.json``.

    Raises
    ------
    GateError
        The exported network predicts something else.
    ProfileError
        The model is no network, or the folder exists.
    """
    need("onnx", "onnxruntime")
    if out.exists() and not replace:
        raise ProfileError("hpctrain export", [Problem("--replace", f"{out} exists already; --replace replaces it")])
    model, card = load_model(source)
    if not isinstance(model, nn.Module):
        try:
            model = find_family(card["family"]).to_network(model).eval()
        except DataError as error:
            raise ProfileError("hpctrain export", [Problem("RUN", str(error))]) from error
    batch = _held_out(profile, card)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        bundle = _write_network(model, batch, temporary, profile.model.family)
        if wrong := {name: by for name, by in bundle["largest_difference"].items() if not by <= MAX_DIFFERENCE}:
            text = ", ".join(f"{name} by {by:.3g}" for name, by in wrong.items())
            raise GateError(f"{out}: the exported network differs from PyTorch in {text} of the largest value")
        write_json(temporary / "bundle.json", bundle)
        write_json(temporary / CARD, {key: value for key, value in card.items() if key != "weights"})
        shutil.rmtree(out, ignore_errors=True)
        temporary.rename(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return bundle


def _write_network(model: nn.Module, batch: Any, folder: Path, family: str) -> dict[str, Any]:
    """Write the graph and the reference into `folder`; return the contents of ``bundle.json``."""
    inputs, columns = batch.tensors(), predict(model, batch)
    network = ExportedNetwork(
        module=_Predicts(model, batch, list(inputs), list(columns)).eval(),
        inputs=tuple(Port(name, tuple(value.shape[1:])) for name, value in inputs.items()),
        outputs=tuple(Port(name, tuple(value.shape[1:])) for name, value in columns.items()),
        preparation=None,
    )
    _write(network, folder / "model.onnx", family)
    feeds = {name: value.numpy() for name, value in inputs.items()}
    found = OnnxNetwork(folder / "model.onnx")(feeds)
    write_arrays(folder / "reference.npz", {**feeds, **columns})
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "hpctrain": __version__,
        "inputs": [port.to_json() for port in network.inputs],
        "outputs": [port.to_json() for port in network.outputs],
        "largest_difference": {name: _difference(columns[name], found[name]) for name in columns},
        "num_compared": len(batch),
    }


def _write(network: ExportedNetwork, path: Path, family: str) -> None:
    try:
        write_onnx(network, path)
    except HpctrainError:
        raise
    except Exception as error:  # torch's exporter raises errors of many kinds about what it cannot translate
        lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
        message = f"torch cannot export what `predict` of {family} computes: {lines[-1] if lines else repr(error)}"
        raise ProfileError("hpctrain export", [Problem("model.family", message)]) from error


def _held_out(profile: Profile, card: dict[str, Any]) -> Any:
    """Return a prepared batch of samples that were not trained on; without any, of the training samples."""
    kind = kind_of(profile)
    samples = kind.open(profile.data)
    side = assign_split(samples.target_id, profile.data.split, samples.column)
    rows = np.flatnonzero(side != TRAIN)
    rows = rows if len(rows) else np.arange(len(samples))
    if len(rows) < 2:
        raise DataError(f"{', '.join(profile.data.files)}: two {kind.words.many} or more are needed to compare on")
    return kind.preparation(card)(samples.read(rows[:_COMPARED].astype(np.int64)))


def _difference(here: np.ndarray, there: np.ndarray) -> float:
    both_nan = np.isnan(here) & np.isnan(there)
    apart = np.abs(np.where(both_nan, 0.0, here.astype(np.float64) - there))
    return float(apart.max(initial=0.0)) / (float(np.nanmax(np.abs(here), initial=0.0)) or 1.0)
