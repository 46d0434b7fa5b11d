"""Structured pruning: remove whole filters and units, which leaves a smaller network of the same family.

The result is an ordinary model folder with smaller ``encoder_hidden`` and ``decoder_hidden``, and smaller
``encoder_channels`` where the encoder has convolutions. The network is dense, so it is smaller and faster on any
hardware, without support for sparsity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpctrain.families.spectral_vae.choices import CONVOLUTIONAL
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection


def kept_units(width: int, original_width: int, share: float) -> int:
    """Return how many of `width` units are kept so that `share` of the original ones are left, at least one."""
    return min(width, max(1, round(original_width * share)))


def slim(
    model: SpectralVAE,
    section: SpectralVAESection,
    original: SpectralVAESection,
    importance: dict[str, Tensor],
    share: float,
) -> tuple[SpectralVAE, SpectralVAESection]:
    """Remove the least important units of every hidden layer.

    Parameters
    ----------
    model : SpectralVAE
        The model; it is not changed.
    section : SpectralVAESection
        Section of the model.
    original : SpectralVAESection
        Section of the network before the first pruning.
    importance : dict of Tensor
        From :func:`~hpctrain.edge.importance.unit_importance`.
    share : float
        Share of the original units that is left in each layer.

    Returns
    -------
    model : SpectralVAE
        Smaller model, in evaluation mode. Its results are those of `model` with the removed units set to 0.
    section : SpectralVAESection

    Notes
    -----
    The filters of the last convolution are pairs of a value and its weight in the attention. Both are kept or both are
    removed. The importance of the value decides, because the weight has no effect without it. Latents and output keep
    their size, and so does a linear model.
    """
    state = model.state_dict()
    small: dict[str, Tensor] = {name: value for name, value in state.items() if name in dict(model.named_buffers())}
    channels, columns = section.encoder_channels, torch.arange(_first_inputs(model))
    if section.encoder == CONVOLUTIONAL:
        channels, features = _slim_convolutions(
            state, small, section.encoder_channels, original.encoder_channels, importance, share
        )
        num_features = section.encoder_channels[-1] // 2  # bins and redshift follow the features
        columns = torch.cat([features[features < num_features], columns[num_features:]])
    hidden, columns = _slim_layers(
        "encoder.perceptron",
        model.encoder.perceptron,
        state,
        small,
        columns,
        original.encoder_hidden,
        importance,
        share,
    )
    for head in ("mean", "log_variance"):
        small[f"encoder.{head}.weight"] = state[f"encoder.{head}.weight"][:, columns]
        small[f"encoder.{head}.bias"] = state[f"encoder.{head}.bias"]
    latents = torch.arange(section.latent_size)
    decoder_hidden, columns = _slim_layers(
        "decoder.hidden", model.decoder.hidden, state, small, latents, original.decoder_hidden, importance, share
    )
    small["decoder.output.weight"] = state["decoder.output.weight"][:, columns]
    small["decoder.output.bias"] = state["decoder.output.bias"]
    smaller = section.model_copy(
        update={"encoder_channels": channels, "encoder_hidden": hidden, "decoder_hidden": decoder_hidden}
    )
    network = SpectralVAE(smaller, model.facts)
    network.load_state_dict(small)
    return network.eval(), smaller


def _slim_convolutions(
    state: dict[str, Tensor],
    small: dict[str, Tensor],
    widths: list[int],
    original_widths: list[int],
    importance: dict[str, Tensor],
    share: float,
) -> tuple[list[int], Tensor]:
    """Slim the convolutions; return their numbers of filters, and which filters of the last one are left."""
    columns = torch.arange(state["encoder.blocks.0.conv.weight"].shape[1])
    channels = []
    for index, width in enumerate(widths):
        name = f"encoder.blocks.{index}"
        if index < len(widths) - 1:
            keep = _best(importance[name], kept_units(width, original_widths[index], share))
        else:
            pairs = kept_units(width // 2, original_widths[index] // 2, share)
            values = _best(importance[name][: width // 2], pairs)
            keep = torch.cat([values, values + width // 2])
        small[f"{name}.conv.weight"] = state[f"{name}.conv.weight"][keep][:, columns]
        for part in ("conv.bias", "norm.weight", "norm.bias", "activation.weight"):
            small[f"{name}.{part}"] = state[f"{name}.{part}"][keep]
        columns = keep
        channels.append(len(keep))
    return channels, columns


def _slim_layers(
    name: str,
    layers: nn.Sequential,
    state: dict[str, Tensor],
    small: dict[str, Tensor],
    columns: Tensor,
    original_widths: list[int],
    importance: dict[str, Tensor],
    share: float,
) -> tuple[list[int], Tensor]:
    """Slim the layers of a perceptron; return their widths, and which outputs of the last one are left."""
    widths: list[int] = []
    for index, layer in enumerate(layers):
        key = f"{name}.{index}"
        if isinstance(layer, nn.Linear):
            keep = _best(importance[key], kept_units(layer.out_features, original_widths[len(widths)], share))
            small[f"{key}.weight"] = state[f"{key}.weight"][keep][:, columns]
            small[f"{key}.bias"] = state[f"{key}.bias"][keep]
            widths.append(len(keep))
            columns = keep
        elif isinstance(layer, nn.PReLU):
            small[f"{key}.weight"] = state[f"{key}.weight"][columns]
    return widths, columns


def _first_inputs(model: SpectralVAE) -> int:
    """Return the number of inputs of the first layer of the encoder's perceptron."""
    layers = [layer for layer in model.encoder.perceptron if isinstance(layer, nn.Linear)]
    return (layers[0] if layers else model.encoder.mean).in_features


def _best(importance: Tensor, number: int) -> Tensor:
    """Return the indices of the most important units, increasing; among equal ones the first are chosen."""
    order = torch.argsort(importance, descending=True, stable=True)
    return order[:number].sort().values
