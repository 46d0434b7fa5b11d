"""The registry for other parts of the package, and for programs: add, resolve, promote, rollback."""

from hpctrain.registry.actions import Promoted, export_version, find_version, promote, resolve, rollback
from hpctrain.registry.add import Added, add_run
from hpctrain.registry.folder import Registry, registry_at
from hpctrain.registry.gates import GateReport, gates_of
from hpctrain.registry.version import Version, verify_version

__all__ = [
    "Added",
    "GateReport",
    "Promoted",
    "Registry",
    "Version",
    "add_run",
    "export_version",
    "find_version",
    "gates_of",
    "promote",
    "registry_at",
    "resolve",
    "rollback",
    "verify_version",
]
