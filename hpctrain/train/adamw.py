"""AdamW with the torch kernels, and without what ``torch.optim.Optimizer`` puts around each step.

``torch.optim.AdamW`` imports torch's compiler when it is built, 1.2 s of CPU that each requeued job would pay again,
and gathers lists, hooks and profiler records at every step: 4 % of an update of a small network. The arithmetic, the
state and the names in it are the same, so are the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.adamw import adamw


class AdamW:
    """Fused AdamW whose step is left out, without asking the host, where the gradient is not finite.

    Parameters
    ----------
    groups : sequence of (list of Parameter, float)
        Parameters and their weight decay.
    betas : tuple of float
        Decay of the two moments.
    eps : float

    Attributes
    ----------
    parameters : list of Parameter
        Of all groups, in order.
    state : dict
        By parameter: ``step``, ``exp_avg``, ``exp_avg_sq``; the names of ``torch.optim.AdamW``.

    References
    ----------
    .. [1] Loshchilov & Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101.
    """

    def __init__(
        self, groups: Sequence[tuple[list[torch.nn.Parameter], float]], betas: tuple[float, float], eps: float
    ) -> None:
        self._groups = [(parameters, decay) for parameters, decay in groups if parameters]
        self._betas, self._eps = betas, eps
        self.parameters = [parameter for parameters, _ in self._groups for parameter in parameters]
        self.state: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = {
            parameter: {
                # float32 on the device, as the fused kernel wants it
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False),
            }
            for parameter in self.parameters
        }

    def zero_grad(self) -> None:
        """Forget the gradients; the next backward pass makes new ones."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, found_nonfinite: torch.Tensor) -> None:
        """Update the parameters that have a gradient.

        Parameters
        ----------
        learning_rate : float
        found_nonfinite : Tensor, shape ()
            Above 0 leaves parameters and state as they are.
        """
        for parameters, decay in self._groups:
            used = [parameter for parameter in parameters if parameter.grad is not None]
            states: list[dict[str, Any]] = [self.state[parameter] for parameter in used]
            adamw(
                used,
                [parameter.grad for parameter in used],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                found_inf=found_nonfinite,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=self._eps,
                maximize=False,
            )
