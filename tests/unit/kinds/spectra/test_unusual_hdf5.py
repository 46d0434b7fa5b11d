"""HDF5 files whose pixels are elsewhere, or packed by what is not here: the right rows, or one clear error at once."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples import library

N, L = 12, 30
FLUX = np.random.default_rng(3).normal(size=(N, L)).astype("f4")
IVAR = np.full((N, L), 2, "f4")


def write_rest(file, without=()):
    columns = {
        "flux": FLUX,
        "ivar": IVAR,
        "wavelength": np.linspace(3600, 9824, L),
        "target_id": np.arange(N),
        "redshift": np.ones(N),
    }
    for name, values in columns.items():
        if name not in without:
            file[name] = values


def open_one(path):
    return open_spectra(SpectraSection(files=[str(path)]))


def refusal(path):
    with pytest.raises(DataError) as caught:
        open_one(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", [{}, {"chunks": (5, L), "compression": "gzip"}])
def test_a_column_behind_an_external_link_is_read_from_where_it_leads(tmp_path, layout):
    """Its offset in the other file means nothing in this one."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["padding"] = np.arange(1000.0)
        file.create_dataset("deep/pixels", data=FLUX, **layout)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file, without=["flux"])
        file["flux"] = h5py.ExternalLink("other.h5", "/deep/pixels")
    rows = np.array([5, 0, 11, 5])
    spectra = open_one(tmp_path / "s.h5")
    assert np.array_equal(spectra.read(rows).flux.numpy(), FLUX[rows])
    spectra.close()
    (tmp_path / "other.h5").unlink()
    assert "flux: links to /deep/pixels in other.h5, which does not exist" in refusal(tmp_path / "s.h5")


def write_virtual(tmp_path, rows_of_source=N):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["pixels"] = FLUX[:rows_of_source]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file, without=["flux"])
        virtual = h5py.VirtualLayout((N, L), "f4")
        virtual[:rows_of_source] = h5py.VirtualSource("source.h5", "pixels", (rows_of_source, L))
        file.create_virtual_dataset("flux", virtual)
    return tmp_path / "s.h5"


def test_a_virtual_column_is_read_from_its_sources(tmp_path, monkeypatch):
    path = write_virtual(tmp_path)
    monkeypatch.chdir("/")
    assert np.array_equal(open_one(path).read(np.arange(N)).flux.numpy(), FLUX)


def test_a_virtual_column_without_its_source_is_refused_rather_than_filled_up(tmp_path):
    path = write_virtual(tmp_path)
    (tmp_path / "source.h5").rename(tmp_path / "moved.h5")
    assert "flux: is virtual, and its source source.h5 is missing" in refusal(path)


def test_a_virtual_column_with_holes_or_another_source_is_refused(tmp_path):
    assert "its sources do not cover all of it" in refusal(write_virtual(tmp_path, rows_of_source=N - 1))
    path = write_virtual(tmp_path)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["pixels"] = FLUX[: N - 2]
    assert f"has shape ({N - 2}, {L}), which does not hold the selected part" in refusal(path)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["other"] = FLUX
    assert "cannot be read" in refusal(path)


def test_external_storage_is_refused_with_the_way_out(tmp_path, monkeypatch):
    """What a raw file lacks, libhdf5 reads as zeros."""
    monkeypatch.chdir(tmp_path)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file, without=["flux"])
        file.create_dataset("flux", data=FLUX, external=[("flux.raw", 0, h5py.h5f.UNLIMITED)])
    text = refusal(tmp_path / "s.h5")
    assert "flux: keeps its values outside HDF5, in flux.raw" in text
    assert "h5repack" in text


