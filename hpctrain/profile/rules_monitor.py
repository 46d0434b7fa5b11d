"""Rules of ``monitor``: packages that an exporter needs, and limits that no run could keep."""

from __future__ import annotations

import importlib.util

from hpctrain.profile.judge import Judge

_IDLE_C = 50.0
"""Temperature that an idle GPU in a warm rack may reach [°C]."""


def check_monitor(judge: Judge) -> None:
    """Judge ``monitor``."""
    monitor = judge.profile.monitor
    wanted = [f"monitor.prometheus_{kind}" for kind in ("textfile", "port") if getattr(monitor, f"prometheus_{kind}")]
    if wanted and importlib.util.find_spec("prometheus_client") is None:
        message = "needs prometheus_client, which is not installed here: pip install 'hpctrain[prometheus]'"
        judge.problem(message, *wanted)
    if monitor.prometheus_textfile is not None and not monitor.prometheus_textfile.endswith(".prom"):
        message = f"'{monitor.prometheus_textfile}' must end in .prom; node_exporter reads no other files"
        judge.problem(message, "monitor.prometheus_textfile")
    if monitor.thermal_limit_c is not None and monitor.thermal_limit_c < _IDLE_C:
        message = (
            f"{monitor.thermal_limit_c:g} °C is what an idle GPU may have: the run would pause most of the time, or "
            "wait for ever"
        )
        judge.warn(message, "monitor.thermal_limit_c")
