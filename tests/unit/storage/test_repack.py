"""A repacked file holds the same spectra and everything else, or there is none."""

import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
from stored_spectra import LAYOUTS, NUM_SPECTRA, columns, write, write_scaled_integers

from hpctrain.errors import DataError, ProfileError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples.fingerprint import AS_WRITTEN, hash_dataset, stored_hashes
from hpctrain.storage import plan as plan_module
from hpctrain.storage.repack import repack
from hpctrain.storage.target import Target


def read(*paths):
    spectra = open_spectra(SpectraSection(files=[str(path) for path in paths]))
    return spectra, spectra.read(np.arange(len(spectra)))


def same_spectra(one, other):
    return all(
        np.array_equal(getattr(one, name).numpy(), getattr(other, name).numpy(), equal_nan=True)
        for name in ("flux", "ivar", "redshift", "target_id", "wavelength_aa")
    )


@pytest.fixture(params=[*LAYOUTS, "scaled-int16"])
def source(request, tmp_path):
    path = tmp_path / "in.h5"
    return write_scaled_integers(path) if request.param == "scaled-int16" else write(path, request.param)


TARGETS = {
    "contiguous": Target(),
    "chunked": Target(layout="chunked", chunk_rows=11),
    "gzip": Target(compression="gzip"),
    "bitshuffle": Target(compression="bitshuffle-lz4", chunk_rows=32),
}


@pytest.mark.parametrize("target", TARGETS)
def test_every_layout_becomes_every_other_without_a_bit_lost(source, tmp_path, target, monkeypatch):
    monkeypatch.setattr(plan_module, "BLOCK_BYTES", 4 * 130 * 20)  # several blocks even of so few rows
    done = repack([str(source)], tmp_path / "out.h5", TARGETS[target])
    before, after = read(source)[1], read(tmp_path / "out.h5")[1]
    assert same_spectra(before, after)
    assert done.num_spectra == NUM_SPECTRA
    assert done.num_verified == 8
    assert done.loss is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_default_is_what_the_reader_likes_best(source, tmp_path):
    repack([str(source)], tmp_path / "out.h5", Target())
    with h5py.File(tmp_path / "out.h5") as file, h5py.File(source) as old:
        for name in ("flux", "ivar"):
            assert file[name].chunks is None
            assert file[name].dtype == ("<f2" if old[name].dtype == "<f2" else "<f4")
            assert file[name].id.get_offset() % 4 == 0
    spectra = open_spectra(SpectraSection(files=[str(tmp_path / "out.h5")]))
    assert spectra._files[0].flux.way == "block"


def test_other_columns_groups_and_attributes_are_kept(tmp_path):
    repack([str(write(tmp_path / "in.h5"))], tmp_path / "out.h5", Target(compression="gzip"))
    with h5py.File(tmp_path / "in.h5") as old, h5py.File(tmp_path / "out.h5") as new:
        assert new.attrs["survey"] == "made up"
        assert new["photometry"].attrs["bands"].tolist() == ["g", "r", "z"]
        for name in columns():
            assert new[name].attrs["unit"] == old[name].attrs["unit"]
            assert np.array_equal(new[name][()], old[name][()])
            assert new[name].dtype.newbyteorder("=") == old[name].dtype.newbyteorder("=")
        assert new["photometry/magnitudes"].dtype == "<f4"


def test_scale_and_zero_point_do_not_count_twice(tmp_path):
    repack([str(write_scaled_integers(tmp_path / "in.h5"))], tmp_path / "out.h5", Target())
    with h5py.File(tmp_path / "out.h5") as file:
        assert not {"scale_factor", "add_offset", "_FillValue"} & set(file["flux"].attrs)
        assert file["flux"].attrs["source_dtype"] == "<i2"
        assert np.isnan(file["flux"][3, 4])


