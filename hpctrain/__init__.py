"""From one YAML profile to a trained, checked model of astronomical spectra on a Slurm cluster.

The names below are loaded when they are first used, so that ``import hpctrain`` itself imports nothing::

    hpctrain.load(path)         a trained model, to predict, encode and reconstruct with
    hpctrain.Run(path)          a run: profile, state, metrics, predictions
    hpctrain.runs("runs")       all runs of a folder
    hpctrain.submit(profile)    start a run
"""

# Any Python can read this file, so that an old one gets to the message that says which Python is needed.

TYPE_CHECKING = False  # as type checkers understand it; importing typing takes longer than the rest
if TYPE_CHECKING:
    from hpctrain.api.loading import load
    from hpctrain.api.run import Run
    from hpctrain.api.runs import runs
    from hpctrain.api.submission import submit

__all__ = ["Run", "load", "runs", "submit"]
__version__ = "0.1.0"

_HOMES = {
    "load": "hpctrain.api.loading",
    "Run": "hpctrain.api.run",
    "runs": "hpctrain.api.runs",
    "submit": "hpctrain.api.submission",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError("module 'hpctrain' has no attribute '" + name + "'")
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))


def __dir__() -> "list[str]":
    return sorted((set(globals()) | set(__all__)) - {"TYPE_CHECKING", "_HOMES"})
