"""What happens in each layer during one step: activations, gradients and the change of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Layer:
    """One layer in one step.

    Parameters
    ----------
    name, kind : str
        Name in the network, and class of the module.
    largest_activation, largest_gradient : float
        Largest finite absolute value of its output, and of the gradient of the summed loss with respect to its output.
    bad_activations, bad_gradients : int
        Numbers of values that are not finite.
    forward_order, backward_order : int or None
        When its output, or the gradient of its output, was first not finite; None if never.
    gradient_share : float or None
        Norm of the gradient of its weights as a share of the norm of the whole gradient; None if that is not finite.
    weight_norm, update_norm : float
        Norm of its weights before the step, and of their change.
    """

    name: str
    kind: str = ""
    largest_activation: float = 0.0
    bad_activations: int = 0
    largest_gradient: float = 0.0
    bad_gradients: int = 0
    forward_order: int | None = None
    backward_order: int | None = None
    gradient_share: float | None = None
    bad_weight_gradients: int = 0
    weight_norm: float = 0.0
    update_norm: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Whether anything in this layer is not finite."""
        return bool(self.bad_activations or self.bad_gradients or self.bad_weight_gradients)


class Watch:
    """Hooks on the layers of a network; enter it as a context manager around a step."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.layers: dict[str, Layer] = {}
        self._clock = 0
        self._before: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        """Count during the block; the hooks change no number."""
        self._before = {name: p.detach().clone() for name, p in self._model.named_parameters()}
        handles = []
        for name, module in self._model.named_modules():
            if not any(True for _ in module.children()):
                handles.append(module.register_forward_hook(self._hook(name, type(module).__name__)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
        self._weigh()

    def restore(self) -> None:
        """Give the network its weights from before the step."""
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(self._before[name])

    def _hook(self, name: str, kind: str) -> Any:
        layer = self.layers.setdefault(name, Layer(name, kind))

        def seen(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                largest, bad = _look(tensor)
                self._clock += 1
                layer.largest_activation = max(layer.largest_activation, largest)
                layer.bad_activations += bad
                if bad and layer.forward_order is None:
                    layer.forward_order = self._clock
                if tensor.requires_grad:
                    tensor.register_hook(lambda gradient: self._back(layer, gradient))

        return seen

    def _back(self, layer: Layer, gradient: Tensor) -> None:
        largest, bad = _look(gradient)
        self._clock += 1
        layer.largest_gradient = max(layer.largest_gradient, largest)
        layer.bad_gradients += bad
        if bad and layer.backward_order is None:
            layer.backward_order = self._clock

    @torch.no_grad()
    def _weigh(self) -> None:
        """Add norms of gradients, weights and updates, by layer."""
        squares: dict[str, list[float]] = {}
        for name, parameter in self._model.named_parameters():
            owner = name.rpartition(".")[0]
            layer = self.layers.setdefault(owner, Layer(owner))
            before = self._before[name]
            gradient = 0.0 if parameter.grad is None else float(parameter.grad.double().square().sum())
            if parameter.grad is not None:
                layer.bad_weight_gradients += int((~torch.isfinite(parameter.grad)).sum())
            sums = squares.setdefault(owner, [0.0, 0.0, 0.0])
            sums[0] += gradient
            sums[1] += float(before.double().square().sum())
            sums[2] += float((parameter.detach() - before).double().square().sum())
        total = sum(sums[0] for sums in squares.values())
        for owner, (gradient, weight, update) in squares.items():
            layer = self.layers[owner]
            finite = 0 < total < float("inf")
            layer.gradient_share = (gradient / total) ** 0.5 if finite else None
            layer.weight_norm, layer.update_norm = weight**0.5, update**0.5


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if torch.is_floating_point(output) else []
    if isinstance(output, dict):
        output = list(output.values())
    return [tensor for part in output for tensor in _tensors(part)] if isinstance(output, (list, tuple)) else []


@torch.no_grad()
def _look(tensor: Tensor) -> tuple[float, int]:
    """Return the largest finite absolute value, and the number of values that are not finite."""
    if not tensor.numel():
        return 0.0, 0
    finite = torch.isfinite(tensor)
    largest = torch.where(finite, tensor, torch.zeros_like(tensor)).abs().max()
    return float(largest), int((~finite).sum())


def first_bad(layers: list[Layer]) -> tuple[Layer | None, Layer | None]:
    """Return the layer whose output is the first not finite one forwards, and that of the gradient backwards."""
    forwards = [layer for layer in layers if layer.forward_order is not None]
    backwards = [layer for layer in layers if layer.backward_order is not None]
    return (
        min(forwards, key=lambda layer: layer.forward_order or 0, default=None),
        min(backwards, key=lambda layer: layer.backward_order or 0, default=None),
    )
