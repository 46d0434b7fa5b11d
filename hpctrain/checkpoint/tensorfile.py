"""Write tensors as safetensors in one pass with fsync and SHA-256, while Python's lock is released.

The format is that of the safetensors library, which reads the files back. Its own writer keeps Python's lock while it
writes and computes no checksum, so a checkpoint of a gigabyte would hold up the training thread.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from hpctrain.errors import CheckpointError

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BLOCK = 4 << 20


def _raw(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, int | str]:
    """Write tensors to a safetensors file; it is durable on disk when this function returns.

    Parameters
    ----------
    path : Path
        Path of the new file.
    tensors : mapping of str to Tensor
        CPU tensors of any shape.

    Returns
    -------
    dict
        ``size`` [byte] and ``sha256`` of the file.
    """
    offset = 0
    header: dict[str, object] = {}
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format requires data aligned to 8 bytes
    digest = hashlib.sha256()
    with open(path, "xb") as stream:
        for piece in [memoryview(len(text).to_bytes(8, "little") + text), *map(_raw, tensors.values())]:
            for start in range(0, len(piece), _BLOCK):
                block = piece[start : start + _BLOCK]
                stream.write(block)
                digest.update(block)
        stream.flush()
        os.fsync(stream.fileno())
    return {"size": 8 + len(text) + offset, "sha256": digest.hexdigest()}


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file to the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, or it is no safetensors file.
    """
    try:
        return load_file(path, device="cpu")
    except Exception as error:  # the library has its own exception type, which it does not document as stable
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
