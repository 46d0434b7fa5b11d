"""ONNX Runtime behind one call: it takes arrays by name and returns arrays by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpctrain.edge.packages import need
from hpctrain.errors import CheckpointError, SiteError

PREFERRED = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""Fastest first; providers that this build of ONNX Runtime lacks are skipped."""

PROVIDERS: Mapping[str, Sequence[str] | None] = {
    "cpu": PREFERRED[-1:],
    "cuda": PREFERRED[1:],
    "auto": None,
}
"""Execution providers for the devices that users name."""


_NO_TF32 = "NVIDIA_TF32_OVERRIDE"
"""Variable that keeps GPUs from multiplying float32 with 10 bits (TF32), which is too few for a least-squares fit. The
TensorRT provider of ONNX Runtime has no other switch."""


class OnnxNetwork:
    """A network of an ONNX file, ready to be called.

    Parameters
    ----------
    path : Path
        The ONNX file.
    providers : sequence of str, optional
        Execution providers of ONNX Runtime that may be used; by default the fastest available one, then the CPU.
    threads : int, optional
        Number of threads of one call on the CPU; by default one per core.
    fused : bool
        False keeps every operation as the file has it. An INT8 graph is then computed from rounded numbers in float32,
        without integer kernels.

    Attributes
    ----------
    inputs, outputs : list of str
        Names of the inputs and outputs, in the order of the graph.
    provider : str
        Execution provider in use, such as ``CPUExecutionProvider``.
    version : str
        Version of onnxruntime.

    Raises
    ------
    SiteError
        onnxruntime is not installed, or it lacks a provider that was requested.
    CheckpointError
        onnxruntime cannot run the file.
    """

    def __init__(
        self,
        path: Path,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        fused: bool = True,
    ) -> None:
        (runtime,) = need("onnxruntime", extra="edge")
        have = runtime.get_available_providers()
        missing = [name for name in providers or () if name not in have]
        if missing:
            raise SiteError(f"this onnxruntime has no {', '.join(missing)}; it has {', '.join(have)}")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # its warnings are about graphs, not about a user's mistake
        if not fused:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        chosen = list(providers) if providers else [name for name in PREFERRED if name in have]
        if chosen[0] != PREFERRED[-1]:
            os.environ.setdefault(_NO_TF32, "0")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=chosen)
        except Exception as error:  # onnxruntime's own classes have no common base but this
            raise CheckpointError(f"{path}: onnxruntime cannot run it ({str(error).strip()})") from error
        self.inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [item.name for item in self._session.get_outputs()]
        self.provider = self._session.get_providers()[0]
        self.version = str(runtime.__version__)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs.

        Parameters
        ----------
        feeds : mapping of ndarray
            Arrays by name; names that are no inputs of the network are ignored.
        """
        values = self._session.run(self.outputs, {name: feeds[name] for name in self.inputs})
        return dict(zip(self.outputs, values, strict=True))
