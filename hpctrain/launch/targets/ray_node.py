"""``python -m hpctrain.launch.targets.ray_node RUN_DIR``: the ranks of one node of Ray, as the child of an actor there.

It is :mod:`hpctrain.launch.pod`, which ends with its parent: when the actor or its node dies, the ranks save.
"""

from __future__ import annotations

import sys

from hpctrain.credentials.hide import hide_in_tracebacks
from hpctrain.launch import pod
from hpctrain.launch.targets.ray_cluster import end_with_parent

if __name__ == "__main__":
    hide_in_tracebacks()
    end_with_parent()
    sys.exit(pod.main(sys.argv[1:]))