def write_unknown_filter(path, skipped):
    with h5py.File(path, "w") as file:
        write_rest(file, without=["flux"])
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4, L))
        properties.set_filter(444, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((N, L))
        dataset = h5py.h5d.create(file.id, b"flux", h5py.h5t.IEEE_F32LE, space, properties)
        for top in range(0, N, 4):
            dataset.write_direct_chunk((top, 0), FLUX[top : top + 4].tobytes(), skipped)


def test_a_filter_that_is_not_installed_is_named_when_the_file_is_opened(tmp_path):
    write_unknown_filter(tmp_path / "s.h5", skipped=0)
    text = refusal(tmp_path / "s.h5")
    assert "flux: is packed with filter 444, which is not installed here: pip install hdf5plugin" in text


def test_a_filter_no_chunk_went_through_need_not_be_installed(tmp_path):
    write_unknown_filter(tmp_path / "s.h5", skipped=1)
    assert np.array_equal(open_one(tmp_path / "s.h5").read(np.arange(N)).flux.numpy(), FLUX)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_columns_that_may_grow_sideways_are_read_or_refused(tmp_path, libver):
    """libhdf5 tells wrong places of their chunks, and takes an error of the Zstandard plugin for success."""
    with h5py.File(tmp_path / "s.h5", "w", libver=libver) as file:
        write_rest(file, without=["flux"])
        file.create_dataset("flux", data=FLUX, chunks=(5, 7), maxshape=(N, None), compression="gzip")
    spectra = open_one(tmp_path / "s.h5")
    assert np.array_equal(spectra.read(np.arange(N)).flux.numpy(), FLUX)
    spectra.close()
    with h5py.File(tmp_path / "s.h5", "a") as file:
        del file["flux"]
        file.create_dataset("flux", data=FLUX, chunks=(5, 7), maxshape=(N, None), compression="lzf")
    assert "flux: may grow in the direction of its pixels" in refusal(tmp_path / "s.h5")


def test_filters_only_libhdf5_knows_go_through_it(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file, without=["flux", "ivar"])
        flux = np.round(100 * FLUX).astype("i4")
        file.create_dataset("flux", data=flux, chunks=(5, L), scaleoffset=0)
        file.create_dataset("ivar", data=IVAR, chunks=(5, L), scaleoffset=3, compression="gzip")
    spectra = open_one(tmp_path / "s.h5")
    assert {spectra._files[0].flux.way, spectra._files[0].ivar.way} == {"libhdf5"}
    assert np.array_equal(spectra.read(np.arange(N)[::-1]).flux.numpy(), flux[::-1])


def test_what_is_no_file_of_spectra_is_said_in_a_line(tmp_path):
    (tmp_path / "empty.h5").touch()
    assert "not an HDF5 file, or damaged" in refusal(tmp_path / "empty.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    assert "is a pipe, not a file" in refusal(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "nothing.h5", "w"):
        pass
    assert "the file has: no datasets" in refusal(tmp_path / "nothing.h5")


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("flux", np.ones((N, 0), "f4"), f"flux: has shape ({N}, 0); (spectra, pixels) is needed"),
        ("flux", np.ones((N, L), "c8"), "flux: holds complex64, not numbers"),
        ("flux", np.ones((N, L), [("a", "f4")]), "not numbers"),
        ("ivar", np.ones((N, L, 1), "f4"), f"ivar: has shape ({N}, {L}, 1)"),
        ("mask", np.zeros((N, L - 1), "u1"), f"mask: has shape ({N}, {L - 1})"),
        ("redshift", np.ones((N, 1)), f"redshift: has shape ({N}, 1)"),
        ("wavelength", np.full(L, np.nan), "holds 0 positive values"),
        ("target_id", np.full(N, np.nan), "ids are integers or text"),
    ],
)
def test_a_column_that_does_not_fit_is_named(tmp_path, name, values, text):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file, without=[name])
        file[name] = values
    assert text in refusal(tmp_path / "s.h5")


def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        write_rest(file)
    if os.geteuid() == 0:  # nothing is forbidden to root

        def forbid(*_arguments, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(library.h5py, "File", forbid)
    else:
        (tmp_path / "s.h5").chmod(0)
    assert "permission denied; ask its owner" in refusal(tmp_path / "s.h5")