def test_columns_carry_their_hash_and_the_file_says_where_it_is_from(simulated_file, tmp_path):
    repack([str(simulated_file)], tmp_path / "out.h5", Target(compression="gzip"))
    stored = stored_hashes(tmp_path / "out.h5")
    assert stored.state == AS_WRITTEN
    assert stored.columns == stored_hashes(simulated_file).columns
    with h5py.File(tmp_path / "out.h5") as file:
        facts = json.loads(file.attrs["repacked"])
        assert all(hash_dataset(file[name]) == value for name, value in stored.columns.items())
    assert facts["sources"][0]["path"] == str(simulated_file)
    assert facts["sources"][0]["sha256"] == stored.columns
    assert facts["target"]["compression"] == "gzip"


def test_quantised_files_are_small_close_and_say_how(tmp_path, simulated_file):
    done = repack([str(simulated_file)], tmp_path / "out.h5", Target(quantise=True))
    assert done.loss["flux_rms_sigma"] <= 0.03
    assert done.loss["flux_max_sigma"] <= 0.0627
    assert done.out_bytes * 3 < simulated_file.stat().st_size
    with h5py.File(tmp_path / "out.h5") as file:
        assert "sigma / 8" in file["flux"].attrs["quantised"]
        assert file["flux"].attrs["source_sha256"] == stored_hashes(simulated_file).columns["flux"]
        assert json.loads(file.attrs["repacked"])["target"]["quantise"]["ivar_mantissa_bits"] == 8
    before, after = read(simulated_file)[1], read(tmp_path / "out.h5")[1]
    assert np.array_equal(before.ivar.numpy() > 0, after.ivar.numpy() > 0)
    pull = ((after.flux - before.flux) * before.ivar.sqrt()).numpy()[before.ivar.numpy() > 0]
    assert np.sqrt((pull.astype(float) ** 2).mean()) == pytest.approx(done.loss["flux_rms_sigma"], rel=1e-3)


