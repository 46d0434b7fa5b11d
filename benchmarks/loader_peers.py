"""Other loaders of shuffled spectra; the comparison skips those whose packages are not installed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch


@dataclass(frozen=True)
class Reader:
    """A loader for the comparison.

    Parameters
    ----------
    read : callable
        Takes the epoch, the number of batches to skip, and the result of `state_at`, and yields batches.
    state_at : callable, optional
        Returns the state that a program would have saved after a number of batches of epoch 0; for loaders that cannot
        compute a position.
    resumes : bool
        Whether it can skip batches without reading them.
    """

    read: Callable[..., Iterator[object]]
    state_at: Callable[[int], Any] | None = None
    resumes: bool = True

    def __call__(self, epoch: int, first: int = 0, state: Any = None) -> Iterator[object]:
        """Yield the batches of an epoch, from the batch `first` on."""
        if self.resumes:
            return self.read(epoch, first, state)
        return itertools.islice(self.read(epoch), first, None)


Factory = Callable[[], Reader]
"""Opens files before the first epoch."""


class SampleDataset(torch.utils.data.Dataset):
    """The usual dataset, which opens the file in the worker and reads one spectrum at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None
        with h5py.File(path) as file:
            self.length = len(file["flux"])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.file is None:
            self.file = h5py.File(self.path)
        return self.file["flux"][index], self.file["ivar"][index]


def readers(files: dict[str, Path], batch_size: int) -> dict[str, Factory]:
    """Return the other loaders that can run here, by name."""
    path = files["contiguous"]
    found: dict[str, Factory] = {
        "contiguous: h5py, a batch by a list of rows": lambda: _by_list(path, batch_size),
        "contiguous: h5py a sample at a time, DataLoader": lambda: _by_sample(path, batch_size, 0),
        "contiguous: the same with 2 worker processes": lambda: _by_sample(path, batch_size, 2),
        "TensorDataset in memory, DataLoader": lambda: _tensors(path, batch_size),
    }
    if "gzip-4" in files:
        found["gzip-4: h5py a sample at a time, DataLoader"] = lambda: _by_sample(files["gzip-4"], batch_size, 0)
    for package, make in PEERS.items():
        if importlib.util.find_spec(package) is not None:
            folder = path.parent / f"peer-{package}-{path.stem}"
            found[package] = lambda make=make, folder=folder: make(path, folder, batch_size)
    return found


def _by_list(path: Path, batch_size: int) -> Reader:
    def read(epoch: int, first: int, _state: object) -> Iterator[object]:
        with h5py.File(path) as file:
            for rows in _sorted_batches(epoch, len(file["flux"]), batch_size, first):
                yield file["flux"][rows], file["ivar"][rows]

    return Reader(read)


def _sorted_batches(epoch: int, count: int, batch_size: int, first: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(epoch).permutation(count)
    for start in range(first * batch_size, count - batch_size + 1, batch_size):
        yield np.sort(order[start : start + batch_size])


def _by_sample(path: Path, batch_size: int, workers: int) -> Reader:
    def read(epoch: int) -> Iterator[object]:
        generator = torch.Generator().manual_seed(epoch)
        dataset = SampleDataset(path)
        yield from torch.utils.data.DataLoader(
            dataset, batch_size=batch_size, shuffle=True, generator=generator, num_workers=workers
        )

    return Reader(read, resumes=False)


def _tensors(path: Path, batch_size: int) -> Reader:
    with h5py.File(path) as file:
        dataset = torch.utils.data.TensorDataset(*(torch.from_numpy(file[name][...]) for name in ("flux", "ivar")))

    def read(epoch: int) -> Iterator[object]:
        generator = torch.Generator().manual_seed(epoch)
        yield from torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, generator=generator)

    return Reader(read, resumes=False)


def _rows(path: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    with h5py.File(path) as file:
        for start in range(0, len(file["flux"]), 256):
            flux, ivar = file["flux"][start : start + 256], file["ivar"][start : start + 256]
            yield from zip(range(start, start + len(flux)), flux, ivar, strict=True)


def _webdataset(path: Path, folder: Path, batch_size: int) -> Reader:
    import webdataset

    if not folder.exists():
        folder.mkdir()
        with webdataset.ShardWriter(f"{folder}/%03d.tar", maxcount=2048, verbose=0) as writer:
            for row, flux, ivar in _rows(path):
                writer.write({"__key__": f"{row:09d}", "flux.npy": flux, "ivar.npy": ivar})

    def read(epoch: int) -> Iterator[object]:
        shards = sorted(str(shard) for shard in folder.glob("*.tar"))
        pipe = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=epoch).shuffle(2048).decode()
        yield from pipe.to_tuple("flux.npy", "ivar.npy").batched(batch_size)

    return Reader(read, resumes=False)


