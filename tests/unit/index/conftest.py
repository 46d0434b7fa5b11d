"""A filled folder, and an index of it; a whole session shares what no test changes."""

import shutil
from pathlib import Path

import pytest
from filled_folder import fill
from rows_of_index import fresh_index

from hpctrain.index.database import database_at


@pytest.fixture(scope="session")
def filled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def filled_index(filled):
    """An index that no test may change, of a folder that no test may change."""
    return fresh_index(filled, filled / "index.sqlite")


@pytest.fixture
def seen(filled, filled_index, monkeypatch):
    """The same index, from its folder."""
    monkeypatch.chdir(filled)
    return filled_index


@pytest.fixture
def folder(filled, tmp_path, monkeypatch) -> Path:
    """A filled folder that a test may change."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs", "pipelines", "registry", "registered"):
        shutil.copytree(filled / name, tmp_path / name, copy_function=shutil.copy)
    return tmp_path


@pytest.fixture
def database(folder):
    """An index that is not there yet."""
    return database_at(None, folder / "runs")


@pytest.fixture
def index(folder, database):
    """An index that a test may change."""
    return fresh_index(folder, database.file)
