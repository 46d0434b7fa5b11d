"""A small network with random weights, spectra for it, and its float32 graph: enough for all but training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export_parts import CARD, SECTION

from hpctrain.edge.networks import ExportedNetwork, exported_network
from hpctrain.edge.onnx_file import write_onnx
from hpctrain.edge.prepare import Prepared
from hpctrain.edge.sample import prepare_all
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.section import SpectraSection


@pytest.fixture(scope="session")
def spectra(simulated_file: Path) -> SpectraSet:
    return open_spectra(SpectraSection(files=[str(simulated_file)]))


@pytest.fixture
def model(spectra: SpectraSet) -> torch.nn.Module:
    torch.manual_seed(3)
    made = SpectralVAE(SECTION, SpectraFacts.from_spectra(spectra, np.arange(len(spectra)))).eval()
    with torch.no_grad():  # norms and biases start at constants, which would hide a mistake in their order
        for name, weight in made.named_parameters():
            if "norm" in name or "bias" in name or "activation" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return made


@pytest.fixture
def network(model: torch.nn.Module) -> ExportedNetwork:
    return exported_network(model, CARD)


@pytest.fixture(scope="session")
def _graphs() -> dict[str, bytes]:
    return {}


@pytest.fixture
def graph(network: ExportedNetwork, _graphs: dict[str, bytes], tmp_path: Path) -> Path:
    """The float32 graph of `network`, exported once a session."""
    path = tmp_path / "float32.onnx"
    if "float32" not in _graphs:
        write_onnx(network, path)
        _graphs["float32"] = path.read_bytes()
    path.write_bytes(_graphs["float32"])
    return path


@pytest.fixture
def prepared(spectra: SpectraSet, network: ExportedNetwork) -> Prepared:
    """48 spectra ready for the network."""
    return prepare_all(spectra, np.arange(48), network.preparation)