def _zarr(path: Path, folder: Path, batch_size: int) -> Reader:
    import zarr

    if not folder.exists():
        with h5py.File(path) as file:
            group = zarr.open_group(str(folder), mode="w")
            for name in ("flux", "ivar"):
                values = file[name][...]
                group.create_array(name, data=values, chunks=(64, values.shape[1]), compressors=None)

    def read(epoch: int, first: int, _state: object) -> Iterator[object]:
        group = zarr.open_group(str(folder), mode="r")
        for rows in _sorted_batches(epoch, group["flux"].shape[0], batch_size, first):
            yield group["flux"].oindex[rows], group["ivar"].oindex[rows]

    return Reader(read)


def _datasets(path: Path, folder: Path, batch_size: int) -> Reader:
    import datasets

    datasets.disable_progress_bars()
    if not folder.exists():
        rows = datasets.Dataset.from_generator(
            lambda: ({"flux": flux, "ivar": ivar} for _, flux, ivar in _rows(path)), cache_dir=f"{folder}-cache"
        )
        rows.save_to_disk(str(folder))

    def read(epoch: int, first: int, _state: object) -> Iterator[object]:
        rows = datasets.load_from_disk(str(folder)).with_format("numpy").shuffle(seed=epoch)
        yield from rows.select(range(first * batch_size, len(rows))).iter(batch_size)

    return Reader(read)


def _litdata(path: Path, folder: Path, batch_size: int) -> Reader:
    import litdata
    from litdata.streaming.writer import BinaryWriter

    if not (folder / "index.json").exists():
        folder.mkdir(exist_ok=True)
        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for row, flux, ivar in _rows(path):
            writer.add_item(row, {"flux": torch.from_numpy(flux), "ivar": torch.from_numpy(ivar)})
        writer.done()
        writer.merge()

    def loader(epoch: int) -> Any:
        dataset = litdata.StreamingDataset(str(folder), shuffle=True, seed=epoch)
        return litdata.StreamingDataLoader(dataset, batch_size=batch_size)

    return _stateful(loader)


def _streaming(path: Path, folder: Path, batch_size: int) -> Reader:
    import streaming

    num_pixels = next(_rows(path))[1].size
    if not folder.exists():
        columns = dict.fromkeys(("flux", "ivar"), f"ndarray:float32:{num_pixels}")
        with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
            for _, flux, ivar in _rows(path):
                writer.write({"flux": flux, "ivar": ivar})

    def loader(epoch: int) -> Any:
        streaming.base.util.clean_stale_shared_memory()
        dataset = streaming.StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=epoch, batch_size=batch_size)
        return streaming.StreamingDataLoader(dataset, batch_size=batch_size)

    return _stateful(loader)


def _stateful(loader: Callable[[int], Any]) -> Reader:
    """Return the reader of a loader that has ``state_dict``."""

    def read(epoch: int, _first: int, state: Any) -> Iterator[object]:
        batches = loader(epoch)
        if state is not None:
            batches.load_state_dict(state)
        yield from batches

    def state_at(first: int) -> Any:
        batches = loader(0)
        for _ in zip(range(first), batches, strict=False):
            pass
        return batches.state_dict()

    return Reader(read, state_at)


def _ffcv(path: Path, folder: Path, batch_size: int) -> Reader:
    from ffcv.fields import NDArrayField
    from ffcv.fields.ndarray import NDArrayDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
    from ffcv.writer import DatasetWriter

    file = folder.with_suffix(".beton")
    if not file.exists():
        num_pixels = next(_rows(path))[1].size
        fields = {name: NDArrayField(np.dtype("float32"), (num_pixels,)) for name in ("flux", "ivar")}
        DatasetWriter(str(file), fields, num_workers=1).from_indexed_dataset(SampleDataset(path))
    # Keep the loader for all epochs, because it compiles its pipeline when it is created.
    batches = Loader(
        str(file),
        batch_size=batch_size,
        num_workers=2,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines={name: [NDArrayDecoder(), ToTensor()] for name in ("flux", "ivar")},
    )
    return Reader(lambda _epoch: iter(batches), resumes=False)


PEERS: dict[str, Callable[[Path, Path, int], Reader]] = {
    "ffcv": _ffcv,
    "webdataset": _webdataset,
    "zarr": _zarr,
    "datasets": _datasets,
    "litdata": _litdata,
    "streaming": _streaming,
}
"""Other loaders by the name of the package that they import."""
