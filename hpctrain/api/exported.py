"""The plain ONNX export of any family as a model: torch prepares the samples, onnxruntime computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.api.network import NetworkModel
from hpctrain.edge.runtime import PROVIDERS, OnnxNetwork
from hpctrain.families.store import CARD, read_card

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Batch

NETWORK = "model.onnx"


class OnnxPredictor:
    """A network with the method that every trained model has.

    Parameters
    ----------
    network : OnnxNetwork
    """

    def __init__(self, network: OnnxNetwork) -> None:
        self.network = network

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return the columns that the network predicts for a prepared batch, each (N, ...)."""
        return self.network({name: tensor.numpy() for name, tensor in batch.tensors().items()})


def load_exported(folder: Path, device: str) -> NetworkModel:
    """Load a folder that ``hpctrain export`` wrote for a family without bundles of its own.

    Parameters
    ----------
    folder : Path
    device : str
        As of :func:`hpctrain.load`.

    Raises
    ------
    CheckpointError
        The card or the network is absent or damaged.
    SiteError
        onnxruntime is not installed, or lacks the device.
    """
    card = read_card(folder / CARD)
    network = OnnxNetwork(folder / NETWORK, PROVIDERS[device.partition(":")[0]])
    return NetworkModel(folder / NETWORK, card, "cpu", OnnxPredictor(network))
