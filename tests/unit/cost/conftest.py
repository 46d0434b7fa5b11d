"""A site with prices."""

import pytest
from made_runs import write_site


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose site has prices, and which is the working directory."""
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_site(tmp_path)
    (tmp_path / "spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return tmp_path
