"""Reasons not to trust the results of a bundle on this machine. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctrain.edge.reference import NUM_REFERENCE, device_name

if TYPE_CHECKING:
    from hpctrain.edge.bundle import Bundle
    from hpctrain.edge.runtime import OnnxNetwork


def why_rejected(bundle: Bundle) -> str | None:
    """Return that a bundle failed its gates, and which; None if it passed them."""
    if bundle.is_good:
        return None
    failed = [str(gate.get("name", "?")) for gate in bundle.entries.get("gates", []) if not gate.get("passed", True)]
    return (
        f"{bundle.path}: did not pass its gates ({', '.join(failed) or 'see bundle.json'}), so its results "
        "cannot be trusted"
    )


def why_unlike_the_export(bundle: Bundle, network: OnnxNetwork, batch_size: int = NUM_REFERENCE) -> str | None:
    """Compute the reference spectra; return how the results differ from those of the export, None if they agree.

    Parameters
    ----------
    bundle : Bundle
        One without reference spectra, from an older hpctrain, is not compared.
    network : OnnxNetwork
        Network of that bundle on this machine.
    batch_size : int
        Spectra in each call of the network.
    """
    if bundle.reference is None:
        return None
    tolerance = bundle.reference.tolerance
    found = bundle.reference.deviation(bundle.preparation, network, batch_size)
    if not found.exceeds(tolerance):
        return None
    precision = str(bundle.entries["network"].get("precision", "")).upper()
    return (
        f"{bundle.path}: this device gets other results than the export did, for {len(bundle.reference)} reference "
        f"spectra of the bundle: latent vectors deviate by up to {found.latents:.3g} of their spread (tolerance "
        f"{tolerance.latents:.3g}), χ² by up to {found.chi2:.3g} of its value (tolerance {tolerance.chi2:.3g}). "
        f"Computed in {precision} by {network.provider} of onnxruntime {network.version} on {device_name()}"
    )
