"""Build the TensorRT engine of a network where TensorRT is installed, and otherwise return the command that does it.

An engine belongs to one version of TensorRT and one kind of GPU, so it is built on the device. Types are those of the
ONNX file (``--stronglyTyped``): only the operations that the file marks are FP16 or INT8. TF32 is switched off, because
its 10 bits are too few for a least-squares fit.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.edge.networks import Port
from hpctrain.errors import HpctrainError

ENGINE = "model.engine"

JETPACK = Path("/usr/src/tensorrt/bin/trtexec")
"""Path of ``trtexec`` on JetPack, where it is not on PATH."""

_TAIL_LINES = 15
_LATENCY = re.compile(r"\bLatency: .*?median = (?P<p50>[\d.]+) ms(?P<rest>.*)")
_PERCENTILE = re.compile(r"percentile\((\d+)%\) = ([\d.]+) ms")
_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_DEVICE = re.compile(r"Selected Device:\s*(.+)")


class EngineError(HpctrainError):
    """TensorRT could not build the engine; the message ends with the last lines that it printed."""

    exit_code = 3


@dataclass(frozen=True)
class Engine:
    """A TensorRT engine and how it was built.

    Parameters
    ----------
    builder : str
        ``trtexec`` or ``tensorrt``, the Python package.
    command : list of str
    version : str or None
        Version of TensorRT.
    device : str or None
        GPU on which it was built.
    latency_ms : dict of float
        ``p50``, ``p95``, ``p99`` of the network alone at batch 1, measured by trtexec; empty without a measurement.
    """

    builder: str
    command: list[str]
    version: str | None
    device: str | None
    latency_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``."""
        values = {"builder": self.builder, "command": shlex.join(self.command), "version": self.version}
        return {name: value for name, value in {**values, "device": self.device}.items() if value is not None} | (
            {"network_latency_ms": self.latency_ms} if self.latency_ms else {}
        )


def trtexec_command(
    program: str, inputs: Sequence[Port], largest_batch: int, *, onnx: str = "model.onnx", engine: str = ENGINE
) -> list[str]:
    """Return the command that builds an engine for batches of 1 to `largest_batch`, tuned for 1.

    Parameters
    ----------
    program : str
        ``trtexec``, or its path.
    inputs : sequence of Port
    largest_batch : int
    onnx, engine : str
        Paths of the two files.
    """

    def shapes(batch: int) -> str:
        return ",".join(f"{port.name}:{'x'.join(map(str, port.sized(batch)))}" for port in inputs)

    return [
        program,
        f"--onnx={onnx}",
        f"--saveEngine={engine}",
        "--stronglyTyped",
        "--noTF32",
        f"--minShapes={shapes(1)}",
        f"--optShapes={shapes(1)}",
        f"--maxShapes={shapes(largest_batch)}",
        f"--shapes={shapes(1)}",
        "--warmUp=500",
        "--percentile=50,95,99",
    ]


def find_trtexec() -> str | None:
    """Return the path of trtexec: from PATH, or JetPack's; None where there is none."""
    found = shutil.which("trtexec")
    return found or (str(JETPACK) if JETPACK.is_file() else None)


def has_python_package() -> bool:
    """Return whether the Python package ``tensorrt`` is installed."""
    import importlib.util

    return importlib.util.find_spec("tensorrt") is not None


def build_engine(
    onnx: Path, engine: Path, inputs: Sequence[Port], largest_batch: int, extra: Sequence[str] = ()
) -> Engine | None:
    """Build an engine where TensorRT is installed.

    Parameters
    ----------
    onnx : Path
    engine : Path
        The file to write.
    inputs : sequence of Port
    largest_batch : int
    extra : sequence of str
        More options of trtexec, such as ``--sparsity=enable``.

    Returns
    -------
    Engine or None
        None where neither trtexec nor the Python package is installed.

    Raises
    ------
    EngineError
        TensorRT is installed and fails.
    """
    program = find_trtexec()
    if program is not None:
        command = [*trtexec_command(program, inputs, largest_batch, onnx=str(onnx), engine=str(engine)), *extra]
        return _with_trtexec(command, engine)
    return _with_python(onnx, engine, inputs, largest_batch, extra) if has_python_package() else None


def _with_trtexec(command: list[str], engine: Path) -> Engine:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0 or not engine.is_file():
        lines = [line for line in done.stdout.splitlines() if line.strip()][-_TAIL_LINES:]
        said = "\n".join(f"  {line}" for line in lines)
        reason = f"exit code {done.returncode}" if done.returncode else f"no {engine.name} written"
        raise EngineError(f"{shlex.join(command)}\ntrtexec failed: {reason}; its last lines:\n{said}")
    version, device, latency = (pattern.search(done.stdout) for pattern in (_VERSION, _DEVICE, _LATENCY))
    times = {}
    if latency is not None:
        times = {f"p{name}": float(value) for name, value in _PERCENTILE.findall(latency["rest"])}
        times["p50"] = float(latency["p50"])
    return Engine(
        "trtexec",
        command,
        None if version is None else version[1],
        None if device is None else device[1].strip(),
        times,
    )


def _with_python(onnx: Path, engine: Path, inputs: Sequence[Port], largest_batch: int, extra: Sequence[str]) -> Engine:
    """Build with the Python package, with the same network, shapes and types as trtexec."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    flags = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = tensorrt.OnnxParser(network, logger)
    command = ["python", "tensorrt", str(onnx)]
    if not parser.parse_from_file(str(onnx)):
        said = "\n".join(f"  {parser.get_error(index)}" for index in range(parser.num_errors)[:_TAIL_LINES])
        raise EngineError(f"{onnx}: TensorRT {tensorrt.__version__} cannot read the network:\n{said}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if "--sparsity=enable" in extra:
        config.set_flag(tensorrt.BuilderFlag.SPARSE_WEIGHTS)
    profile = builder.create_optimization_profile()
    for port in inputs:
        profile.set_shape(port.name, port.sized(1), port.sized(1), port.sized(largest_batch))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{onnx}: TensorRT {tensorrt.__version__} cannot build an engine; it says why on stderr")
    engine.write_bytes(bytes(plan))
    return Engine("tensorrt", command, str(tensorrt.__version__), _gpu_name())


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
