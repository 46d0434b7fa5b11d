"""Small numbers stand where they may and nowhere else, are as small as they should be, and follow their rules."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from export_parts import CONVOLUTIONAL
from onnx import numpy_helper

from hpctrain.edge.onnx_file import largest_differences
from hpctrain.edge.placement import choose_layers
from hpctrain.edge.quantise import calibrate, name_operations, write_fp16, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.profile.sections.edge import GatesSection

pytestmark = pytest.mark.slow


@pytest.fixture
def section():
    return CONVOLUTIONAL


@pytest.fixture
def layers(graph):
    return name_operations(graph, graph)


@pytest.fixture
def calibration(graph, layers, prepared, tmp_path):
    return calibrate(graph, layers, prepared.feeds, tmp_path)


def producers(path):
    loaded = onnx.load(path).graph
    return loaded, {name: node for node in loaded.node for name in node.output}


@pytest.mark.parametrize("for_tensorrt", [False, True])
def test_only_convolutions_and_products_take_rounded_numbers(graph, layers, calibration, tmp_path, for_tensorrt):
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, calibration, for_tensorrt=for_tensorrt)
    loaded, made_by = producers(path)
    quantised = set()
    for node in loaded.node:
        for name in node.input:
            source = made_by.get(name)
            if source is not None and source.op_type == "DequantizeLinear":
                if node.op_type in ("Conv", "Gemm"):
                    quantised.add(node.name)
                else:  # what onnxruntime's integer convolution puts out
                    assert source.name.endswith("_y_dequantise")
                    assert not for_tensorrt
            if source is not None and source.op_type == "QuantizeLinear":
                assert node.op_type == "DequantizeLinear"
    assert quantised == set(layers)
    assert {node.op_type for node in loaded.node if node.name in quantised} == {"Conv", "Gemm"}


def test_latents_are_neither_rounded_nor_taken_in_rounded(graph, layers, calibration, tmp_path):
    """A product that reads the latents would have them rounded, and they would come out of the network rounded."""
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, calibration, for_tensorrt=False)
    loaded, made_by = producers(path)
    assert made_by["latents"].op_type == "Gemm"
    assert made_by["latents"].name not in layers
    for node in loaded.node:
        if "latents" in node.input:
            assert node.op_type == "Gemm"
            assert node.name not in layers


@pytest.mark.parametrize("for_tensorrt", [False, True])
def test_zero_is_in_the_middle_and_weights_have_a_step_for_each_channel(
    graph, layers, calibration, tmp_path, for_tensorrt
):
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, calibration, for_tensorrt=for_tensorrt)
    loaded, _ = producers(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.initializer}
    weight_zeros = [value for name, value in constants.items() if name.endswith("_w_zero")]
    zeros = [value for name, value in constants.items() if name.endswith(("_x_zero", "_y_zero"))]
    assert not any(value.any() for value in weight_zeros)
    assert {(value.dtype.name, value.item()) for value in zeros} == {("int8", 0) if for_tensorrt else ("uint8", 128)}
    steps = {name: value for name, value in constants.items() if name.endswith("_w_scale")}
    assert len(steps) == len(layers)
    assert all(value.ndim == 1 and len(value) > 1 for value in steps.values())
    stored = {value.dtype for name, value in constants.items() if name.endswith("_w_int8")}
    assert stored == (set() if for_tensorrt else {np.dtype("int8")})


def test_weights_in_eight_bits_are_a_quarter_of_the_size(graph, layers, calibration, tmp_path):
    small, pairs = tmp_path / "small.onnx", tmp_path / "pairs.onnx"
    write_int8(graph, small, layers, calibration, for_tensorrt=False)
    write_int8(graph, pairs, layers, calibration, for_tensorrt=True)
    weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(graph).graph.initializer)
    now = sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(small).graph.initializer)
    assert now < 0.4 * weights  # latents' own products, biases and steps stay
    assert pairs.stat().st_size > graph.stat().st_size


@pytest.mark.parametrize("for_tensorrt", [False, True])
def test_rounding_changes_little(graph, layers, calibration, network, prepared, tmp_path, for_tensorrt):
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers, calibration, for_tensorrt=for_tensorrt)
    exact, rounded = OnnxNetwork(graph)(prepared.feeds), OnnxNetwork(path)(prepared.feeds)
    error = (rounded["latents"] - exact["latents"]) / exact["latents"].std(axis=0)
    assert 1e-5 < np.sqrt(np.mean(error**2)) < 0.1


def test_half_precision_is_half_the_size_and_a_thousandth_off(graph, network, tmp_path):
    path = tmp_path / "fp16.onnx"
    write_fp16(graph, path)
    assert max(largest_differences(path, network).values()) < 5e-3
    loaded, made_by = producers(path)
    halves = [node.op_type for node in loaded.node if any(name.endswith("_as_half") for name in node.input)]
    assert set(halves) == {"Conv", "Gemm"}
    assert made_by["latents"].op_type == "Gemm"  # not a Cast: latents are computed in float32
    weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(graph).graph.initializer)
    assert sum(numpy_helper.to_array(tensor).nbytes for tensor in loaded.initializer) < 0.6 * weights


def test_small_numbers_take_any_batch(graph, layers, calibration, network, tmp_path):
    path = tmp_path / "int8.onnx"
    write_int8(graph, path, layers[:1], calibration, for_tensorrt=False)
    write_fp16(path, path)
    assert largest_differences(path, network)["latents"] < 0.2


def test_layers_that_harm_more_than_the_gates_allow_are_not_rounded(graph, network, prepared, tmp_path):
    def chosen(**gates):
        layers, _, _ = choose_layers(
            graph, prepared, network.preparation, GatesSection(**gates), tmp_path, for_tensorrt=False
        )
        return {layer.name: layer for layer in layers}

    lenient, strict = chosen(latent_error=10.0, chi2=1e6), chosen(latent_error=1e-7, chi2=0.0)
    assert all(layer.is_int8 for layer in lenient.values())
    harmful = {name for name, layer in strict.items() if layer.latent_error > 1e-6 or layer.chi2_rise > 0}
    assert harmful
    assert not any(strict[name].is_int8 for name in harmful)
    between = chosen(latent_error=10.0, chi2=3.0 * min(layer.chi2_rise for layer in lenient.values()) + 1e-9)
    assert 0 < sum(layer.is_int8 for layer in between.values()) < len(between)


def test_onnxruntime_computes_convolutions_in_integers(graph, layers, calibration, tmp_path):
    path, optimised = tmp_path / "int8.onnx", tmp_path / "optimised.onnx"
    write_int8(graph, path, layers, calibration, for_tensorrt=False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert kinds["QLinearConv"] == 2
    assert kinds["QGemm"] == len(layers) - 2
