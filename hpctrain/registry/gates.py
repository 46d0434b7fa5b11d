"""Whether the gates of a version have passed, according to its own ``results/validation.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpctrain.registry.version import VALIDATION, WEIGHTS, Version
from hpctrain.rundir import read_json


@dataclass(frozen=True)
class GateReport:
    """The gates of a version.

    Parameters
    ----------
    passed : bool
        There are gates, they judged this model, and all of them passed.
    reasons : tuple of str
        Why not, one line each.
    number : int
        Number of gates.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    number: int = 0

    def __str__(self) -> str:
        if self.passed:
            return f"all {self.number} passed" if self.number != 1 else "passed"
        return "; ".join(self.reasons)


def gates_of(version: Version) -> GateReport:
    """Return whether the gates of a version have passed.

    A validation counts only if it judged the weights of this version: after it a run may have been trained further.
    """
    if VALIDATION not in version.files:
        return _not("it has no results/validation.json: run 'hpctrain validate RUN', and add the run again")
    found = read_json(version.path / VALIDATION)
    if not isinstance(found, Mapping):
        return _not("its results/validation.json cannot be read")
    if found.get("model_sha256") != version.files[WEIGHTS]["sha256"]:
        return _not(
            "its results/validation.json judges another model: run 'hpctrain validate RUN', and add the run again"
        )
    listed = found.get("gates")
    gates = [gate for gate in listed if isinstance(gate, Mapping)] if isinstance(listed, list) else []
    if not gates:
        return _not("its profile has no gates (validate.gates), so nothing says that it is good enough")
    failed = tuple(f"{gate.get('asked')}: {gate.get('said')}" for gate in gates if gate.get("passed") is not True)
    return GateReport(not failed, failed, len(gates))


def _not(reason: str) -> GateReport:
    return GateReport(False, (reason,))
