"""The exported graph computes what PyTorch does, for any number of spectra, masked ones among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_parts import CARD, CONVOLUTIONAL, REFINED, SECTION

from hpctrain.edge.networks import exported_network
from hpctrain.edge.onnx_file import _export, check_onnx, largest_differences
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.see import see_in_pytorch, see_through_runtime
from hpctrain.errors import CheckpointError

pytestmark = pytest.mark.slow


@pytest.fixture(
    params=[
        pytest.param(SECTION, id="least squares"),
        pytest.param(CONVOLUTIONAL, id="convolutions"),
        pytest.param(REFINED, id="both"),
    ]
)
def section(request):
    return request.param


def test_the_graph_computes_what_pytorch_does_at_any_batch_size(graph, network):
    assert max(check_onnx(graph, network).values()) < 1e-5


def test_one_spectrum_alone_and_among_others_comes_out_the_same(graph, prepared):
    compute = OnnxNetwork(graph)
    together = compute(prepared.feeds)
    alone = compute({name: value[5:6] for name, value in prepared.feeds.items()})
    for name, value in alone.items():
        np.testing.assert_allclose(value[0], together[name][5], rtol=1e-4, atol=1e-5)


def test_a_spectrum_without_any_pixel_is_no_harm_to_others(graph, prepared):
    compute = OnnxNetwork(graph)
    feeds = {name: value.copy() for name, value in prepared.feeds.items()}
    feeds["flux"][0], feeds["ivar"][0] = 0, 0
    before, after = compute(prepared.feeds), compute(feeds)
    for name in before:
        assert np.isfinite(after[name]).all()
        np.testing.assert_allclose(after[name][1:], before[name][1:], rtol=1e-5, atol=1e-6)


def test_from_file_to_latents_the_device_agrees_with_the_trainer(graph, model, network, spectra):
    """All the way: preparation in numpy and the graph, against normalisation and network in PyTorch."""
    rows = np.arange(len(spectra))
    latents, chi2 = see_in_pytorch(model, CARD, spectra, rows)
    found_latents, found_chi2 = see_through_runtime(OnnxNetwork(graph), network.preparation, spectra, rows)
    assert np.isfinite(chi2).sum() > 300
    np.testing.assert_array_equal(np.isfinite(found_chi2), np.isfinite(chi2))
    np.testing.assert_allclose(found_latents, latents, atol=5e-4 * np.nanstd(latents))
    np.testing.assert_allclose(found_chi2, chi2, rtol=1e-4)


def test_a_graph_of_other_weights_is_refused(graph, model, network):
    with torch.no_grad():
        model.decoder.output.weight.mul_(1.01)
    assert largest_differences(graph, network)["rest_flux"] > 1e-4
    with pytest.raises(CheckpointError, match=r"differs from PyTorch: .*rest_flux by"):
        check_onnx(graph, network)


def test_the_exporter_of_older_versions_of_torch_makes_the_same(network, tmp_path):
    path = tmp_path / "older.onnx"
    _export(network, path, dynamo=False)
    assert max(check_onnx(path, network).values()) < 1e-5


def test_a_family_without_an_export_says_so(model):
    with pytest.raises(CheckpointError, match="'pixel_cnn' cannot be exported; those that can: spectral_vae"):
        exported_network(model, CARD | {"family": "pixel_cnn"})
