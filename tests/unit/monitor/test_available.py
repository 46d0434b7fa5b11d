"""How much memory is left, from the kernel's and the control groups' own files."""

from __future__ import annotations

import pytest

from hpctrain.monitor.available import available_memory_bytes, available_memory_share


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n"}
JOB = "sys/fs/cgroup/slurm/job_7"


def test_without_groups_it_is_what_the_kernel_says(tmp_path):
    assert available_memory_bytes(write(tmp_path, MEMINFO)) == 8000 * 1024
    assert available_memory_share(tmp_path) == 0.5


def test_the_tightest_group_around_the_process_decides(tmp_path):
    files = MEMINFO | {
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        "sys/fs/cgroup/cgroup.controllers": "memory",
        f"{JOB}/step_0/memory.max": "max\n",
        f"{JOB}/memory.max": "1000000\n",
        f"{JOB}/memory.current": "600000\n",
        f"{JOB}/memory.stat": "anon 1\ninactive_file 50000\n",
    }
    assert available_memory_bytes(write(tmp_path, files)) == 1000000 - 600000 + 50000
    assert available_memory_share(tmp_path) == 0.45  # of the job's limit: on the node half of the memory is free


def test_groups_of_version_1_count_too(tmp_path):
    folder = "sys/fs/cgroup/memory/slurm"
    files = MEMINFO | {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/slurm\n",
        f"{folder}/memory.limit_in_bytes": "500000",
        f"{folder}/memory.usage_in_bytes": "100000",
        f"{folder}/memory.stat": "total_inactive_file 0\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    }
    assert available_memory_bytes(write(tmp_path, files)) == 400000


@pytest.mark.parametrize("files", [{}, {"proc/meminfo": "nonsense"}])
def test_where_nobody_says_it_is_not_known(tmp_path, files):
    assert available_memory_bytes(write(tmp_path, files)) is None


def test_on_this_machine_something_is_left():
    assert available_memory_bytes() > 2**20
