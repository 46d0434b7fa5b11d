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
from hpctrain.families.spectral_vae.choices import PCA
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.pca import RestSample, WeightedPCA, fit_rounds
from hpctrain.kinds.spectra.section import NormaliseSection, SpectraSection
from hpctrain.kinds.spectra.transform import normalise


@pytest.fixture(scope="session")
def spectra(simulated_file: Path) -> SpectraSet:
    return open_spectra(SpectraSection(files=[str(simulated_file)]))


@pytest.fixture
def section() -> SpectralVAESection:
    """Section of `model`; a module of tests about another network overrides it."""
    return SECTION


@pytest.fixture(scope="session")
def linear_model(spectra: SpectraSet) -> WeightedPCA:
    """Mean and components of some spectra."""
    grid = SpectralVAE(SECTION, facts_of(spectra)).grid
    sample = RestSample.of([normalise(spectra.read(np.arange(200)), NormaliseSection())], grid)
    return list(fit_rounds(sample, grid, SECTION.latent_size, num_iterations=4))[-1]


@pytest.fixture
def model(spectra: SpectraSet, section: SpectralVAESection, linear_model: WeightedPCA) -> torch.nn.Module:
    torch.manual_seed(3)
    made = SpectralVAE(section, facts_of(spectra)).eval()
    with torch.no_grad():
        if section.start == PCA:
            made.decoder.set_linear(linear_model.mean, linear_model.basis)
        for name, weight in made.named_parameters():  # what starts at a constant would hide a mistake in its order
            if "norm" in name or "bias" in name or "activation" in name:
                weight.add_(0.3 * torch.randn_like(weight))
            elif not weight.any():
                weight.normal_(std=0.1 / weight.shape[1] ** 0.5)
    return made


def facts_of(spectra: SpectraSet) -> SpectraFacts:
    return SpectraFacts.from_spectra(spectra, np.arange(len(spectra)))


@pytest.fixture
def network(model: torch.nn.Module) -> ExportedNetwork:
    return exported_network(model, CARD)


@pytest.fixture(scope="session")
def _graphs() -> dict[str, bytes]:
    return {}


@pytest.fixture
def graph(network: ExportedNetwork, section: SpectralVAESection, _graphs: dict[str, bytes], tmp_path: Path) -> Path:
    """The float32 graph of `network`, exported once a session."""
    path, name = tmp_path / "float32.onnx", section.model_dump_json()
    if name not in _graphs:
        write_onnx(network, path)
        _graphs[name] = path.read_bytes()
    path.write_bytes(_graphs[name])
    return path


@pytest.fixture
def prepared(spectra: SpectraSet, network: ExportedNetwork) -> Prepared:
    """48 spectra ready for the network."""
    return prepare_all(spectra, np.arange(48), network.preparation)
