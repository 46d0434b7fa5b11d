"""``python ray_nodes.py CLIENT_PORT JOBS_PORT``: nodes of a Ray cluster on this machine, with one CPU each.

The ports are those of Ray's client and of Ray Jobs; without the second one there is no dashboard. It runs in the
environment of Ray. First it prints the address of the head. Then it reads a word a line, and answers each with a line:
``add`` starts another node and prints its process, ``kill`` kills the node that was added last. The end of the input
ends the cluster.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

SIZES = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False}


def main() -> None:
    """Serve the words."""
    head = {**SIZES, "ray_client_server_port": int(sys.argv[1])}
    if sys.argv[2]:
        head |= {"include_dashboard": True, "dashboard_port": int(sys.argv[2])}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(cluster.address, flush=True)
    nodes = []
    try:
        for line in sys.stdin:
            if line.strip() == "add":
                nodes.append(cluster.add_node(**SIZES))
                print(nodes[-1].all_processes["raylet"][0].process.pid, flush=True)
            elif line.strip() == "kill":
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                print("killed", flush=True)
    finally:
        cluster.shutdown()


main()
