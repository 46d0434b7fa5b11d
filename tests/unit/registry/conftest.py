"""A registry and a folder of runs."""

import pytest

from hpctrain.registry.folder import Registry


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")
