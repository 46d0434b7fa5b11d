"""Count what Gloo asks the store for while its ranks connect, with real ranks: forks of one process on this machine."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

_WAIT = timedelta(seconds=300)


def count(num_ranks: int, lazy: bool) -> dict[str, int]:
    """Return requests and bytes of rank 1 until its first sums are done, and its open sockets.

    Parameters
    ----------
    num_ranks : int
        At least 2.
    lazy : bool
        Whether ranks connect only where they talk to each other.
    """
    import torch.distributed

    assert torch.distributed.is_available()
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(num_ranks):
            child = os.fork()
            if child == 0:
                os.environ["TORCH_GLOO_LAZY_INIT"] = str(int(lazy))
                _leave_after(rank, num_ranks, Path(folder))
            children.append(child)
        if any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children):
            raise SystemExit("a rank has failed")
        return json.loads((Path(folder) / "rank-1").read_text())


def _leave_after(rank: int, num_ranks: int, folder: Path) -> None:
    code = 1
    try:
        _be_a_rank(rank, num_ranks, folder)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _be_a_rank(rank: int, num_ranks: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    port = folder / "port"
    if rank == 0:
        server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_WAIT)
        (folder / "port.new").write_text(str(server.port))
        (folder / "port.new").rename(port)
    else:
        while not port.exists():
            time.sleep(0.02)
        server = dist.TCPStore("127.0.0.1", int(port.read_text()), is_master=False, timeout=_WAIT)
    store = _counting(server)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
    number = torch.ones(1)
    dist.all_reduce(number)
    dist.broadcast(number, src=0)
    dist.all_gather([torch.empty(1) for _ in range(num_ranks)], number)
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    found = {"requests": store.requests, "bytes": store.bytes, "sockets": sum("socket" in link for link in links)}
    if number.item() != num_ranks:
        raise SystemExit(f"the sum is {number.item()}, not {num_ranks}")
    (folder / f"rank-{rank}").write_text(json.dumps(found))
    dist.all_reduce(number)  # nobody leaves before the last one has counted


def _counting(server: Any) -> Any:
    """Return a store that hands every request on to another one and counts requests and bytes read."""
    import torch.distributed as dist

    class Counting(dist.Store):
        requests = bytes = 0

        def set(self, key: str, value: Any) -> None:
            server.set(key, value)

        def get(self, key: str) -> Any:
            value = server.get(key)
            self.requests, self.bytes = self.requests + 1, self.bytes + len(value)
            return value

        def wait(self, *arguments: Any) -> None:
            server.wait(*arguments)

        def add(self, key: str, value: int) -> int:
            return server.add(key, value)

        def check(self, keys: list[str]) -> bool:
            return server.check(keys)

    return Counting()
