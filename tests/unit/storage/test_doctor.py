"""The doctor knows each layout by what it costs, counts what is wrong, and never says what it did not measure."""

import json
import math
import os
import stat

import h5py
import numpy as np
import pytest
from stored_spectra import LAYOUTS, columns, write, write_scaled_integers

from hpctrain.errors import DataError
from hpctrain.storage import doctor, speed
from hpctrain.storage.doctor import examine
from hpctrain.storage.filesystem import FileSystem, file_system_of
from hpctrain.storage.findings import find
from hpctrain.storage.layout import ColumnLayout
from hpctrain.storage.show import as_text
from hpctrain.storage.speed import Speed

REASONS = {
    "contiguous": set(),
    "chunked": {"split-spectra"},
    "whole-rows": set(),
    "gzip-shuffle": {"slow-filter"},
    "bitshuffle": {"compressed"},
    "scale-offset": {"filter-missing"},
    "big-endian": {"conversion"},
    "float64": {"conversion"},
    "float16": set(),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(speed, "LIMIT_S", 0.05)


def codes(found):
    return {finding.code for finding in found.findings}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_has_its_reasons(tmp_path, layout):
    found = examine([str(write(tmp_path / "in.h5", layout))], {})
    assert codes(found) == REASONS[layout]
    assert all(found.speeds[name].spectra_per_s > 0 for name in ("rows_cold", "rows_warm"))
    assert all(found.speeds[name].bytes_per_s > 0 for name in ("disk", "memory_copy"))
    assert ("decoding" in found.speeds) == (layout in ("gzip-shuffle", "bitshuffle"))
    assert any("data repack" in line for line in found.advice) == bool(REASONS[layout] - {"filter-missing"})
    assert "(estimate)" in as_text(found)


def test_it_is_said_whether_the_spectra_can_be_right(tmp_path):
    good = examine([str(write(tmp_path / "good.h5"))], {})
    assert good.exit_code == 0
    assert good.inspection.num_inspected == 90
    assert f"{90 - good.inspection.num_rejected} would be trained on" in as_text(good)
    nanometres = examine([str(write(tmp_path / "nm.h5", wavelength=np.linspace(360, 982.4, 130)))], {})
    assert nanometres.exit_code == 4
    assert "ERROR: All 90 inspected spectra are rejected" in as_text(nanometres)
    assert "this looks like nanometres. Multiply the wavelengths by 10" in as_text(nanometres)
    json.dumps(nanometres.as_dict())


def test_scaled_integers_are_converted(tmp_path):
    found = examine([str(write_scaled_integers(tmp_path / "in.h5"))], {})
    assert "int16 with a scale" in found.findings[0].text
    assert found.findings[0].text.startswith("flux, ivar: ")


def test_a_grid_in_each_row_is_told_from_one_that_is_repeated(tmp_path):
    grid = np.linspace(3600, 9824, 130)
    repeated = examine([str(write(tmp_path / "a.h5", wavelength=np.tile(grid, (90, 1))))], {})
    assert codes(repeated) == {"wavelength-repeated"}
    own = examine([str(write(tmp_path / "b.h5", wavelength=grid + np.arange(90)[:, None]))], {})
    assert codes(own) == {"wavelength-per-row"}
    assert "hpctrain ingest" in own.advice[0]


def test_a_virtual_dataset_is_read_through_libhdf5(tmp_path):
    write(tmp_path / "parts.h5")
    write(tmp_path / "whole.h5")
    layout = h5py.VirtualLayout(shape=(90, 130), dtype="f4")
    layout[:] = h5py.VirtualSource(tmp_path / "parts.h5", "flux", shape=(90, 130))
    with h5py.File(tmp_path / "whole.h5", "r+") as file:
        del file["flux"]
        file.create_virtual_dataset("flux", layout)
    found = examine([str(tmp_path / "whole.h5")], {})
    assert codes(found) == {"virtual"}


def column(**changes):
    facts = {
        "role": "flux",
        "name": "flux",
        "dtype": "<f4",
        "shape": (100_000, 1000),
        "chunks": None,
        "filters": (),
        "missing_filter": None,
        "offset": 4096,
        "stored_bytes": 400_000_000,
        "way": "block",
        "scaled": False,
        "special": None,
    }
    return ColumnLayout(**(facts | changes))


LOCAL = FileSystem("ext4", "local", "/")


def reasons_of(tmp_path, layout, system=LOCAL, num_bytes=10**9, num_files=1):
    paths = [tmp_path / f"{number}.h5" for number in range(num_files)]
    found = find(
        {path: [layout] for path in paths}, dict.fromkeys(paths, system), dict.fromkeys(paths, num_bytes), True
    )
    return {finding.code: finding for finding in found}


def test_chunks_that_hold_more_than_a_shuffle_window_are_named(tmp_path):
    packed = column(chunks=(5000, 1000), filters=("bitshuffle",), way="decoded")
    assert set(reasons_of(tmp_path, packed)) == {"chunk-above-window", "compressed"}
    large = column(chunks=(4000, 10_000), shape=(9000, 10_000), filters=("bitshuffle",), way="decoded")
    assert "160 MB" in reasons_of(tmp_path, large)["large-chunks"].text


def test_an_odd_place_is_named(tmp_path):
    assert set(reasons_of(tmp_path, column(offset=4098))) == {"unaligned"}


def test_many_small_files_are_named(tmp_path):
    assert reasons_of(tmp_path, column(), num_bytes=10**6, num_files=40)["many-small-files"].num_files == 40
    assert "many-small-files" not in reasons_of(tmp_path, column(), num_bytes=10**9, num_files=40)


def test_network_disks_and_few_stripes_are_named(tmp_path):
    nfs = reasons_of(tmp_path, column(), FileSystem("nfs4", "network", "/home"))
    assert nfs["network-disk"].helped_by == "stage"
    lustre = FileSystem("lustre", "parallel", "/scratch", stripe_count=1, stripe_bytes=2**20)
    few = reasons_of(tmp_path, column(), lustre, num_bytes=50 * 10**9)["few-stripes"]
    assert "better on about 24" in few.text
    assert not reasons_of(tmp_path, column(), lustre, num_bytes=10**8)


def test_the_file_system_is_the_innermost_one_that_is_mounted(tmp_path):
    mounts = tmp_path / "mounts"
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nfs {escaped} gpfs rw 0 0\nbad line\n")
    assert str(file_system_of(inner / "f", mounts)) == "gpfs (parallel)"
    assert file_system_of(tmp_path / "f", mounts) == FileSystem("nfs4", "network", str(tmp_path))
    assert file_system_of(tmp_path.parent / "f", mounts).type == "ext4"
    assert file_system_of(inner, tmp_path / "absent").type == "unknown"


def test_lustre_is_asked_how_it_spread_the_file(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server@tcp:/fs {tmp_path} lustre rw 0 0\n")
    lfs = tmp_path / "bin" / "lfs"
    lfs.parent.mkdir()
    lfs.write_text('#!/bin/sh\n[ "$1" = getstripe ] || exit 1\n[ "$2" = --stripe-count ] && echo 4 || echo 1048576\n')
    lfs.chmod(lfs.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{lfs.parent}:{os.environ['PATH']}")
    found = file_system_of(tmp_path / "in.h5", mounts)
    assert (found.stripe_count, found.stripe_bytes) == (4, 1048576)
    assert str(found) == "lustre (parallel, 4 stripes)"
    lfs.write_text("#!/bin/sh\nexit 2\n")
    assert file_system_of(tmp_path / "in.h5", mounts).stripe_count is None


def spoiled(tmp_path):
    arrays = columns()
    arrays["flux"][0, :3] = np.nan
    arrays["flux"][1, 5] = np.inf
    arrays["ivar"][0, :4] = [1, 0, np.nan, -2]
    arrays["ivar"][1, 5:7] = [1, np.inf]
    arrays["ivar"][7] = 0
    arrays["redshift"][[3, 4]] = [np.nan, -9999]
    arrays["target_id"][:3] = 5
    return write(tmp_path / "in.h5", **arrays)


@pytest.mark.parametrize("full", [False, True])
def test_what_is_wrong_with_the_values_is_counted(tmp_path, full):
    counts = examine([str(spoiled(tmp_path))], {}, full=full).values
    assert counts.num_rows == 90
    assert (counts.flux_nan, counts.flux_infinite) == (3, 1)
    assert (counts.ivar_nan, counts.ivar_infinite, counts.ivar_negative) == (1, 1, 1)
    assert counts.flux_bad_with_weight == 2
    assert counts.rows_without_weight == 1
    assert counts.rows_without_redshift == 2
    assert counts.rows_of_repeated_targets == 4
    assert counts.num_targets == 87


def test_a_sample_says_that_it_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("hpctrain.storage.values.SAMPLE_ROWS", 32)
    found = examine([str(write(tmp_path / "in.h5"))], {})
    assert 16 <= found.values.num_rows <= 48
    assert "of 90 rows; --full reads all" in as_text(found)


def test_a_mask_takes_weight_away(tmp_path):
    mask = np.zeros((90, 130), "u1")
    mask[4] = 1
    arrays = columns()
    arrays["ivar"][...] = 1
    counts = examine([str(write(tmp_path / "in.h5", **arrays, mask=mask))], {}).values
    assert counts.num_masked == 130
    assert counts.rows_without_weight == 1


def test_all_damaged_chunks_are_named_at_once(tmp_path):
    source = write(tmp_path / "in.h5", "gzip-shuffle")
    with h5py.File(source) as file:
        places = [file[name].id.get_chunk_info(2).byte_offset for name in ("flux", "ivar")]
        places.append(file["flux"].id.get_chunk_info(4).byte_offset)
    with open(source, "r+b") as stream:
        for place in places:
            stream.seek(place + 50)
            stream.write(b"\0" * 60)
    with pytest.raises(DataError) as caught:
        examine([str(source)], {}, full=True)
    assert "rows 32 to 47" in str(caught.value)
    assert "rows 64 to 79" in str(caught.value)
    assert str(caught.value).count("ivar: rows 32 to 47") == 1


def test_json_holds_all_figures_and_no_nan(tmp_path):
    found = examine([str(write(tmp_path / "in.h5", "gzip-shuffle"))], {}, full=True)
    found.speeds["disk"] = Speed(1e9, cached=math.nan)
    facts = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert facts["speeds"]["disk"]["cached"] is None
    assert len(facts["speeds"]["rows_warm"]["num_a100_estimate"]) == 2
    assert facts["verdicts"][0]["state"] == "not hashed"


def test_fewer_pixels_feed_more_gpus_with_as_many_spectra(tmp_path):
    found = examine([str(write(tmp_path / "in.h5"))], {})
    least, most = found.num_a100(Speed(1e9, spectra_per_s=15_000 * doctor.A100_PIXELS / 130))
    assert (least, most) == (pytest.approx(1), pytest.approx(3))


def test_memory_is_told_with_the_decoded_windows(tmp_path):
    plain = examine([str(write(tmp_path / "a.h5"))], {}).memory
    packed = examine([str(write(tmp_path / "b.h5", "bitshuffle"))], {}).memory
    assert plain["window"] == 0
    assert packed["window"] == 90 * 130 * 8
    assert plain["ring"] == packed["ring"] == 7 * 128 * 130 * 8