def test_half_precision_tells_what_it_cost_and_refuses_what_does_not_fit(tmp_path):
    source = write(tmp_path / "in.h5")
    done = repack([str(source)], tmp_path / "half.h5", Target(dtype="float16"))
    assert 0 < done.loss["flux_rms_sigma"] < 0.1
    assert read(tmp_path / "half.h5")[1].flux.numpy().dtype == np.float16
    with h5py.File(source, "r+") as file:
        file["flux"][5, 5], file["ivar"][5, 5] = 1e6, 1.0
    with pytest.raises(DataError, match="1 values are too large for float16"):
        repack([str(source)], tmp_path / "other.h5", Target(dtype="float16"))
    with h5py.File(source, "r+") as file:
        file["flux"][5, 5] = 1
        file["ivar"][...] = 1e-12
    with pytest.raises(DataError, match="lose their weight"):
        repack([str(source)], tmp_path / "other.h5", Target(dtype="float16"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.h5", "in.h5"]


def test_several_files_become_one(tmp_path):
    paths = [write(tmp_path / f"{seed}.h5", **columns(60 + seed, seed=seed)) for seed in range(3)]
    with h5py.File(paths[1], "r+") as file:
        file.attrs["survey"] = "another one"
        file["tables/only here"] = [1, 2, 3]
    repack([str(tmp_path / "[0-9].h5")], tmp_path / "out.h5", Target(chunk_rows=64, compression="gzip"))
    assert same_spectra(read(*paths)[1], read(tmp_path / "out.h5")[1])
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["note"][61].decode() == "spectrum é 1"
        assert file["inputs/1/tables/only here"][:].tolist() == [1, 2, 3]
        assert [file[f"inputs/{number}"].attrs["survey"] for number in (0, 1)] == ["made up", "another one"]
        assert "survey" not in file.attrs


def test_the_files_that_rows_came_from_are_counted_on(tmp_path):
    for number in range(2):
        path = write(tmp_path / f"{number}.h5", source_file=np.array([0, 1, -1] * 30, "i4"))
        with h5py.File(path, "r+") as file:
            names = [f"{number}-first.fits", f"{number}-second.fits"]
            file.create_dataset("provenance/source_files", data=names, dtype=h5py.string_dtype())
    repack([str(tmp_path / "?.h5")], tmp_path / "out.h5", Target())
    with h5py.File(tmp_path / "out.h5") as file:
        names = file["provenance/source_files"].asstr()[:].tolist()
        assert names == ["0-first.fits", "0-second.fits", "1-first.fits", "1-second.fits"]
        assert file["source_file"][[0, 1, 2, 90, 91, 92]].tolist() == [0, 1, -1, 2, 3, -1]


def test_files_that_are_no_set_are_refused_and_all_are_named(tmp_path):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", wavelength=np.linspace(3000, 9000, 130))
    write(tmp_path / "c.h5", **columns(num_pixels=64))
    with pytest.raises(DataError) as caught:
        repack([str(tmp_path / "?.h5")], tmp_path / "out.h5", Target())
    assert "b.h5: another wavelength grid" in str(caught.value)
    assert "c.h5: 64 pixels" in str(caught.value)


def test_a_column_that_some_files_lack_is_refused_or_dropped(tmp_path):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", spectype=None, note=np.arange(90))
    with pytest.raises(DataError) as caught:
        repack([str(tmp_path / "?.h5")], tmp_path / "out.h5", Target())
    assert "b.h5: has no spectype" in str(caught.value)
    assert "--drop note" in str(caught.value)
    repack([str(tmp_path / "?.h5")], tmp_path / "out.h5", Target(), drop=["spectype", "note"])
    with h5py.File(tmp_path / "out.h5") as file:
        assert not {"spectype", "note"} & set(file)
    with pytest.raises(ProfileError, match=r"flux is read by the trainer\n.*no input has nothing"):
        repack([str(tmp_path / "a.h5")], tmp_path / "other.h5", Target(), drop=["flux", "nothing"])


def test_a_grid_that_is_repeated_in_each_row_is_stored_once(tmp_path):
    grid = np.linspace(3600, 9824, 130)
    write(tmp_path / "in.h5", wavelength=np.tile(grid, (90, 1)).astype(">f8"))
    done = repack([str(tmp_path / "in.h5")], tmp_path / "out.h5", Target())
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["wavelength"][:], grid)
    assert any("stored once" in note for note in done.notes)


def test_grids_that_differ_between_rows_are_kept_for_each(tmp_path):
    grids = np.linspace(3600, 9824, 130) + np.arange(90)[:, None]
    write(tmp_path / "in.h5", wavelength=grids)
    repack([str(tmp_path / "in.h5")], tmp_path / "out.h5", Target(compression="gzip"))
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["wavelength"][:], grids)
    assert same_spectra(read(tmp_path / "in.h5")[1], read(tmp_path / "out.h5")[1])


def test_names_of_another_survey_are_recognised_and_kept(tmp_path):
    write(tmp_path / "in.h5")
    with h5py.File(tmp_path / "in.h5", "r+") as file:
        for ours, theirs in (("flux", "spectrum_flux"), ("ivar", "spectrum_ivar"), ("wavelength", "spectrum_lambda")):
            file.move(ours, theirs)
        file.move("redshift", "my redshift")
    done = repack([str(tmp_path / "in.h5")], tmp_path / "out.h5", Target(), columns={"redshift": "my redshift"})
    assert "data.columns: {flux: spectrum_flux" in done.notes[0]
    with h5py.File(tmp_path / "out.h5") as file:
        assert {"spectrum_flux", "spectrum_ivar", "spectrum_lambda", "my redshift"} <= set(file)


def test_a_link_becomes_the_column_itself(tmp_path):
    write(tmp_path / "in.h5")
    with h5py.File(tmp_path / "in.h5", "r+") as file:
        file.move("flux", "data/values")
        file["flux"] = h5py.SoftLink("/data/values")
    repack([str(tmp_path / "in.h5")], tmp_path / "out.h5", Target())
    assert same_spectra(read(tmp_path / "in.h5")[1], read(tmp_path / "out.h5")[1])


