"""DistributedDataParallel that does not import torch's compiler only to ask for a setting of it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

COMPILER = "torch._dynamo"


class _Setting:
    """Stands for the compiler while a DistributedDataParallel is made, and answers what that asks: the default mode.

    Whoever asks for anything else gets it from the compiler, which is then imported.
    """

    class utils:  # noqa: N801 (a module of the compiler)
        @staticmethod
        def get_optimize_ddp_mode() -> str:
            return "ddp_optimizer"

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(COMPILER), name)


class Distributed(DistributedDataParallel):
    """The same as DistributedDataParallel, in a process that has not imported the compiler.

    Torch imports it in ``__init__`` and in ``forward``: 800 modules, which cost each rank a second, and more where many
    ranks read them from a shared disk. A network that uses ``torch.compile`` has imported it before; then nothing here
    differs from torch.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if COMPILER in sys.modules:
            super().__init__(*arguments, **options)
            return
        setting = torch._dynamo = _Setting()
        try:
            super().__init__(*arguments, **options)
        finally:
            if torch._dynamo is setting:
                del torch._dynamo

    def _inside_ddp_forward(self) -> contextlib.AbstractContextManager[Any]:
        """Tell the compiler, if there is one, that this network is distributed."""
        return super()._inside_ddp_forward() if COMPILER in sys.modules else contextlib.nullcontext()
