"""Write an ONNX file in INT8 or FP16: convolutions and matrix products are rounded, the rest stays float32.

Convolutions and products hold nearly all weights and arithmetic. The operations between them (normalisation by masked
sums over thousands of pixels, softmax over wavelength, arcsinh) would lose more accuracy than they gain speed. Products
that compute or read a short output, such as the latent vectors, stay in float32 too: they cost little time, and their
rounding would show directly in the results.

A weighted least-squares fit and Gauss-Newton steps stay in float32 as a whole, because inverse variances and normal
matrices exceed the range of float16. Their products are no layers, or read a weight that others read too
(`_shared_weights`).

INT8 is written as QuantizeLinear and DequantizeLinear around each operation. It is symmetric around zero. Weights have
one step per output channel. Activations have one step per tensor, from the largest value in calibration. TensorRT reads
this form [1]_; the integer kernels of onnxruntime need a form that differs in details.

x86 CPUs with AVX2 or AVX-512 but without VNNI multiply an unsigned activation by a signed weight with VPMADDUBSW. This
instruction adds two neighbouring products in 16 bits and saturates [3]_. Full 8-bit weights make it overflow, and the
latent vectors are then wrong by a third of their spread. The weights written here for onnxruntime are small enough that
no two of one output channel can overflow (see `LARGEST_PAIR`), so every CPU computes the same sums.

References
----------
.. [1] TensorRT documentation, "Explicit quantization": Q/DQ nodes, zero points of 0, INT8 weights behind a DQ.
.. [2] Wu et al. 2020, "Integer quantization for deep learning inference", arXiv:2004.09602: per-channel weights,
   per-tensor activations by their maximum.
.. [3] Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, "PMADDUBSW".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.edge.packages import need
from hpctrain.edge.runtime import OnnxNetwork

QUANTISED_OPERATIONS = ("Conv", "Gemm")

SHORT_OUTPUT = 64
"""Outputs of the network with no more values than this per spectrum are never rounded."""

LARGEST_PAIR = 128
"""Largest sum of two weights of one output channel that have the same sign, in steps.

