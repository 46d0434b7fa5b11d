"""Nodes of a Ray cluster for one attempt: room for them, and an actor on each that runs a command of ours.

Ray's own trainer does not fit here. ``TorchTrainer`` opens a process group in its workers, with a context on each GPU,
beside that of our ranks; it ends workers with KILL, so that no rank saves; it counts failures and reads no exit codes;
and its process has to live as long as the run. A placement group and one actor per node have none of this.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpctrain.distributed.containers import NodePlace
from hpctrain.launch.pod import RESTART

_SMALLER_WITHIN_S = 5.0
"""How long Ray may take to find room for fewer nodes [s]; it knows at once, but a group of nodes takes a moment."""
_ACTORS_WITHIN_S = 300.0
_POLL_S = 1.0


@dataclass(frozen=True)
class Room:
    """Room for some nodes.

    Parameters
    ----------
    group : object
        Ray's placement group.
    num_nodes : int
    """

    group: Any
    num_nodes: int


def find_room(
    request: Mapping[str, Any],
    smaller: Sequence[int],
    is_stopped: Callable[[], bool],
    say: Callable[[str], None],
    gives_up: bool = False,
) -> Room | None:
    """Wait until Ray has room for an attempt, and reserve it.

    Parameters
    ----------
    request : mapping
        What ``ray.json`` says.
    smaller : sequence of int
        Numbers of nodes that will do too once ``wait_s`` is over, largest first.
    is_stopped : callable
        Returns whether to give up; called every second.
    say : callable
        Gets the reason why the run waits.
    gives_up : bool
        Whether ``wait_s`` is all the time there is, because nobody adds nodes to this cluster.

    Returns
    -------
    Room or None
        None after `is_stopped` has returned True, or after `gives_up`.
    """
    wanted = request["nodes"]
    each = ", ".join(f"{amount:g} {name}" for name, amount in request["bundle_of_each_node"].items())
    say(f"waits until Ray has {wanted} {'node' if wanted == 1 else 'nodes'} with {each}")
    while not is_stopped():
        within_s = request["wait_s"] if smaller or gives_up else float("inf")
        if (room := _reserve(request, wanted, within_s, is_stopped)) is not None:
            return room
        for num_nodes in smaller:
            if (room := _reserve(request, num_nodes, _SMALLER_WITHIN_S, is_stopped)) is not None:
                return room
        if gives_up:
            break
    return None


def _reserve(
    request: Mapping[str, Any], num_nodes: int, within_s: float, is_stopped: Callable[[], bool]
) -> Room | None:
    from ray.util import placement_group, remove_placement_group

    group = placement_group([dict(request["bundle_of_each_node"])] * num_nodes, strategy=request["strategy"])
    until_s = time.monotonic() + within_s
    while not is_stopped():
        if group.wait(_POLL_S):
            return Room(group, num_nodes)
        if time.monotonic() >= until_s:
            break
    remove_placement_group(group)
    return None


class Nodes:
    """The nodes of one attempt, each with an actor that runs the command.

    Parameters
    ----------
    room : Room
    request : mapping
        What ``ray.json`` says. Where the Python of its command is not there, Ray's own takes its place.
    log : str
        File for what the command prints.
    """

    def __init__(self, room: Room, request: Mapping[str, Any], log: str) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle = dict(request["bundle_of_each_node"])
        sizes = {"num_cpus": bundle.pop("CPU"), "num_gpus": bundle.pop("GPU", 0), "memory": bundle.pop("memory", None)}
        actor = ray.remote(_node_class())
        self.room = room
        self.actors = [
            actor.options(
                **sizes,
                resources=bundle,
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(room.group, placement_group_bundle_index=index),
            ).remote(list(request["command"]), list(request["setup"]), log)
            for index in range(room.num_nodes)
        ]

    def hosts(self) -> list[str]:
        """Return the names of the nodes.

        Raises
        ------
        Exception
            Ray has lost one of them.
        """
        import ray

        self._places = ray.get([actor.place.remote() for actor in self.actors], timeout=_ACTORS_WITHIN_S)
        return [place["host"] for place in self._places]

    def run(self, job_id: str, restart: int) -> dict[Any, int]:
        """Start the command on all nodes, after :meth:`hosts`; return the number of each node by what Ray calls it."""
        first = self._places[0]
        place = NodePlace(0, len(self.actors), first["address"], first["port"], "Ray")
        return {
            actor.run.remote(variables_of(place, node, job_id, restart)): node for node, actor in enumerate(self.actors)
        }

    def terminate(self) -> None:
        """Send TERM to the command on all nodes that answer."""
        for actor in self.actors:
            actor.terminate.remote()

    def give_back(self) -> None:
        """End all actors, and give the room back."""
        import ray
        from ray.util import remove_placement_group

        for actor in self.actors:
            with contextlib.suppress(Exception):  # it is dead
                ray.kill(actor)
        with contextlib.suppress(Exception):
            remove_placement_group(self.room.group)


def variables_of(place: NodePlace, node: int, job_id: str, restart: int) -> dict[str, str]:
    """Return the variables that tell a node which one it is, as :mod:`hpctrain.distributed.containers` reads them."""
    return {
        "HPCTRAIN_JOB_ID": job_id,
        RESTART: str(restart),
        "HPCTRAIN_NODE": str(node),
        "HPCTRAIN_NODES": str(place.num_nodes),
        "MASTER_ADDR": place.main_address,
        "MASTER_PORT": str(place.main_port),
    }


def ended(running: Iterable[Any]) -> Iterator[tuple[Any, int | None]]:
    """Wait up to a second; yield each command that has ended, with its exit code, or None if Ray has lost its node."""
    import ray
    from ray.exceptions import RayError

    ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
    for item in ready:
        try:
            yield item, ray.get(item)
        except RayError:
            yield item, None


def _node_class() -> Any:
    """Return the class of the actor of a node. Ray sends it as a whole: its process need not know hpctrain."""

    class Node:
        """Runs a command on one node."""

        def __init__(self, command: list[str], setup: list[str], log: str) -> None:
            self.command, self.setup, self.log = command, setup, log
            self.process: Any = None
            self.is_terminated = False

        def place(self) -> dict[str, Any]:
            """Return how other nodes reach this one, with a port that is free."""
            import os
            import socket

            import ray

            host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
            with socket.socket() as free:
                free.bind(("", 0))
                port = free.getsockname()[1]
            return {"host": host, "address": ray.util.get_node_ip_address(), "port": port}

        def run(self, variables: dict[str, str]) -> int:
            """Run the command after the lines of the site, and return its exit code."""
            import os
            import subprocess
            import sys

            python = self.command[0] if os.path.exists(self.command[0]) else sys.executable
            script = "\n".join([*self.setup, 'exec "$@"'])
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    ["bash", "-c", script, "hpctrain", python, *self.command[1:]],
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if self.is_terminated:
                self.process.terminate()
            code: int = self.process.wait()
            return 128 - code if code < 0 else code

        def terminate(self) -> None:
            """Send TERM to the command."""
            self.is_terminated = True
            if self.process is not None and self.process.poll() is None:
                self.process.terminate()

    return Node
