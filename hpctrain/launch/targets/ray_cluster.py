"""What our processes on a Ray cluster have in common: they connect to it, and end with what they depend on.

Ray itself is imported only when somebody connects.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys
import time

from hpctrain.errors import SiteError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""Variables that keep Ray from sending statistics, from warning, and from writing a copy of each trial's results."""
_LOOK_EVERY_S = 5.0
_PR_SET_PDEATHSIG = 1


def is_installed() -> bool:
    """Return whether Ray is installed, without importing it."""
    return importlib.util.find_spec("ray") is not None


def need_ray(key: str) -> None:
    """Check that Ray is installed, without importing it.

    Parameters
    ----------
    key : str
        What asks for Ray, such as ``engine: ray``.

    Raises
    ------
    SiteError
        It is not installed.
    """
    if not is_installed():
        raise SiteError(f"{key} needs Ray, in the version of the cluster: pip install 'hpctrain[ray]'")


def connect(address: str, key: str) -> None:
    """Connect to a cluster that runs.

    Parameters
    ----------
    address : str
        ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
    key : str
        Key that holds the address, for the message.

    Raises
    ------
    SiteError
        Nothing answers there.
    """
    os.environ.update(QUIET)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray has many: ConnectionError, RuntimeError, ValueError, and those of its own
        reason = " ".join(str(error).split())
        raise SiteError(f"no Ray cluster answers at '{address}' ({key}): {reason}") from error


def end_with_node(exit_code: int) -> None:
    """End this process once its own node of Ray is dead: it would wait for ever. Call it in a thread."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    while True:
        time.sleep(_LOOK_EVERY_S)
        try:
            nodes = ray.nodes()
        except Exception:  # the head is gone, or this driver has disconnected
            if not ray.is_initialized():
                return
            nodes = []
        if not any(node["NodeID"] == here and node["Alive"] for node in nodes):
            print("hpctrain: the Ray node of this process, or the head, is dead", file=sys.stderr, flush=True)
            os._exit(exit_code)


def end_with_parent() -> None:
    """Let the kernel send TERM to this process when the thread of Ray that started it ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)
