"""From numbers per point to numbers per curve. N curves, P points, W width, h heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionLayer(nn.Module):
    """A layer in which each point looks at all points that exist, then a perceptron.

    Parameters
    ----------
    width, heads, feedforward : int
        W, h, and the width of the perceptron in units of W.
    dropout : float

    References
    ----------
    .. [1] Vaswani et al. 2017, arXiv:1706.03762; the normalisation comes first, as in Xiong et al. 2020,
       arXiv:2002.04745.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, feedforward * width), nn.GELU(), nn.Linear(feedforward * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the next numbers (N, P, W) of the points.

        Parameters
        ----------
        x : Tensor, shape (N, P, W)
        bias : Tensor, shape (N, 1, 1, P)
            Minus infinity at points that do not exist, else 0.
        """
        x = x + self.dropout(self.out(self._attend(self.before_attention(x), bias)))
        return x + self.dropout(self.perceptron(self.before_perceptron(x)))

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        num, points, width = x.shape
        parts = self.query_key_value(x).reshape(num, points, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # A product and a softmax instead of torch's fused attention: on a GPU the gradient of that one is the same only
        # up to rounding, and a resumed run must end with the same bits.
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5
        weight = torch.softmax(scores.float() + bias, dim=-1).to(value.dtype)
        return (weight @ value).transpose(1, 2).reshape(num, points, width)


class Transformer(nn.Module):
    """Layers of attention.

    Parameters
    ----------
    width, layers, heads, feedforward : int
    dropout : float
    """

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return numbers (N, P, W) of the points; `exists` (N, P) says which of them exist."""
        # A curve without points looks at all of them: a softmax over nothing would be NaN.
        seen = exists | ~exists.any(dim=1, keepdim=True)
        bias = torch.where(seen, 0.0, -torch.inf)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)


class Recurrent(nn.Module):
    """Gated recurrent units from the first point to the last.

    Parameters
    ----------
    width, layers : int
    dropout : float

    References
    ----------
    .. [1] Cho et al. 2014, arXiv:1406.1078.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.units = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return numbers (N, P, W) of the points; `exists` (N, P) says which of them exist."""
        # Points that exist come first, so what follows them changes none of them.
        found, _ = self.units(x)
        return self.norm(found)


class Pooling(nn.Module):
    """The mean over the points of a curve, and a mean with weights that are learned.

    Parameters
    ----------
    width : int
        W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, exists: Tensor) -> Tensor:
        """Return numbers (N, 2 W) of the curves from those of the points (N, P, W); 0 without points."""
        with torch.autocast(x.device.type, enabled=False):
            x = torch.where(exists[..., None], x.float(), 0.0)
            score = self.score(x)[..., 0].masked_fill(~exists, torch.finfo(torch.float32).min)
            weight = torch.where(exists, torch.softmax(score, dim=1), 0.0)
            mean = x.sum(dim=1) / exists.sum(dim=1, keepdim=True).clamp(min=1)
            return torch.cat([mean, (weight[..., None] * x).sum(dim=1)], dim=1)
