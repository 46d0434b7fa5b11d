"""AdamW with the torch kernels, and without what ``torch.optim.Optimizer`` puts around each step.

``torch.optim.AdamW`` imports torch's compiler when it is built, 1.2 s of CPU that each requeued job would pay again,
and gathers lists, hooks and profiler records at every step: 4 % of an update of a small network. The arithmetic, the
state and the names in it are the same, so are the bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


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
        By parameter: ``step``, ``exp_avg``, ``exp_avg_sq``; the names of ``torch.optim.AdamW``. Copy into these tensors
        to restore a state, never replace them.

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
        # One float32 a parameter, where the kernel reads it; one tensor, so that all are counted up by one operation.
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
        """Forget the gradients; the next backward pass makes new ones."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, found_nonfinite: torch.Tensor) -> None:
        """Update the parameters; each needs a gradient.

        Parameters
        ----------
        learning_rate : float
        found_nonfinite : Tensor, shape ()
            1 leaves parameters and state as they are, 0 does not.
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
