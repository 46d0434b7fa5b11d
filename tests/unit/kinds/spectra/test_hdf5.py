"""Reading spectra out of HDF5: whatever the layout, the batch holds the right rows, and never a NaN."""

import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import ColumnsSection, SpectraSection

N, L = 40, 120


def make_arrays(num_spectra=N, num_pixels=L, seed=0):
    random = np.random.default_rng(seed)
    return {
        "flux": random.normal(size=(num_spectra, num_pixels)).astype("f4"),
        "ivar": random.uniform(0.5, 2, size=(num_spectra, num_pixels)).astype("f4"),
        "wavelength": np.linspace(3600, 9824, num_pixels),
        "target_id": np.arange(num_spectra) + 1000 * seed,
        "redshift": random.uniform(0.1, 3, num_spectra),
    }


def write(path, arrays, **layout):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            pixels = np.ndim(values) == 2
            file.create_dataset(name, data=values, **(layout if pixels else {}))
    return path


def private_memory_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def read_all(path, **data):
    spectra = open_spectra(SpectraSection(files=[str(path)], **data))
    return spectra, spectra.read(np.arange(len(spectra))).clean()


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (7, 50)},
    "gzip": {"chunks": (16, L), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (5, L), "compression": "lzf"},
    "checksummed": {"chunks": (5, L), "fletcher32": True},
}
DTYPES = ["<f4", ">f4", "<f2", ">f2", "<f8", ">f8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_come_back_as_they_were_written(tmp_path, layout, dtype):
    arrays = make_arrays()
    stored = {name: arrays[name].astype(dtype) for name in ("flux", "ivar")}
    path = write(tmp_path / "s.h5", arrays | stored, **LAYOUTS[layout])
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.array([39, 0, 7, 7, 20, 3])
    batch = spectra.read(rows)
    assert np.array_equal(batch.flux.numpy(), stored["flux"][rows].astype("f4"))
    assert np.array_equal(batch.ivar.numpy(), stored["ivar"][rows].astype("f4"))
    assert batch.target_id.tolist() == rows.tolist() == batch.row.tolist()
    assert np.allclose(batch.redshift, arrays["redshift"][rows])
    assert np.allclose(batch.wavelength_aa, arrays["wavelength"])
    assert spectra.wavelength_aa.dtype == np.float64
    assert spectra.num_pixels == L


@pytest.mark.parametrize("options", [{"userblock_size": 2048}, {"libver": "latest"}, {"libver": "earliest"}])
def test_offsets_are_right_for_other_file_formats(tmp_path, options):
    """libhdf5 counts from behind a user block or not; a wrong offset would give wrong spectra without an error."""
    arrays = make_arrays()
    with h5py.File(tmp_path / "s.h5", "w", **options) as file:
        for name, values in arrays.items():
            file[name] = values
    spectra, batch = read_all(tmp_path / "s.h5")
    assert spectra._files[0].flux.way == "block"
    assert np.array_equal(batch.flux.numpy(), arrays["flux"])


def test_rows_at_odd_offsets_are_not_converted_as_a_whole(tmp_path):
    """A 3-byte string before the flux leaves it unaligned, where plain numpy would copy the file for each batch."""
    arrays = make_arrays()
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        file["note"] = np.frombuffer(b"abc", "S1")
        for name, values in arrays.items():
            file[name] = values
    _, batch = read_all(tmp_path / "s.h5")
    assert np.array_equal(batch.ivar.numpy(), arrays["ivar"])


def test_compact_virtual_and_never_written_datasets_go_through_libhdf5(tmp_path):
    arrays = make_arrays(4, 20)
    source = write(tmp_path / "source.h5", arrays)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("wavelength", "target_id", "redshift"):
            file[name] = arrays[name]
        virtual = h5py.VirtualLayout((4, 20), "f4")
        virtual[:] = h5py.VirtualSource(str(source), "flux", (4, 20))
        file.create_virtual_dataset("flux", virtual)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((4, 20))
        made = h5py.h5d.create(file.id, b"ivar", h5py.h5t.IEEE_F32LE, space, properties)
        h5py.Dataset(made)[...] = arrays["ivar"]
        file.create_dataset("mask", (4, 20), "u1")
    spectra, batch = read_all(tmp_path / "s.h5")
    assert spectra._files[0].flux.way == "libhdf5"
    assert np.array_equal(batch.flux.numpy(), arrays["flux"])
    assert np.array_equal(batch.ivar.numpy(), arrays["ivar"])


def test_bad_pixels_have_no_weight_and_are_finite(tmp_path):
    arrays = make_arrays()
    mask = np.zeros((N, L), np.int32)
    mask[0, 3], mask[0, 4] = 1, 1 << 30
    arrays["flux"][1, :4] = np.nan, np.inf, -np.inf, 3e38
    arrays["flux"][1, 5] = 3e38
    arrays["ivar"][2, :5] = 0, -1, np.nan, np.inf, -np.inf
    arrays["flux"][3, 7], arrays["ivar"][3, 7] = 1e30, 0
    bad = mask != 0
    bad[1, :3] = True
    bad[2, :5] = True
    bad[3, 7] = True
    _, batch = read_all(write(tmp_path / "s.h5", arrays | {"mask": mask}))
    assert np.array_equal(batch.ivar.numpy() == 0, bad)
    expected = np.where(np.isfinite(arrays["flux"]), arrays["flux"], 0)
    assert np.array_equal(batch.flux.numpy(), expected)
    assert np.array_equal(batch.ivar.numpy()[~bad], arrays["ivar"][~bad])


def test_a_bool_mask_works_and_no_mask_can_be_asked_for(tmp_path):
    arrays = make_arrays() | {"mask": np.eye(N, L, dtype=bool)}
    path = write(tmp_path / "s.h5", arrays)
    _, batch = read_all(path)
    assert np.array_equal(batch.ivar.numpy() == 0, arrays["mask"])
    _, batch = read_all(path, columns=ColumnsSection(mask=None))
    assert (batch.ivar > 0).all()


@pytest.mark.parametrize("names", [("scale_factor", "add_offset", "_FillValue"), ("BSCALE", "BZERO", "BLANK")])
def test_scaled_integers_are_unscaled_and_blanks_masked(tmp_path, names):
    arrays = make_arrays()
    stored = np.round(arrays["flux"] / 0.001).astype(">i2")
    stored[5, 5] = -32768
    path = write(tmp_path / "s.h5", arrays | {"flux": stored})
    with h5py.File(path, "a") as file:
        file["flux"].attrs.update(dict(zip(names, (0.001, 0.5, np.int16(-32768)), strict=True)))
    _, batch = read_all(path)
    expected = stored * 0.001 + 0.5
    expected[5, 5] = 0  # where it was blank
    assert np.allclose(batch.flux, expected, atol=1e-6)
    assert np.argwhere(batch.ivar.numpy() == 0).tolist() == [[5, 5]]


def test_padding_rows_are_empty(tmp_path):
    path = write(tmp_path / "s.h5", make_arrays())
    batch = open_spectra(SpectraSection(files=[str(path)])).read(np.array([3, -1, 4]))
    assert batch.row.tolist() == [3, -1, 4]
    assert batch.target_id.tolist() == [3, -1, 4]
    assert (batch.flux[1] == 0).all()
    assert (batch.ivar[1] == 0).all()
    assert batch.used.tolist() == [True, False, True]


def test_reused_memory_shows_nothing_of_an_earlier_batch(tmp_path):
    path = write(tmp_path / "s.h5", make_arrays())
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    first = spectra.read(np.arange(8)).clean()
    kept = first.flux[2:3]
    copy = kept.clone()
    del first
    for _ in range(40):
        empty = spectra.read(np.full(8, -1))
        assert (empty.flux == 0).all()
        assert (empty.ivar == 0).all()
        del empty
    assert np.array_equal(kept, copy)  # a view keeps its memory


def test_several_files_are_one_set_in_the_order_of_their_names(tmp_path):
    parts = {name: make_arrays(count, seed=seed) for seed, (name, count) in enumerate([("b", 5), ("a", 3), ("c", 40)])}
    for name, arrays in parts.items():
        write(tmp_path / f"part-{name}.h5", arrays, **(LAYOUTS["gzip"] if name == "c" else {}))
    write(tmp_path / "part-d.h5", make_arrays(0))
    data = SpectraSection(files=["part-*.h5", "part-a.h5"])
    spectra = open_spectra(data, base=tmp_path)
    flux = np.concatenate([parts[name]["flux"] for name in "abc"])
    assert len(spectra) == 48
    rows = np.random.default_rng(1).permutation(48)
    batch = spectra.read(rows)
    assert np.array_equal(batch.flux.numpy(), flux[rows])
    assert np.array_equal(batch.target_id.numpy(), spectra.target_id[rows])
    assert [entry["num_spectra"] for entry in spectra.fingerprint()["files"]] == [3, 5, 40]


def test_a_wavelength_per_row_collapses_where_all_rows_agree(tmp_path):
    arrays = make_arrays()
    grid = np.tile(arrays["wavelength"].astype("f4"), (N, 1))
    grid[:, -5:] = -1
    spectra, batch = read_all(write(tmp_path / "s.h5", arrays | {"wavelength": grid}))
    assert spectra.wavelength_aa.shape == (L,)
    assert (np.diff(spectra.wavelength_aa) > 0).all()
    assert np.array_equal((batch.ivar == 0).numpy(), grid < 0)


def test_rows_may_have_grids_of_their_own_with_padding(tmp_path):
    arrays = make_arrays()
    grid = np.tile(arrays["wavelength"], (N, 1)) * (1 + 1e-3 * np.arange(N)[:, None])
    grid[4, -7:], grid[5, :3] = -1, np.nan
    grid[6] = -1
    path = write(tmp_path / "s.h5", arrays | {"wavelength": grid})
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.array([4, 5, 6, -1, 9])
    batch = spectra.read(rows)
    assert spectra.wavelength_aa is None
    assert "different wavelength grids" in "\n".join(spectra.notes)
    assert batch.wavelength_aa.shape == (5, L)
    assert (batch.wavelength_aa.diff(dim=1) > 0).all()
    assert (batch.wavelength_aa > 0).all()
    assert np.allclose(batch.wavelength_aa[4], grid[9])
    assert batch.ivar.count_nonzero(dim=1).tolist() == [L - 7, L - 3, 0, 0, L]


def test_text_ids_become_the_same_integers_everywhere(tmp_path):
    arrays = make_arrays(3)
    as_bytes = write(tmp_path / "b.h5", arrays | {"target_id": np.array([b"J1234", b"J1235 ", b"J1234"], "S6")})
    with h5py.File(write(tmp_path / "t.h5", arrays), "a") as file:
        del file["target_id"]
        file["target_id"] = ["J1234", "J1235", "J1234"]
    ids = [open_spectra(SpectraSection(files=[str(path)])).target_id for path in (as_bytes, tmp_path / "t.h5")]
    assert ids[0].tolist() == ids[1].tolist()
    assert ids[0][0] == ids[0][2] != ids[0][1]
    assert "BLAKE2b" in "\n".join(open_spectra(SpectraSection(files=[str(as_bytes)])).notes)


def test_rows_without_a_redshift_get_no_weight(tmp_path):
    arrays = make_arrays(5)
    arrays["redshift"] = np.array([1.0, np.nan, -9999, 2.0, 0.0])
    spectra, batch = read_all(write(tmp_path / "s.h5", arrays))
    assert spectra.has_redshift.tolist() == [True, False, False, True, True]
    assert batch.used.tolist() == [True, False, False, True, True]
    assert batch.redshift.tolist() == [1, 1, 1, 2, 0]  # the median of the others, so that a grid is not sized by it
    assert "2 of 5 rows have no redshift and carry no weight; data.columns.redshift" in "\n".join(spectra.notes)


@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_threads_read_what_one_reads(tmp_path, layout):
    arrays = make_arrays(200)
    path = write(tmp_path / "s.h5", arrays, **LAYOUTS[layout])
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    requests = [np.random.default_rng(i).integers(0, 200, 16) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for rows, batch in zip(requests, pool.map(spectra.read, requests), strict=True):
            assert np.array_equal(batch.flux.numpy(), arrays["flux"][rows])


def _flux_sum_in_child(spectra, queue):
    queue.put(float(spectra.read(np.arange(len(spectra))).clean().flux.double().sum()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("layout", ["contiguous", "gzip"])
def test_no_handle_crosses_a_fork(tmp_path, layout):
    """A child that inherits an open HDF5 handle reads wrong data or dies; it must open its own."""
    arrays = make_arrays()
    spectra, batch = read_all(write(tmp_path / "s.h5", arrays, **LAYOUTS[layout]))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_flux_sum_in_child, args=(spectra, queue))
    child.start()
    assert spectra._files[0].library_file._file is None
    assert queue.get(timeout=600) == pytest.approx(float(batch.flux.double().sum()))
    child.join(600)
    assert child.exitcode == 0
    assert np.array_equal(spectra.read(np.arange(N)).clean().flux, batch.flux)


def test_a_closed_set_opens_again_when_read(tmp_path):
    spectra, batch = read_all(write(tmp_path / "s.h5", make_arrays(), **LAYOUTS["gzip"]))
    spectra.close()
    assert np.array_equal(spectra.read(np.arange(N)).clean().flux, batch.flux)


def test_a_sparse_file_larger_than_memory_opens_at_once(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("flux", "ivar"):
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((2_000_000, 7781))
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, properties)
        file["wavelength"] = np.linspace(3600, 9824, 7781)
        file["target_id"] = np.arange(2_000_000)
        file["redshift"] = np.ones(2_000_000)
    before_mib = private_memory_mib()
    spectra = open_spectra(SpectraSection(files=[str(tmp_path / "s.h5")]))
    batch = spectra.read(np.array([0, 1_999_999, 1_000_000]))
    assert batch.flux.shape == (3, 7781)
    # Ids, redshifts and whether there is one: 13 bytes a spectrum, and as much again while they are put together.
    assert private_memory_mib() - before_mib < 80


def test_the_multimodal_universe_reads_as_it_is(shared_data):
    """Its column names, padding and bool mask; the length differs between its healpix files."""
    columns = ColumnsSection(
        flux="spectrum_flux",
        ivar="spectrum_ivar",
        mask="spectrum_mask",
        wavelength="spectrum_lambda",
        target_id="object_id",
        redshift="Z",
    )
    pattern = str(shared_data / "desi_coadd/mmu_style/edr/*/*.hdf5")
    spectra = open_spectra(SpectraSection(files=[pattern], columns=columns))
    batch = spectra.read(np.arange(len(spectra))).clean()
    assert batch.used.any()
    assert batch.flux.isfinite().all()


# What a user gets to read when the file is wrong.


def change(arrays, **changes):
    return {name: values for name, values in (arrays | changes).items() if values is not None}


BACKWARDS = np.concatenate([np.linspace(3600, 5800, L // 2), np.linspace(5760, 9824, L - L // 2)])
WRONG_FILES = {
    "no flux": ({"flux": None, "spectrum_flux": np.ones((N, L))}, "set data.columns.flux: spectrum_flux"),
    "near name": ({"ivar": None, "ivars": np.ones((N, L))}, "ivar: is not in the file; set data.columns.ivar: ivars"),
    "no redshift": ({"redshift": None}, "redshift: is not in the file (without redshifts there is no rest frame"),
    "flux is a row": ({"flux": np.ones(L)}, "flux: has shape (120,); (spectra, pixels) is needed"),
    "ivar too short": ({"ivar": np.ones((N, L - 1))}, "ivar: has shape (40, 119), but flux (40, 120) asks for"),
    "ids too few": ({"target_id": np.arange(N - 1)}, "target_id: has shape (39,)"),
    "text as flux": ({"flux": np.full((N, L), b"x", "S1")}, "flux: holds |S1, not numbers"),
    "ids are fractions": ({"target_id": np.linspace(0, 1, N)}, "ids are integers or text"),
    "log wavelength": ({"wavelength": np.log10(np.linspace(3600, 9824, L))}, "looks like log10"),
    "arms": ({"wavelength": BACKWARDS}, "runs backwards after pixel 59 (5800.00 to 5760.00 AA)"),
    "no wavelength": ({"wavelength": np.full(L, -1.0)}, "holds 0 positive values"),
    "no spectra": (make_arrays(0), "no spectra in the file"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, name):
    changes, text = WRONG_FILES[name]
    path = write(tmp_path / "wrong.h5", change(make_arrays(), **changes))
    with pytest.raises(DataError) as caught:
        open_spectra(SpectraSection(files=[str(path)]))
    assert text in str(caught.value)
    assert "wrong.h5" in str(caught.value)


def test_a_wavelength_in_nanometres_is_refused(tmp_path):
    path = write(tmp_path / "s.h5", make_arrays())
    with h5py.File(path, "a") as file:
        file["wavelength"].attrs["units"] = "nm"
    with pytest.raises(DataError, match="is in 'nm', not in Angstrom"):
        open_spectra(SpectraSection(files=[str(path)]))


def test_all_wrong_files_are_named_at_once(tmp_path):
    write(tmp_path / "a.h5", make_arrays())
    (tmp_path / "b.h5").write_text("not HDF5")
    shutil.copy(tmp_path / "a.h5", tmp_path / "c.h5")
    with open(tmp_path / "c.h5", "r+b") as stream:
        stream.truncate(9000)
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(DataError) as caught:
        open_spectra(SpectraSection(files=["*.h5"]), base=tmp_path)
    text = str(caught.value)
    assert "b.h5: not an HDF5 file" in text
    assert "c.h5: truncated" in text
    assert "d.h5: is a directory" in text
    assert "a.h5" not in text


def test_missing_files_and_empty_patterns_are_all_named(tmp_path):
    with pytest.raises(DataError, match="no such file") as caught:
        open_spectra(SpectraSection(files=["none.h5", "no*.h5"]), base=tmp_path)
    assert "no file matches" in str(caught.value)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (make_arrays(num_pixels=100), "100 pixels, but"),
        (make_arrays() | {"wavelength": np.geomspace(3600, 9824, L)}, "another wavelength grid than"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_with_the_way_out(tmp_path, other, text):
    write(tmp_path / "a.h5", make_arrays())
    write(tmp_path / "b.h5", other)
    with pytest.raises(DataError, match="hpctrain ingest") as caught:
        open_spectra(SpectraSection(files=["*.h5"]), base=tmp_path)
    assert text in str(caught.value)


def test_a_damaged_chunk_is_an_error_and_not_a_wrong_row(tmp_path):
    path = write(tmp_path / "s.h5", make_arrays(), **LAYOUTS["checksummed"])
    with h5py.File(path) as file:
        chunk = file["flux"].id.get_chunk_info(2)
    with open(path, "r+b") as stream:
        stream.seek(chunk.byte_offset + 100)
        stream.write(b"damage")
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    spectra.read(np.array([0]))
    with pytest.raises(DataError, match="cannot be read"):
        spectra.read(np.array([11]))
