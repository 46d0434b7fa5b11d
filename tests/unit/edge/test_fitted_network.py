"""A network that fits spectra by least squares keeps that fit in float32, whatever else is rounded."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from export_parts import SECTION
from onnx import TensorProto, numpy_helper

from hpctrain.edge.quantise import calibrate, name_operations, write_fp16, write_int8
from hpctrain.edge.runtime import OnnxNetwork

pytestmark = pytest.mark.slow
"""Exporting the network of these tests takes ten seconds."""

BRIGHT = 1e7
"""Inverse variance beyond the range of float16."""


@pytest.fixture
def fp16(graph, tmp_path):
    path = tmp_path / "fp16.onnx"
    write_fp16(graph, path)
    return path


def made_of(path, tensor):
    """Types of the operations that a tensor is computed from."""
    loaded = onnx.load(path).graph
    made_by = {name: node for node in loaded.node for name in node.output}
    kinds, to_do, seen = Counter(), [tensor], set()
    while to_do:
        node = made_by.get(to_do.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            kinds[node.op_type] += 1
            to_do += node.input
    return kinds


def test_weights_of_the_decoder_are_stored_once_in_half_precision_and_computed_with_in_float32(graph, fp16):
    loaded = onnx.load(fp16).graph
    stored = {tensor.name: tensor for tensor in loaded.initializer}
    rest_pixels = max(max(tensor.dims, default=0) for tensor in stored.values())
    large = [tensor for tensor in stored.values() if tuple(tensor.dims) == (rest_pixels, SECTION.decoder_hidden[-1])]
    assert [tensor.data_type for tensor in large] == [TensorProto.FLOAT16]
    readers = [node for node in loaded.node if large[0].name in node.input]
    assert [node.op_type for node in readers] == ["Cast"]
    products = [node for node in loaded.node if readers[0].output[0] in node.input]
    assert len(products) > 3  # derivatives, tried steps and the final spectrum
    before = sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(graph).graph.initializer)
    assert sum(numpy_helper.to_array(tensor).nbytes for tensor in stored.values()) < 0.75 * before


def test_the_linear_model_keeps_every_bit(graph, fp16, linear_model):
    for path in (graph, fp16):
        constants = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
        assert any(np.array_equal(values, linear_model.basis.numpy()) for values in constants)
        assert any(np.array_equal(values, linear_model.mean.numpy()) for values in constants)


def test_only_layers_of_the_encoder_may_be_integers(graph, model, prepared, tmp_path):
    layers = name_operations(graph, graph)
    nodes = {node.name: node for node in onnx.load(graph).graph.node}
    widths = [width for layer in layers for width in onnx_shape(graph, nodes[layer].input[1])]
    assert len(layers) == len(SECTION.encoder_hidden) + 1
    assert max(widths) == model.encoder.perceptron[0].in_features
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, calibrate(graph, layers, prepared.feeds, tmp_path), for_tensorrt=True)
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(made_of(path, "latents"))


def onnx_shape(path, name):
    return next(tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer if tensor.name == name)


def test_the_brightest_spectra_overflow_nowhere(graph, fp16, network, prepared):
    feeds = {**prepared.feeds, "ivar": prepared.feeds["ivar"] * np.float32(BRIGHT / prepared.feeds["ivar"].max())}
    exact, half = OnnxNetwork(graph)(feeds), OnnxNetwork(fp16)(feeds)
    error = (half["latents"] - exact["latents"]) / exact["latents"].std(axis=0)
    assert np.isfinite(half["rest_flux"]).all()
    assert 0 < np.sqrt(np.mean(error**2)) < 0.01


def test_pixels_off_the_rest_grid_have_no_influence(graph, prepared):
    compute, pixel = OnnxNetwork(graph), prepared.feeds["pixel"].copy()
    pixel[:, :40] = -1
    without = prepared.feeds["ivar"].copy()
    without[:, :40] = 0
    off_grid, masked = compute({**prepared.feeds, "pixel": pixel}), compute({**prepared.feeds, "ivar": without})
    for name, values in off_grid.items():
        np.testing.assert_allclose(values, masked[name], rtol=1e-4, atol=1e-4 * np.abs(masked[name]).max())


def test_the_graph_says_nothing_of_the_machine_that_made_it(graph):
    assert not [node.name for node in onnx.load(graph).graph.node if node.metadata_props]
    assert b"/hpctrain/" not in graph.read_bytes()
