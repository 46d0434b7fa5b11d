"""Check, loader, pre-flight and provenance mean the same files by one entry of ``data.files``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.provenance import data_files
from hpctrain.profile.families import profile_class
from hpctrain.profile.files import matching_files
from hpctrain.profile.memory import prefetched_gib
from hpctrain.samples.find import find_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.h5", "deep/b.h5", "deep/deeper/c.h5", "run[1]/d.h5", "run1/e.h5"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("a.h5", ["a.h5"]),
        ("deep/**/*.h5", ["deep/b.h5", "deep/deeper/c.h5"]),
        ("~/a.h5", ["a.h5"]),
        ("~/deep/*.h5", ["deep/b.h5"]),
        ("run[1]/d.h5", ["run[1]/d.h5"]),
        ("run[1]/*.h5", ["run1/e.h5"]),
    ],
)
def test_an_entry_means_the_same_files_everywhere(folder: Path, entry: str, names: list[str]) -> None:
    wanted = {(folder / name).resolve() for name in names}
    assert {path.resolve() for path in matching_files(entry)} == wanted
    assert {path.resolve() for path in find_files([entry], Path())} == wanted
    if not entry.startswith("~"):  # a profile refuses it; the commands that take files do not
        profile = profile_class()(name="p", data=SpectraSection(files=[entry]))
        assert {path.resolve() for path in data_files(profile)} == wanted


def test_a_remote_entry_means_no_file_here(folder: Path) -> None:
    assert matching_files("https://example.org/a.h5") == []
    assert data_files(profile_class()(name="p", data=SpectraSection(files=["s3://bucket/*.h5"]))) == []


def test_brackets_in_the_folder_one_works_in_are_no_pattern(folder: Path) -> None:
    assert [path.name for path in matching_files("*.h5", folder / "run[1]")] == ["d.h5"]


def test_every_entry_that_means_nothing_is_named(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        find_files(["no.h5", "none/*.h5"], Path())
    assert "no.h5: no such file" in str(error.value)
    assert "none/*.h5: no file matches" in str(error.value)


def test_check_and_auto_batch_size_count_prefetched_batches_alike() -> None:
    # Four batches of the training and four of an evaluation: flux and ivar, float32.
    assert prefetched_gib(4, 64, 1024 * 8) == 8 * 64 * 1024 * 8 / 2**30
