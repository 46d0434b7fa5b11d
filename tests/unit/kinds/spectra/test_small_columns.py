"""Columns of one number per spectrum: packed ones are read, damaged ones are named."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection

COLUMNS = {
    "target_id": np.arange(500),
    "redshift": np.linspace(0.1, 2, 500),
    "wavelength": np.linspace(3600, 9000, 500),
}


def write(path, packed, **options):
    with h5py.File(path, "w") as file:
        file["flux"] = file["ivar"] = np.ones((500, 500), "f4")
        for name, values in COLUMNS.items():
            file.create_dataset(name, data=values, **({"chunks": (500,), **options} if name == packed else {}))
    return SpectraSection(files=[str(path)])


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_packed_with_a_plugin_filter_is_read(tmp_path, name):
    spectra = open_spectra(write(tmp_path / "a.h5", name, **hdf5plugin.Zstd()))
    assert len(spectra) == 500


@pytest.mark.parametrize("name", COLUMNS)
def test_a_damaged_column_is_an_error_that_names_it(tmp_path, name):
    data = write(tmp_path / "a.h5", name, compression="gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        at = file[name].id.get_chunk_info(0).byte_offset
    with open(tmp_path / "a.h5", "r+b") as stream:
        stream.seek(at + 20)
        stream.write(b"\xff" * 40)
    with pytest.raises(DataError, match=f"a.h5: {name}: cannot be read"):
        open_spectra(data)
