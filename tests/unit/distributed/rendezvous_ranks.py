"""Ranks that join a process group, forked so that torch is imported once; told one by one when to join.

Reads one JSON object a line from standard input::

    {"start": 3, "run": "/path"}     start three ranks that wait; answers their process ids
    {"join": 0}                      let a rank join; add "timeout_s" or "address" for other ones, and "unfit": true
                                     for a node on which nothing can be written
    {"wait": 0}                      answers how a rank ended
    {"end": true}                    kill what is left

A rank that has joined exits with 0.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

import torch

from hpctrain.distributed.group import barrier, leave, open_group
from hpctrain.distributed.rendezvous import TIMEOUT_S
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.errors import EXIT_BUG, HpctrainError
from hpctrain.launch.ranks import free_port, torchrun_variables
from hpctrain.rundir import RunDir


def be_rank(path: str, orders: int) -> None:
    log = os.open(f"{path}/log-{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    stop = StopRequest()
    stop.install()
    order = json.loads(os.read(orders, 1000))
    os.environ["MASTER_ADDR"] = order.get("address", "127.0.0.1")
    if order.get("unfit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    world = World.from_environment()
    try:
        open_group(world, torch.device("cpu"), RunDir(path), None, stop, order.get("timeout_s", TIMEOUT_S))
        barrier(world)
    except HpctrainError as error:
        print(error, file=sys.stderr, flush=True)
        leave(error.exit_code)
    except BaseException:
        import traceback

        traceback.print_exc()
        leave(EXIT_BUG)
    leave(0)


def start(path: str, world_size: int) -> tuple[list[int], list[int]]:
    port = free_port()
    ranks, pipes = [], []
    for rank in range(world_size):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.environ.update(torchrun_variables(rank, world_size, port))
            be_rank(path, reading)
        os.close(reading)
        ranks.append(child)
        pipes.append(writing)
    return ranks, pipes


def main() -> None:
    torch.set_num_threads(1)
    ranks: list[int] = []
    pipes: list[int] = []
    for line in sys.stdin:
        order = json.loads(line)
        answer: object = None
        if "start" in order:
            ranks, pipes = start(order["run"], order["start"])
            answer = ranks
        elif "join" in order:
            os.write(pipes[order["join"]], line.encode())
        elif "wait" in order:
            rank = order["wait"]
            answer = os.waitstatus_to_exitcode(os.waitpid(ranks[rank], 0)[1])
            ranks[rank] = 0
        else:
            for child in filter(None, ranks):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            for pipe in pipes:
                os.close(pipe)
            ranks, pipes = [], []
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
