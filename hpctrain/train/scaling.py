"""Scale and clip the gradient of one step without waiting for the device.

The loss is a sum over the global batch divided by a weight that is known only after all ranks have counted. So the
ranks accumulate gradients of plain sums, and this module divides once, together with the clipping.
"""

from __future__ import annotations

import torch

_GROWTH_INTERVAL = 2000
_LARGEST_SCALE = 2.0**24
SMALLEST_SCALE = 2.0**-14
"""Smallest loss scale; if gradients are not finite even below it, the run has diverged."""


class LossScale:
    """The factor that keeps fp16 gradients from underflow, stored on the device; 1 for other precisions.

    Parameters
    ----------
    precision : str
        ``train.precision`` of the profile.
    device : torch.device

    References
    ----------
    .. [1] Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740, section 3.2.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.enabled = precision == "fp16"
        self.value = torch.tensor(2.0**16 if self.enabled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)

    def update(self, found_nonfinite: torch.Tensor) -> None:
        """Halve the scale after a gradient that is not finite; double it after many finite ones."""
        if not self.enabled:
            return
        bad = found_nonfinite > 0
        grown = self.good_steps + 1 >= _GROWTH_INTERVAL
        doubled = torch.where(grown, (self.value * 2).clamp(max=_LARGEST_SCALE), self.value)
        self.value.copy_(torch.where(bad, self.value * 0.5, doubled))
        self.good_steps.copy_(torch.where(bad | grown, torch.zeros_like(self.good_steps), self.good_steps + 1))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that are part of the run's state."""
        return {"loss_scale": self.value, "loss_scale_good_steps": self.good_steps}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the tensors that :meth:`state` returned."""
        self.value.copy_(state["loss_scale"])
        self.good_steps.copy_(state["loss_scale_good_steps"])


def scale_and_clip(
    gradients: list[torch.Tensor], factor: torch.Tensor, clip_norm: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply gradients by a factor known only on the device and clip their norm, in place.

    Parameters
    ----------
    gradients : list of Tensor
        float32 gradients of sums.
    factor : Tensor, shape ()
        Factor that turns the gradients of sums into the gradient of the loss.
    clip_norm : float or None
        Largest norm of the result.

    Returns
    -------
    norm : Tensor, shape ()
        Norm of the gradient of the loss before clipping.
    found_nonfinite : Tensor, shape ()
        1.0 where the norm is not finite, else 0.0.

    References
    ----------
    .. [1] Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks", arXiv:1211.5063.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) * factor
    if clip_norm is not None:
        factor = factor * (clip_norm / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)
    return norm, (~torch.isfinite(norm)).float()
