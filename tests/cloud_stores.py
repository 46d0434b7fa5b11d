"""Imitations of the object stores of Google and Microsoft on this machine, for the clients that hpctrain uses there.

The emulator of Cloud Storage is a package of PyPI, Azurite one of npm; gcsfs and adlfs are the real clients.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest
from own_environment import cache_folder, own_environment
from processes import wait_until

from hpctrain.launch.ranks import free_port

PACKAGES = ("gcsfs>=2024.2", "gcp-storage-emulator>=2024.8", "adlfs>=2024.2")
AZURITE = "azurite@^3.33"
_ACCOUNT = "devstoreaccount1"
_PUBLISHED = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key that every Azurite has, as its documentation says."""
_START_GOOGLE = """\
import sys
from gcp_storage_emulator.server import create_server
create_server("127.0.0.1", int(sys.argv[1]), in_memory=False, data_dir=sys.argv[2], default_bucket=sys.argv[3]).run()
"""
_MAKE_CONTAINER = """\
import os, sys
from azure.storage.blob import BlobServiceClient
BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"]).create_container(sys.argv[1])
"""


def stores_python() -> Path:
    """Return the Python of an environment with the clients and Google's imitation; skip the test without it."""
    return own_environment("stores", *PACKAGES)


def _azurite() -> Path:
    """Return the program of Azurite; skip the test if it cannot be installed."""
    folder = cache_folder() / "azurite"
    program = folder / "node_modules/azurite/dist/src/blob/main.js"
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which installs Azurite")
    if not program.exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), AZURITE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Azurite cannot be installed: {done.stderr[-500:]}")
    return program


class _Store:
    """A server on a port of 127.0.0.1 with one bucket; `variables` lead the clients to it."""

    variables: dict[str, str]

    def __init__(self, command: Sequence[str | Path], port: int, log: Path) -> None:
        self._command, self._port, self._log = command, port, log

    def __enter__(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                list(map(str, self._command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, self._log)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


class GoogleStore(_Store):
    """Cloud Storage; objects are files below `folder`, as the mounts of Cloud Storage FUSE show them.

    Parameters
    ----------
    python : Path
        Of :func:`stores_python`.
    folder : Path
        Has a folder for each bucket.
    bucket : str
    """

    def __init__(self, python: Path, folder: Path, bucket: str) -> None:
        port, data = free_port(), folder.parent / "google"
        folder.mkdir(parents=True, exist_ok=True)
        data.mkdir()
        (data / ".cloudstorage").symlink_to(folder)
        self.variables = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
        super().__init__([python, "-c", _START_GOOGLE, str(port), data, bucket], port, data / "log")


class AzureStore(_Store):
    """Blob storage of Azure.

    Parameters
    ----------
    python : Path
        Of :func:`stores_python`.
    folder : Path
        Of its files.
    container : str
        What Azure calls a bucket.
    """

    def __init__(self, python: Path, folder: Path, container: str) -> None:
        port = free_port()
        folder.mkdir(parents=True)
        self._python, self._container = python, container
        endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        words = {"DefaultEndpointsProtocol": "http", "AccountName": _ACCOUNT, "AccountKey": _PUBLISHED}
        words["BlobEndpoint"] = endpoint
        text = "".join(f"{name}={value};" for name, value in words.items())
        self.variables = {"AZURE_STORAGE_CONNECTION_STRING": text}
        options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, "--skipApiVersionCheck"]
        super().__init__(["node", _azurite(), *options], port, folder / "log")

    def __enter__(self) -> None:
        super().__enter__()
        command = [self._python, "-c", _MAKE_CONTAINER, self._container]
        subprocess.run(command, env={**os.environ, **self.variables}, check=True)
