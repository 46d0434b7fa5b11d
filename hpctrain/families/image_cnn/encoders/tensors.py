"""Read files of weights without running code that is in them.

``python -m hpctrain.families.image_cnn.encoders.tensors FILE`` prints names and shapes as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hpctrain.errors import CheckpointError
from hpctrain.families.image_cnn.encoders.names import NESTED
from hpctrain.families.image_cnn.encoders.shapes import SAFE

SAFE_SINCE = (2, 6)
"""First version of torch that reads a .pth file without running code of it.

References
----------
.. [1] CVE-2025-32434: older versions can be made to run code, also with ``weights_only``.
"""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a .pth, .pt or .bin that holds only tensors and plain values.

    Raises
    ------
    CheckpointError
        The file is absent or damaged, or only code that is in it could read it.
    """
    try:
        if path.suffix == SAFE:
            return load_file(path)
        if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE_SINCE:
            raise CheckpointError(f"{path}: torch {torch.__version__} may run code of this file; update torch to 2.6")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual forms of a file, which an error follows if it matters
            found = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is not there") from error
    except Exception as error:  # a file of any other form raises almost anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{path}: cannot be read as weights ({reason[0][:200]}). hpctrain runs no code of a file; where it was "
            "made, `safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')` writes a file without code"
        ) from error
    return _state(path, found)


def _state(path: Path, found: Any) -> dict[str, Tensor]:
    """Return the weights in what a file holds, which may be a checkpoint of a training."""
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path}: holds no tensors by name; a state dict is needed")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


if __name__ == "__main__":
    try:
        shapes = {name: list(value.shape) for name, value in read_tensors(Path(sys.argv[1])).items()}
        print(json.dumps({"shapes": shapes}))
    except CheckpointError as problem:
        print(json.dumps({"problem": str(problem)}))
