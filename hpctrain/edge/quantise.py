"""Smaller numbers in an ONNX file: INT8 or FP16 for convolutions and matrix products, float32 for all else.

Convolutions and products hold nearly all weights and arithmetic. What stands between them here (normalisation by masked
sums over thousands of pixels, softmax over wavelength, arcsinh) loses more from small numbers than it gains. The
products that put out or take in a short output, such as the latents, stay in float32 too: they cost nothing and would
be wrong directly.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.edge.packages import need

QUANTISED_OPERATIONS = ("Conv", "Gemm")

SHORT_OUTPUT = 64
"""Outputs of the network with no more values than this per spectrum are never rounded."""

_BATCH = 8
"""Spectra of one calibration call: what the network puts out in between is in memory at once."""


def write_int8(source: Path, target: Path, feeds: Mapping[str, np.ndarray], *, for_tensorrt: bool) -> None:
    """Quantise statically: 8-bit weights per channel, 8-bit activations by the largest value in calibration, QDQ form.

    Parameters
    ----------
    source, target : Path
        ONNX files: float32, and what is to be written.
    feeds : mapping of ndarray
        Inputs of the network for the calibration spectra.
    for_tensorrt : bool
        Weights stay float32 before a QuantizeLinear of their own, as TensorRT of every version reads them; otherwise
        they are stored as 8-bit numbers, a quarter of the size.

    Notes
    -----
    Symmetric around zero, as TensorRT demands: the zero point of everything is 0.

    References
    ----------
    .. [1] Wu et al. 2020, "Integer quantization for deep learning inference", arXiv:2004.09602: per-channel weights,
       per-tensor activations.
    """
    need("onnx", "onnxruntime")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as scratch, _quiet():
        named = Path(scratch) / "named.onnx"
        kept_float = _name_operations(source, named)
        quantize_static(
            str(named),
            str(target),
            _feeds_reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATIONS),
            nodes_to_exclude=kept_float,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": for_tensorrt,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": list(QUANTISED_OPERATIONS),
                "QuantizeBias": False,
            },
        )


def write_fp16(source: Path, target: Path) -> None:
    """Compute convolutions and products in float16, with weights stored as such; all else stays float32.

    Parameters
    ----------
    source, target : Path
        ONNX files: float32, and what is to be written.

    Notes
    -----
    Types are explicit: a Cast stands before and behind each operation, so a strongly typed TensorRT engine and
    onnxruntime agree on them. Weights beyond the range of float16 (65504) become infinite and fail every gate.
    """
    onnx, _ = need("onnx", "onnx.numpy_helper")
    helper, numpy_helper, types = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    model = onnx.load(source)
    graph = model.graph
    kept_float = set(_short_outputs(graph))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, halves = [], {}

    def half(name: str, node_name: str) -> str:
        """Return the name of a float16 copy of a tensor, adding what makes it."""
        if name not in halves:
            halves[name] = f"{name}_half"
            if name in weights:
                array = numpy_helper.to_array(weights[name])
                with np.errstate(over="ignore"):
                    graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), halves[name]))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [halves[name]], name=f"{node_name}_to_half", to=types.FLOAT16)
                )
        return halves[name]

    for node in graph.node:
        if node.op_type not in QUANTISED_OPERATIONS or node.output[0] in kept_float:
            nodes.append(node)
            continue
        output = node.output[0]
        node.input[:] = [half(name, node.name) for name in node.input]
        node.output[0] = f"{output}_half_out"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [output], name=f"{node.name}_to_float", to=types.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    for name, tensor in weights.items():
        if name not in used:
            graph.initializer.remove(tensor)
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def _name_operations(source: Path, target: Path) -> list[str]:
    """Give every operation a name, which quantisation goes by; return those that stay float32."""
    (onnx,) = need("onnx")
    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    outputs = set(_short_outputs(model.graph))
    onnx.save(model, target)
    # A product that takes them in would have them rounded for it, and they would come out rounded.
    return [node.name for node in model.graph.node if outputs & {*node.input, *node.output}]


def _short_outputs(graph: Any) -> Iterator[str]:
    for output in graph.output:
        sizes = [dimension.dim_value for dimension in output.type.tensor_type.shape.dim[1:]]
        if np.prod(sizes) <= SHORT_OUTPUT:
            yield output.name


def _feeds_reader(feeds: Mapping[str, np.ndarray]) -> Any:
    """Hand out the feeds in small batches, as onnxruntime's calibration asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._start = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            piece = {name: value[self._start : self._start + _BATCH] for name, value in feeds.items()}
            self._start += _BATCH
            return piece if len(next(iter(piece.values()))) else None

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves that no shape inference was run before: these graphs do not need it."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
