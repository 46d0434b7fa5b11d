"""AdamW on torch's fused kernel, without the overhead of ``torch.optim.Optimizer``.

Building ``torch.optim.AdamW`` imports torch's compiler: 1.2 s of CPU in every requeued attempt. Each of its steps also
gathers lists, hooks and profiler records, which is 4 % of a step of a small network. This class does the same
arithmetic with the same state under the same names, so its results are identical bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class AdamW:
    """Fused AdamW that skips a step whose gradient is not finite, without waiting for the host.

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
        Parameters of all groups, in order.
    state : dict
        ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter, as ``torch.optim.AdamW`` names them. To restore a
        state, copy into these tensors; never replace them.

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
        # The kernel reads one float32 per parameter. They share one tensor, so one operation increments all of them.
        self._steps = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self.state: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = {
            parameter: {
                "step": step,
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for parameter, step in zip(self.parameters, self._steps.unbind(), strict=True)
        }

    def zero_grad(self) -> None:
        """Drop the gradients; the next backward pass allocates new ones."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, found_nonfinite: torch.Tensor) -> None:
        """Update the parameters; each must have a gradient.

        Parameters
        ----------
        learning_rate : float
        found_nonfinite : Tensor, shape ()
            1 skips the step and keeps parameters and state unchanged; 0 applies it.
        """
        self._steps.add_(1.0 - found_nonfinite)
        for parameters, decay in self._groups:
            states = [self.state[parameter] for parameter in parameters]
            torch._fused_adamw_(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                lr=learning_rate,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=decay,
                eps=self._eps,
                amsgrad=False,
                maximize=False,
                found_inf=found_nonfinite,
            )