def test_a_file_can_be_replaced_by_its_own_repacking(tmp_path):
    source = write(tmp_path / "in.h5", "gzip-shuffle")
    shutil.copy(source, tmp_path / "before.h5")
    with pytest.raises(DataError, match="exists already"):
        repack([str(source)], source, Target())
    repack([str(source)], source, Target(), overwrite=True)
    assert same_spectra(read(tmp_path / "before.h5")[1], read(source)[1])
    with h5py.File(source) as file:
        assert file["flux"].chunks is None


def test_a_damaged_chunk_is_named_and_nothing_is_written(tmp_path):
    source = write(tmp_path / "in.h5", "gzip-shuffle")
    with h5py.File(source) as file:
        at = file["flux"].id.get_chunk_info(3).byte_offset
    with open(source, "r+b") as stream:
        stream.seek(at + 100)
        stream.write(b"\xff" * 60)
    with pytest.raises(DataError, match=r"flux: rows 48 to 63 cannot be read"):
        repack([str(source)], tmp_path / "out.h5", Target())
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


def test_a_source_that_is_not_what_its_hash_says_is_refused(simulated_file, tmp_path):
    source = shutil.copy2(simulated_file, tmp_path / "in.h5")
    with h5py.File(source) as file:
        at = file["flux"].id.get_offset()
    with open(source, "r+b") as stream:  # a flipped bit, as a disk does it: the time stays what it was
        stream.seek(at + 12345)
        byte = stream.read(1)[0]
        stream.seek(at + 12345)
        stream.write(bytes([byte ^ 4]))
    with pytest.raises(DataError, match="flux differs from the SHA-256 in the file"):
        repack([str(source)], tmp_path / "out.h5", Target())
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
    repack([str(source)], tmp_path / "out.h5", Target(), ignore_hashes=True)


def test_what_a_killed_process_left_is_removed(tmp_path):
    source = write(tmp_path / "in.h5")
    child = subprocess.Popen(["true"])
    child.wait()
    host = os.uname().nodename
    gone = tmp_path / f".out.h5.{host}.{child.pid}.repack"
    elsewhere = tmp_path / ".out.h5.another-host.1.repack"
    for path in (gone, elsewhere):
        path.write_bytes(b"half a file")
    done = repack([str(source)], tmp_path / "out.h5", Target())
    assert not gone.exists()
    assert elsewhere.exists()
    assert len([note for note in done.notes if "repack: left by" in note]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "contiguous", "compression": "gzip"}, "gzip needs chunks"),
        ({"layout": "contiguous", "chunk_rows": 4}, "has no chunks"),
        ({"chunk_rows": 0}, "a chunk holds at least one spectrum"),
        ({"quantise": True, "dtype": "float16"}, "is for float32"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ProfileError, match=message):
        Target(**options)


@pytest.fixture
def small_disk(make_disk):
    return make_disk(512)


@pytest.mark.parametrize("compression", ["none", "gzip", "bitshuffle-lz4"])
def test_a_full_disk_is_a_clear_error_and_leaves_the_disk_as_it_was(tmp_path, small_disk, compression):
    random = np.random.default_rng(5)
    noise = {name: random.random((900, 200)).astype("f4") for name in ("flux", "ivar")}
    source = write(tmp_path / "in.h5", **(columns(900, 200) | noise))
    (small_disk / "kept").write_bytes(b"old")
    with pytest.raises(DataError, match="nothing was") as caught:
        repack([str(source)], small_disk / "out.h5", Target(compression=compression))
    assert ("No space left on device" if compression != "none" else "GB free") in str(caught.value)
    assert [path.name for path in small_disk.iterdir()] == ["kept"]
    assert os.statvfs(small_disk).f_bavail * 4096 > 450_000