An activation is at most 255, and 255 * 128 = 32640 fits in 16 signed bits. The sum of any two products therefore
fits, in whatever order a kernel pairs the weights."""

_BATCH = 8
"""Spectra of one calibration call: all intermediate outputs of a call are in memory at once."""

_LARGEST = 127
"""Largest symmetric 8-bit number; -128 is not used."""

_UNSIGNED_ZERO = 128
"""Activations for onnxruntime are symmetric too, but unsigned: its integer convolution on x86 needs that."""


@dataclass(frozen=True)
class Calibration:
    """Ranges and sizes of the layers, measured on the calibration spectra.

    Parameters
    ----------
    largest : dict of float
        Largest absolute value of each tensor that a layer reads or computes, by name.
    share : dict of float
        For each layer, its share of all weights or of all multiplications, whichever is larger.
    """

    largest: dict[str, float]
    share: dict[str, float]


def name_operations(source: Path, target: Path) -> list[str]:
    """Give every operation a name, and return those that can be quantised.

    Parameters
    ----------
    source, target : Path
        ONNX files; the same path is allowed for both.
    """
    (onnx,) = need("onnx")
    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save(model, target)
    return [node.name for node in _roundable(model.graph)]


def calibrate(source: Path, layers: Collection[str], feeds: Mapping[str, np.ndarray], scratch: Path) -> Calibration:
    """Run calibration spectra through a float32 graph and measure its ranges.

    Parameters
    ----------
    source : Path
        ONNX file with names, from :func:`name_operations`.
    layers : collection of str
        Names from there too.
    feeds : mapping of ndarray
        Inputs of the network for the calibration spectra.
    scratch : Path
        Folder for a temporary graph that has these tensors as outputs.
    """
    (onnx,) = need("onnx")
    model = onnx.load(source)
    nodes = [node for node in model.graph.node if node.name in layers]
    tensors = [name for node in nodes for name in (node.input[0], node.output[0])]
    there = {value.name for value in model.graph.output}
    shown = [name for name in dict.fromkeys(tensors) if name not in there]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in shown)
    path = scratch / "ranges.onnx"
    onnx.save(model, path)
    network = OnnxNetwork(path, ["CPUExecutionProvider"])
    largest, places = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 1)
    for start in range(0, len(next(iter(feeds.values()))), _BATCH):
        outputs = network({name: value[start : start + _BATCH] for name, value in feeds.items()})
        for name in largest:
            largest[name] = max(largest[name], float(np.abs(outputs[name]).max()))
            places[name] = outputs[name].shape[2] if outputs[name].ndim == 3 else 1
    path.unlink()
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    products = {node.name: sizes[node.input[1]] * places.get(node.output[0], 1) for node in _layers(model.graph)}
    all_weights, all_products = max(sum(sizes.values()), 1), max(sum(products.values()), 1)
    share = {node.name: max(sizes[node.input[1]] / all_weights, products[node.name] / all_products) for node in nodes}
    return Calibration(largest, share)


def write_int8(
    source: Path,
    target: Path,
    layers: Collection[str],
    calibration: Calibration,
    *,
    for_tensorrt: bool,
    largest_pair: int = LARGEST_PAIR,
) -> None:
    """Quantise some convolutions and products.

    Parameters
    ----------
    source, target : Path
        ONNX files: the float32 graph with names, and the file to write.
    layers : collection of str
        Operations to quantise.
    calibration : Calibration
    for_tensorrt : bool
        Weights stay float32 before a QuantizeLinear of their own, and biases stay float32, because every version of
        TensorRT reads that. Otherwise weights are stored as 8-bit integers, a quarter of the size, and biases as 32-bit
        integers; the outputs of convolutions are rounded too. onnxruntime has integer kernels for that form.
    largest_pair : int
        Largest sum of two weights of one output channel with the same sign, in steps. More than `LARGEST_PAIR` is for
        comparisons only: such a graph overflows on CPUs without VNNI. Not used for TensorRT.

    Notes
    -----
    TensorRT multiplies signed by signed numbers and adds in 32 bits, so its weights use the whole range of 8 bits. For
    onnxruntime the step of an output channel is as large as `largest_pair` needs.
    """
    (onnx,) = need("onnx")
    model = onnx.load(source)
    editor = _Editor(onnx, model.graph, 0 if for_tensorrt else _UNSIGNED_ZERO)
    for node in list(model.graph.node):
        if node.name in layers:
            scale = np.float32(max(calibration.largest[node.input[0]], 1e-12) / _LARGEST)
            bias = node.input[2] if len(node.input) > 2 and not for_tensorrt else None
            output = node.output[0] if node.op_type == "Conv" and not for_tensorrt else None
            axis = 1 if node.op_type == "Gemm" and not _transposed(node) else 0
            node.input[0] = editor.rounded(node.input[0], scale, f"{node.name}_x")
            pair = None if for_tensorrt else largest_pair
            weight, scales = editor.weight(node.input[1], axis, node.name, pair)
            node.input[1] = weight
            if bias is not None:
                node.input[2] = editor.bias(bias, scale * scales, node.name)
            if output is not None:
                node.output[0] = f"{output}_unrounded"
            editor.nodes.append(node)
            if output is not None:
                scale = np.float32(max(calibration.largest[output], 1e-12) / _LARGEST)
                editor.rounded(node.output[0], scale, f"{node.name}_y", result=output)
        else:
            editor.nodes.append(node)
    editor.save(model, target)


def write_fp16(source: Path, target: Path) -> None:
    """Compute convolutions and products in float16 and store their weights in float16; all else stays as it is.

    Parameters
    ----------
    source, target : Path
        ONNX files; the same path is allowed for both. Operations that are INT8 stay as they are.

    Notes
    -----
    Types are explicit: a Cast comes before and after each operation, so a strongly typed TensorRT engine and
    onnxruntime agree on them. Weights beyond the range of float16 (65504) become infinite and fail every gate.

    Weights that several operations read are those of a decoder that a Gauss-Newton step fits to the spectrum. They are
    stored in float16 too, but read through a Cast: fit and normal matrices are computed in float32, because inverse
    variances exceed the range of float16.
    """
    (onnx,) = need("onnx")
    model = onnx.load(source)
    shared = _shared_weights(model.graph)
    half = {node.output[0] for node in _roundable(model.graph)}
    editor = _Editor(onnx, model.graph)
    for node in list(model.graph.node):
        if node.output[0] not in half:
            node.input[:] = [editor.widened(name) if name in shared else name for name in node.input]
            editor.nodes.append(node)
            continue
        output = node.output[0]
        node.input[:] = [editor.half(name, node.name) for name in node.input]
        node.output[0] = f"{output}_half"
        editor.nodes.append(node)
        editor.add("Cast", [node.output[0]], output, f"{node.name}_to_float", to=onnx.TensorProto.FLOAT)
    editor.save(model, target)


class _Editor:
    """Writes a graph anew, operation by operation.

    Parameters
    ----------
    onnx : module
    graph : onnx.GraphProto
    activation_zero : int
        Integer that represents 0 in a rounded activation: 0 if signed, or the middle of the range if unsigned.
    """

    def __init__(self, onnx: Any, graph: Any, activation_zero: int = 0) -> None:
        self._onnx, self._graph = onnx, graph
        self._activation_zero = np.array(activation_zero, dtype=np.uint8 if activation_zero else np.int8)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._halves: dict[str, str] = {}
        self._widened: set[str] = set()
        self.nodes: list[Any] = []

    def add(self, operation: str, inputs: list[str], output: str, name: str, **attributes: Any) -> str:
        """Add an operation and return its output."""
        self.nodes.append(self._onnx.helper.make_node(operation, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant and return its name."""
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def values(self, name: str) -> np.ndarray:
        """Return a constant of the graph."""
        return self._onnx.numpy_helper.to_array(self._constants[name])

    def rounded(self, tensor: str, scale: np.float32, name: str, result: str | None = None) -> str:
        """Round a tensor to 8 bits and back."""
        step = self.constant(f"{name}_scale", np.array(scale, dtype=np.float32))
        zero = self.constant(f"{name}_zero", self._activation_zero)
        small = self.add("QuantizeLinear", [tensor, step, zero], f"{name}_int8", f"{name}_quantise")
        return self.add("DequantizeLinear", [small, step, zero], result or f"{name}_rounded", f"{name}_dequantise")

    def weight(self, tensor: str, axis: int, name: str, largest_pair: int | None) -> tuple[str, np.ndarray]:
        """Round a weight tensor per output channel; return the name of the rounded tensor and the steps.

        None as `largest_pair` stores float32 and lets a QuantizeLinear round it.
        """
        values = self.values(tensor).astype(np.float32)
        channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        steps = np.abs(channels).max(axis=1) / _LARGEST
        if largest_pair is not None:
            # One less than allowed: rounding can add half a step to each of the two weights.
            steps = np.maximum(steps, _largest_pair(channels) / (largest_pair - 1))
        steps = np.maximum(steps, 1e-14).astype(np.float32)
        shape = [-1 if index == axis else 1 for index in range(values.ndim)]
        step = self.constant(f"{name}_w_scale", steps)
        zero = self.constant(f"{name}_w_zero", np.zeros(len(steps), dtype=np.int8))
        if largest_pair is None:
            small = self.add("QuantizeLinear", [tensor, step, zero], f"{name}_w_int8", f"{name}_w_quantise", axis=axis)
        else:
            rounded = np.clip(np.rint(values / steps.reshape(shape)), -_LARGEST, _LARGEST)
            small = self.constant(f"{name}_w_int8", rounded.astype(np.int8))
        inputs, output = [small, step, zero], f"{name}_w_rounded"
        return self.add("DequantizeLinear", inputs, output, f"{name}_w_dequantise", axis=axis), steps

    def bias(self, tensor: str, steps: np.ndarray, name: str) -> str:
        """Store a bias as 32-bit integers, in the steps of the sums it is added to."""
        limit = np.iinfo(np.int32).max
        rounded = np.clip(np.rint(self.values(tensor).astype(np.float64) / steps), -limit, limit)
        small = self.constant(f"{name}_b_int32", rounded.astype(np.int32))
        step = self.constant(f"{name}_b_scale", steps.astype(np.float32))
        return self.add("DequantizeLinear", [small, step], f"{name}_b_rounded", f"{name}_b_dequantise", axis=0)

    def half(self, tensor: str, name: str) -> str:
        """Return the name of a float16 copy of a tensor; add the copy or the Cast if needed."""
        if tensor not in self._halves:
            copy = f"{tensor}_as_half"
            if tensor in self._constants:
                with np.errstate(over="ignore"):
                    self.constant(copy, self.values(tensor).astype(np.float16))
            else:
                self.add("Cast", [tensor], copy, f"{name}_to_half", to=self._onnx.TensorProto.FLOAT16)
            self._halves[tensor] = copy
        return self._halves[tensor]

    def widened(self, constant: str) -> str:
        """Return the name of a constant that is stored in float16 and cast to float32."""
        name = f"{constant}_from_half"
        if name not in self._widened:
            self._widened.add(name)
            self.add(
                "Cast", [self.half(constant, constant)], name, f"{constant}_widen", to=self._onnx.TensorProto.FLOAT
            )
        return name

    def save(self, model: Any, target: Path) -> None:
        """Check the graph and write it, without the constants it no longer uses."""
        graph = self._graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        self._onnx.checker.check_model(model, full_check=True)
        self._onnx.save(model, target)


