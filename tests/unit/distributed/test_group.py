"""What the process group is told about time."""

from __future__ import annotations

import os
import resource

import pytest

from hpctrain.distributed.group import collective_timeout_s, prepare_for, use_expandable_segments
from hpctrain.distributed.watchdog import START_UP_S


def test_the_watchdog_comes_before_the_time_out_of_a_collective_even_in_the_first_step():
    for hang_timeout_s in (5.0, 1800.0):
        assert collective_timeout_s(hang_timeout_s) > hang_timeout_s + START_UP_S


def test_without_a_watchdog_a_collective_still_ends():
    assert collective_timeout_s(None) == 86400.0


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_the_allocator_grows_its_blocks_unless_the_site_says_otherwise(monkeypatch, name):
    for each in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.setenv(each, "")  # so that the variable is as before at the end
        monkeypatch.delenv(each)
    use_expandable_segments()
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    monkeypatch.setenv(name, "max_split_size_mb:128")
    use_expandable_segments()
    assert os.environ.get("PYTORCH_CUDA_ALLOC_CONF") in (None, "max_split_size_mb:128")


def test_many_ranks_connect_only_where_they_talk_and_may_open_a_file_for_each_rank(monkeypatch):
    name = "TORCH_GLOO_LAZY_INIT"
    monkeypatch.setenv(name, "")  # so that the variable is as before at the end
    monkeypatch.delenv(name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        prepare_for(8)
        assert name not in os.environ
        prepare_for(512)
        assert os.environ[name] == "1"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(2048, hard)
        monkeypatch.setenv(name, "0")
        prepare_for(4096)
        assert os.environ[name] == "0"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
