"""What the process group is told about time."""

from __future__ import annotations

import os

import pytest

from hpctrain.distributed.group import collective_timeout_s, use_expandable_segments
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