def _roundable(graph: Any) -> list[Any]:
    """Return the convolutions and products whose inputs may be rounded: none that reads or computes a short output.

    A product that reads a short output would have it rounded, and the network would return it rounded. A product that
    shares its weight belongs to a decoder that is fitted to the spectrum.
    """
    short, readers = _short_outputs(graph), _readers(graph)
    return [node for node in _layers(graph) if readers[node.input[1]] == 1 and not short & {*node.input, *node.output}]


def _shared_weights(graph: Any) -> set[str]:
    """Return the weights that several operations read, none of them next to a short output."""
    short, readers = _short_outputs(graph), _readers(graph)
    beside = {node.input[1] for node in _layers(graph) if short & {*node.input, *node.output}}
    return {node.input[1] for node in _layers(graph) if readers[node.input[1]] > 1} - beside


def _layers(graph: Any) -> list[Any]:
    """Return the convolutions and products with constant weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type in QUANTISED_OPERATIONS and node.input[1] in weights]


def _readers(graph: Any) -> Counter[str]:
    """Return the number of operations that read each tensor."""
    return Counter(name for node in graph.node for name in set(node.input))


def _short_outputs(graph: Any) -> set[str]:
    sizes = {
        output.name: [dimension.dim_value for dimension in output.type.tensor_type.shape.dim[1:]]
        for output in graph.output
    }
    return {name for name, size in sizes.items() if np.prod(size) <= SHORT_OUTPUT}


def _largest_pair(channels: np.ndarray) -> np.ndarray:
    """Return the largest absolute sum of two weights with the same sign, for each row of shape (num_weights,)."""
    ordered = np.sort(channels, axis=1)
    positive, negative = np.clip(ordered[:, -2:], 0, None), np.clip(ordered[:, :2], None, 0)
    return np.maximum(positive.sum(axis=1), -negative.sum(axis=1))


def _transposed(node: Any) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
