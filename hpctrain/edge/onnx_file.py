"""Export a PyTorch module to ``model.onnx`` and check that both compute the same."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from hpctrain.edge.networks import BATCH, ExportedNetwork
from hpctrain.edge.packages import need
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.errors import CheckpointError

OPSET = 18
"""The newest opset that TensorRT 8.6 to 10 (JetPack 5 and 6) and every onnxruntime of the last three years read."""

CHECKED_BATCHES = (1, 2, 7, 16)
"""Batch sizes at which the exported graph is compared with PyTorch; one of them is 1."""

MAX_DIFFERENCE = 1e-4
"""Largest relative difference allowed for a float32 graph; a wrong operation causes a thousand times more."""

_FIRST_DYNAMO = (2, 6)
"""First version of torch whose newer exporter is used; with older versions the exporter traces TorchScript."""

_STACK_TRACES = "do_not_emit_stack_traces"


def write_onnx(network: ExportedNetwork, path: Path) -> None:
    """Export to ONNX with a dynamic batch, weights inside the file.

    Parameters
    ----------
    network : ExportedNetwork
    path : Path
        ``*.onnx``.

    Raises
    ------
    SiteError
        The packages of the extra ``export`` are missing.
    """
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version >= _FIRST_DYNAMO:
        need("onnx", "onnxscript")
        _export(network, path, dynamo=True)
    else:
        need("onnx")
        _export(network, path, dynamo=False)
    import onnx

    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # stack traces with paths of this machine
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _export(network: ExportedNetwork, path: Path, *, dynamo: bool) -> None:
    names = [port.name for port in network.inputs]
    out_names = [port.name for port in network.outputs]
    options: dict = {"input_names": names, "output_names": out_names, "opset_version": OPSET}
    if dynamo:
        batch = torch.export.Dim(BATCH, min=1, max=65536)
        shapes: tuple = tuple({0: batch} for _ in names)
        if _takes_any_number(network.module):
            shapes = (shapes,)
        options |= {"dynamic_shapes": shapes, "external_data": False, "verbose": False}
    else:
        options["dynamic_axes"] = {name: {0: BATCH} for name in (*names, *out_names)}
        _teach_asinh()
    with _quiet(), _without_stack_traces(), torch.no_grad():
        torch.onnx.export(network.module, network.example(3), str(path), dynamo=dynamo, **options)


def _takes_any_number(module: torch.nn.Module) -> bool:
    """Return whether ``forward`` takes ``*tensors``; their shapes are then described as one group."""
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)


def _teach_asinh() -> None:
    """Register the one operation that the older exporter does not know."""
    from torch.onnx import register_custom_op_symbolic

    register_custom_op_symbolic("aten::asinh", lambda graph, value: graph.op("Asinh", value), OPSET)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages that the exporter prints for its developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Do not note the line of Python for each node: an export is about a fifth faster, and the file is the same."""
    config = getattr(torch.fx, "config", None)
    before = getattr(config, _STACK_TRACES, None)
    if before is None:  # torch before this setting
        yield
        return
    setattr(config, _STACK_TRACES, True)
    try:
        yield
    finally:
        setattr(config, _STACK_TRACES, before)


def largest_differences(path: Path, network: ExportedNetwork) -> dict[str, float]:
    """Compare a graph with PyTorch at several batch sizes; some spectra are fully masked.

    Returns
    -------
    dict of float
        For each output, the largest absolute difference divided by PyTorch's largest absolute value.
    """
    compute = OnnxNetwork(path, ["CPUExecutionProvider"])
    largest = {port.name: 0.0 for port in network.outputs}
    for size in CHECKED_BATCHES:
        inputs = network.example(size)
        with torch.no_grad():
            expected = network.module(*inputs)
        feeds = {port.name: value.numpy() for port, value in zip(network.inputs, inputs, strict=True)}
        found = compute(feeds)
        for port, ours in zip(network.outputs, expected, strict=True):
            theirs = found[port.name]
            if theirs.shape != port.sized(size):
                raise CheckpointError(f"{path}: {port.name} has shape {theirs.shape}, not {port.sized(size)}")
            scale = float(ours.abs().max()) or 1.0
            difference = float(np.abs(theirs - ours.numpy()).max()) / scale
            largest[port.name] = max(largest[port.name], difference if np.isfinite(difference) else np.inf)
    return largest


def check_onnx(path: Path, network: ExportedNetwork) -> dict[str, float]:
    """Return :func:`largest_differences` of a float32 graph.

    Raises
    ------
    CheckpointError
        The differences are larger than rounding explains.
    """
    largest = largest_differences(path, network)
    wrong = {name: value for name, value in largest.items() if not value <= MAX_DIFFERENCE}
    if wrong:
        text = ", ".join(f"{name} by {value:.3g}" for name, value in wrong.items())
        raise CheckpointError(
            f"the exported graph differs from PyTorch: {text} of the largest value (allowed {MAX_DIFFERENCE:g}); "
            f"torch {torch.__version__} exports it wrongly, use another version"
        )
    return largest


def operations(path: Path) -> list[tuple[str, str]]:
    """Return the type and name of each operation of an ONNX file."""
    (onnx,) = need("onnx")
    return [(node.op_type, node.name) for node in onnx.load(path).graph.node]
