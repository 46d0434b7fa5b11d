"""Install packages into the environment of this Python: with uv if pip can install uv, else with pip.

    .venv/bin/python .ci/install.py --constraint constraints.txt --editable '.[test]'

The arguments are those that ``pip install`` and uv share. uv reads neither pip's configuration files nor its PIP_*
variables. This script therefore passes their settings of indexes, certificates and the cache to uv as uv's own
variables. With ``HPCTRAIN_INSTALLER=pip`` it does not use uv.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

PIP = [sys.executable, "-m", "pip"]


def pip_settings() -> dict[str, str]:
    """Return pip's settings, ``{"find-links": "/opt/wheels", ...}``; later sources override earlier ones, as in pip."""
    done = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True)
    found = {}
    for place in ("global.", "install.", ":env:."):  # pip's own order of precedence
        for line in done.stdout.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(place):
                found[key[len(place) :]] = value.strip().strip("'\"").replace("\\n", " ")
    return found


def is_on(value: str | None) -> bool:
    """Return whether a switch of pip is on."""
    return (value or "").lower() in ("1", "true", "yes", "on")


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with pip's settings as variables of uv; existing variables of uv win."""
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # choose the newest version of all indexes, as pip does
    words = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "constraint": "UV_CONSTRAINT",
        "cert": "SSL_CERT_FILE",
        "timeout": "UV_HTTP_TIMEOUT",
        "default-timeout": "UV_HTTP_TIMEOUT",
    }
    found |= {words[key]: value for key, value in settings.items() if key in words}
    if "find-links" in settings:
        found["UV_FIND_LINKS"] = ",".join(settings["find-links"].split())
    if "trusted-host" in settings:
        found["UV_INSECURE_HOST"] = settings["trusted-host"]
    switches = {"no-index": "UV_NO_INDEX", "no-cache-dir": "UV_NO_CACHE"}
    found |= {word: "1" for key, word in switches.items() if is_on(settings.get(key))}
    return {**found, **os.environ}


def bring_uv() -> list[str] | None:
    """Return the command of uv in this environment; None if pip cannot install it."""
    command = [sys.executable, "-m", "uv"]
    if subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
        return command
    constraint = ["--constraint", "constraints.txt"] if os.path.exists("constraints.txt") else []
    ask = [*PIP, "install", "--quiet", "--retries", "1", "--only-binary", ":all:", *constraint, "uv"]
    if subprocess.run(ask, capture_output=True).returncode == 0:
        return command
    return None


def main(arguments: list[str]) -> int:
    """Install the packages and return the exit code of the installer."""
    if os.environ.get("HPCTRAIN_INSTALLER") != "pip":
        uv = bring_uv()
        if uv is not None:
            # pip compiles what it installs. Without that, and where PYTHONDONTWRITEBYTECODE is set, every process would
            # compile torch again: seconds of CPU time at each start.
            options = ["--quiet", "--compile-bytecode", "--python", sys.executable]
            command = [*uv, "pip", "install", *options, *arguments]
            done = subprocess.run(command, env=uv_environment(pip_settings()), capture_output=True, text=True)
            if done.returncode == 0:
                return 0
            print(f"uv could not install it, so pip tries; the error of uv:\n{done.stderr.strip()}", file=sys.stderr)
    command = [*PIP, "install", "--quiet", "--progress-bar", "off", *arguments]
    code = subprocess.run(command).returncode
    if code:
        print(f"failed: {shlex.join(command)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
