"""Names and shapes of the tensors in a file of weights, for a check. No torch in this process."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from hpctrain.errors import CheckpointError
from hpctrain.families.image_cnn.encoders.plans import Shape

_MOST_HEADER_BYTES = 100_000_000
_TIMEOUT_S = 180
_PACKAGE = Path(__file__).resolve().parents[3]

SAFE = ".safetensors"


def shapes_in(path: Path) -> dict[str, Shape]:
    """Return the shape of each tensor in a file of weights.

    The header of a .safetensors says it. Any other file is read by torch in another process, without running code of
    the file.

    Raises
    ------
    CheckpointError
        The file cannot be read.
    """
    return _header(path) if path.suffix == SAFE else _by_torch(path)


def _header(path: Path) -> dict[str, Shape]:
    try:
        with open(path, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > min(_MOST_HEADER_BYTES, path.stat().st_size):
                raise ValueError("its header would be longer than the file")
            header = json.loads(stream.read(size))
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = 8 + size + max((each["data_offsets"][1] for each in tensors.values()), default=0)
            if end > path.stat().st_size:
                raise ValueError(f"it ends at {path.stat().st_size:,} of {end:,} bytes")
            return {name: tuple(each["shape"]) for name, each in tensors.items()}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{path}: is not a whole .safetensors file ({error})") from error


def _by_torch(path: Path) -> dict[str, Shape]:
    command = [sys.executable, "-m", "hpctrain.families.image_cnn.encoders.tensors", str(path)]
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode == 0:
            found = json.loads(done.stdout.splitlines()[-1])
            if "problem" in found:
                raise CheckpointError(found["problem"])
            return {name: tuple(shape) for name, shape in found["shapes"].items()}
    except (subprocess.TimeoutExpired, OSError) as error:
        raise CheckpointError(f"{path}: could not be looked at ({error})") from error
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise CheckpointError(f"{path}: could not be looked at ({last})")
