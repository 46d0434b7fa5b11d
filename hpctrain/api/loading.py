"""``hpctrain.load``: find out what a path holds, and return the model. torch is imported only for a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR
from hpctrain.registry.references import model_at
from hpctrain.rundir import read_json
from hpctrain.signing.keys import anchors_of

if TYPE_CHECKING:
    from hpctrain.api.model import Model

_DEVICES = ("auto", "cpu", "cuda")


def load(
    path: str | Path,
    device: str = "cpu",
    checkpoint: str | int | None = None,
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    force: bool = False,
    public_key: str | Path | Sequence[str | Path] = (),
) -> Model:
    """Load a trained model.

    Parameters
    ----------
    path : str or Path
        A run directory; the name, run id or job id of a run; ``registry:NAME@champion`` or ``registry:NAME:3``, a
        version of the registry, whose files are verified; a model or checkpoint folder; a ``model.safetensors``; or
        what ``hpctrain export`` wrote: a bundle runs by onnxruntime, without torch.
    device : str
        ``cpu``, ``cuda`` (also ``cuda:1``), or ``auto``: the GPU if there is one.
    checkpoint : str or int, optional
        A checkpoint of the run, such as 1200 or ``step-00001200``, instead of its finished model.
    runs_dir : str or Path
        Folder to search for a run by its name.
    force : bool
        Load a bundle that failed its gates, or that gets other results on this machine than at its export.
    public_key : str, Path or sequence of these
        Files of public keys: refuse what none of them has signed. Without them the variable HPCTRAIN_PUBLIC_KEYS counts
        for versions and bundles.

    Returns
    -------
    Model

    Raises
    ------
    CheckpointError
        There is no such model, it is damaged or of a newer version, a bundle failed its gates, or no trusted key has
        signed it.
    GateError
        A bundle gets other results on this machine than at its export.
    SiteError
        onnxruntime is not installed.
    ProfileError
        There is no such device.

    Examples
    --------
    >>> model = hpctrain.load("runs/desi-vae/20261126-021957-569c")  # doctest: +SKIP
    >>> table = model.encode("data/spectra.h5")  # doctest: +SKIP
    """
    device = str(device)
    if device.partition(":")[0] not in _DEVICES:
        raise ProfileError("load", [Problem("device", f"found {device!r}; must be one of {', '.join(_DEVICES)}")])
    keys = [public_key] if isinstance(public_key, str | Path) else list(public_key)
    trusted = anchors_of(keys, "load", "public_key")
    found = model_at(str(path), Path(runs_dir).expanduser(), trusted).expanduser()
    folder = found.parent if found.name == _MANIFEST else found
    if (folder / _MANIFEST).is_file():
        if checkpoint is not None:
            raise ProfileError("load", [Problem("checkpoint", f"{found} is a bundle, which has no checkpoints")])
        return _load_bundle(folder, device, force)
    from hpctrain.api.network import NetworkModel

    return NetworkModel.load(found, device, None if checkpoint is None else str(checkpoint))


def _load_bundle(folder: Path, device: str, force: bool) -> Model:
    entries = read_json(folder / _MANIFEST)
    if isinstance(entries, dict) and entries.get("format") == _OF_ANY_FAMILY:
        from hpctrain.api.exported import load_exported

        return load_exported(folder, device)
    from hpctrain.api.bundle import BundleModel

    return BundleModel.load(folder, device, force)


_MANIFEST = "bundle.json"
"""The file that makes a folder a bundle, as in :mod:`hpctrain.edge.bundle`, whose import takes longer."""
_OF_ANY_FAMILY = "hpctrain-network"
"""Format of the folders of :mod:`hpctrain.edge.plain`."""
