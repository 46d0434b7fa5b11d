"""The time in a new file is now, unless whoever builds it says otherwise by the usual variable."""

from __future__ import annotations

import time

import pytest

from hpctrain.files import SOURCE_DATE, creation_stamp, creation_time


def test_the_variable_is_the_time_in_a_new_file_in_utc(monkeypatch):
    monkeypatch.setenv(SOURCE_DATE, "1000000000")
    assert creation_time() == 1e9
    assert creation_stamp() == "2001-09-09T01:46:40+0000"


@pytest.mark.parametrize("given", [None, "", "yesterday", "-5", "1e9"])
def test_without_a_number_in_it_the_time_is_now(given, monkeypatch):
    monkeypatch.delenv(SOURCE_DATE, raising=False)
    if given is not None:
        monkeypatch.setenv(SOURCE_DATE, given)
    before = time.time()
    assert before <= creation_time() <= time.time()
