"""No CPU can overflow in an INT8 graph: shown for the stored integers, and in an emulation of both kinds of CPU."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from export_parts import CONVOLUTIONAL
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from integer_products import LARGEST, exact, rows_of_convolution, saturating
from onnx import helper, numpy_helper

from hpctrain.edge.quantise import LARGEST_PAIR, calibrate, name_operations, write_int8

NUM_SPECTRA = 8

pytestmark = pytest.mark.slow  # an export takes seconds


@pytest.fixture
def section():
    return CONVOLUTIONAL


@pytest.fixture
def layers(graph):
    return name_operations(graph, graph)


@pytest.fixture
def int8(graph, layers, prepared, tmp_path):
    path = tmp_path / "int8.onnx"
    calibration = calibrate(graph, layers, prepared.feeds, tmp_path)
    write_int8(graph, path, layers, calibration, for_tensorrt=False)
    return path


def stored_weights(path):
    """Weights of each rounded layer, shape (num_weights, channels), by name of the layer."""
    loaded = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.initializer}
    found = {}
    for node in loaded.node:
        if (weight := constants.get(f"{node.name}_w_int8")) is not None:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            is_first = node.op_type == "Conv" or transposed
            found[node.name] = weight.reshape(len(weight), -1).T if is_first else weight
    return found


def largest_pair(weight):
    """Largest absolute sum of two weights of one sign and channel, found by looking at all pairs."""
    values = weight.astype(np.int64)
    sums = [np.abs(values[first] + values[second]).max() for first in range(len(values)) for second in range(first)]
    return max(sums, default=0)


def operands(path, prepared):
    """Activations (M, K) and weights (K, channels) of each rounded layer, for some spectra."""
    model = onnx.load(path)
    weights = stored_weights(path)
    nodes = {node.name: node for node in model.graph.node if node.name in weights}
    shown = [f"{name}_x_int8" for name in nodes]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in shown)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {item.name: prepared.feeds[item.name][:NUM_SPECTRA] for item in session.get_inputs()}
    values = dict(zip(nodes, session.run(shown, feeds), strict=True))
    found = {}
    for name, node in nodes.items():
        activation = values[name]
        if node.op_type == "Conv":
            chosen = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            kernel, stride = chosen["kernel_shape"][0], chosen.get("strides", [1])[0]
            assert set(chosen.get("dilations", [1])) == {1}
            assert chosen.get("group", 1) == 1
            activation = rows_of_convolution(activation, kernel, tuple(chosen["pads"]), stride, 128)
        found[name] = (activation, weights[name])
    return found


def test_no_two_weights_of_a_channel_can_overflow_sixteen_bits(int8, layers):
    weights = stored_weights(int8)
    assert set(weights) == set(layers)
    assert 255 * LARGEST_PAIR <= LARGEST
    for weight in weights.values():
        assert weight.dtype == np.int8
        assert largest_pair(weight) <= LARGEST_PAIR
        assert np.abs(weight.astype(int)).max() > LARGEST_PAIR // 4  # the range is used


def test_a_cpu_without_vnni_computes_the_same_sums_in_any_order_of_the_weights(int8, prepared):
    generator = np.random.default_rng(1)
    for activation, weight in operands(int8, prepared).values():
        expected = exact(activation, weight)
        for order in (np.arange(len(weight)), generator.permutation(len(weight))):
            np.testing.assert_array_equal(saturating(activation[:, order], weight[order]), expected)


def test_full_eight_bit_weights_would_overflow_on_such_a_cpu(graph, layers, prepared, tmp_path):
    """The emulation is worth something: the usual rounding to 127 steps, which most tools write, fails in it."""
    path = tmp_path / "full.onnx"
    calibration = calibrate(graph, layers, prepared.feeds, tmp_path)
    write_int8(graph, path, layers, calibration, for_tensorrt=False, largest_pair=255)
    wrong = [(saturating(*pair) != exact(*pair)).sum() for pair in operands(path, prepared).values()]
    assert sum(wrong) > 0


def test_the_graph_as_onnxruntime_fuses_it_holds_the_same_weights(int8, layers, tmp_path):
    """The optimiser may write other operations, but no other numbers: QLinearConv and QGemm read what was stored."""
    optimised = tmp_path / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(optimised).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.initializer}
    places = {"QLinearConv": 3, "QGemm": 3}
    integer = [node for node in loaded.node if node.op_type in places]
    assert len(integer) == len(layers)
    assert not [node.op_type for node in loaded.node if "Integer" in node.op_type]
    stored = sorted(np.sort(weight, axis=None).tolist() for weight in stored_weights(int8).values())
    read = [constants[node.input[places[node.op_type]]] for node in integer]
    if all(weight.dtype == np.int8 for weight in read):
        assert sorted(np.sort(weight, axis=None).tolist() for weight in read) == stored


def test_the_form_for_tensorrt_is_computed_in_float32_by_onnxruntime(graph, layers, prepared, tmp_path):
    """Its weights use all of 8 bits: no integer kernel of a CPU may read them when the gates judge the export."""
    path, optimised = tmp_path / "tensorrt.onnx", tmp_path / "optimised.onnx"
    write_int8(graph, path, layers, calibrate(graph, layers, prepared.feeds, tmp_path), for_tensorrt=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(optimised).graph.node}
    assert not {kind for kind in kinds if kind.startswith("QLinear") or kind == "QGemm" or "Integer" in kind}


@settings(deadline=None, max_examples=100)
@given(values=arrays(np.float32, (5, 4), elements=st.floats(-1e3, 1e3, width=32)))
def test_any_weights_are_rounded_to_pairs_that_fit(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    source, target = folder / "float.onnx", folder / "int8.onnx"
    product = helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="layer")
    tensors = [
        numpy_helper.from_array(values, "weight"),
        numpy_helper.from_array(np.zeros(values.shape[1], dtype=np.float32), "bias"),
    ]
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in (("x", values.shape[0]), ("y", values.shape[1]))
    ]
    graph = helper.make_graph([product], "one layer", ports[:1], ports[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), source)

    from hpctrain.edge.quantise import Calibration

    write_int8(source, target, ["layer"], Calibration({"x": 1.0, "y": 1.0}, {"layer": 1.0}), for_tensorrt=False)
    (weight,) = stored_weights(target).values()
    assert largest_pair(weight) <= LARGEST_PAIR
    assert np.abs(weight.astype(int)).max() <= 127
