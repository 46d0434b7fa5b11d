"""Rows of a compressed dataset: each chunk is decoded once, in threads, and kept while its rows are being used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, field

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.spectra.filters import DamagedChunkError, Pipeline
from hpctrain.spectra.mapped import MappedFile

_KEPT_BYTES = 64 * 2**20
"""Decoded rows that are kept where nobody has said how many will be needed."""


@dataclass(frozen=True)
class ChunkTable:
    """Where the chunks of an (N, L) dataset lie in the file. B bands of rows, C chunks side by side in each.

    Parameters
    ----------
    offset : ndarray, shape (B, C), int64
        First byte; -1 where a chunk was never written.
    num_bytes : ndarray, shape (B, C), int64
        As stored.
    skipped : ndarray, shape (B, C), int64
        Bit mask of filters left out.
    """

    offset: np.ndarray
    num_bytes: np.ndarray
    skipped: np.ndarray

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> ChunkTable:
        """Ask libhdf5 once.

        Raises
        ------
        DataError
            What it says cannot be: the index of the chunks is damaged.
        """
        shape = tuple(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        table = cls(np.full(shape, -1, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

        last = (-1,)

        def note(info: h5py.h5d.StoreInfo) -> None:
            nonlocal last
            # Every kind of index is walked in the order of the chunks. In the oldest, which has no checksum, a chunk
            # whose place was changed would otherwise hide another, or fill a hole.
            inside = all(at < size for at, size in zip(info.chunk_offset, dataset.shape, strict=True))
            aligned = not any(at % chunk for at, chunk in zip(info.chunk_offset, dataset.chunks, strict=True))
            if not (inside and aligned and info.chunk_offset > last):
                raise DataError(
                    f"{dataset.file.filename}: {dataset.name.lstrip('/')}: its index of chunks is damaged: after the "
                    f"one at {last} comes one at {info.chunk_offset}"
                )
            last = info.chunk_offset
            place = tuple(at // chunk for at, chunk in zip(info.chunk_offset, dataset.chunks, strict=True))
            table.offset[place], table.num_bytes[place] = info.byte_offset, info.size
            table.skipped[place] = info.filter_mask

        if hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        else:  # libhdf5 before 1.12.3
            for number in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(number))
        return table


@dataclass
class _Slot:
    """A place for one decoded band of rows."""

    number: int
    users: int = 0
    decoded: Future[None] = field(default_factory=Future)


class DecodedRows:
    """Rows of a dataset whose chunks have to be decoded.

    Parameters
    ----------
    file : MappedFile
    dataset : h5py.Dataset
        Open; not kept.
    pipeline : Pipeline
        Its filters.

    Attributes
    ----------
    band_rows : int
        Rows that are decoded together.
    """

    def __init__(self, file: MappedFile, dataset: h5py.Dataset, pipeline: Pipeline) -> None:
        self._file, self._name, self._pipeline = file, dataset.name, pipeline
        self._shape, self._dtype, self._chunks = dataset.shape, dataset.dtype, dataset.chunks
        self._fill = dataset.fillvalue
        self._table = ChunkTable.of(dataset)
        self.band_rows: int = dataset.chunks[0]
        self._change = threading.Condition()
        self._slots: OrderedDict[int, _Slot] = OrderedDict()  # by band, the longest unused first
        self._free: list[int] = []
        self.keep_rows(0)

    def keep_rows(self, num_rows: int) -> None:
        """Have room for so many decoded rows, and always for a few bands; forgets what is decoded.

        The memory is taken when it is first written to.
        """
        row_bytes = self._shape[1] * self._dtype.itemsize
        least = max(4, _KEPT_BYTES // (row_bytes * self.band_rows))
        self.num_slots = min(len(self._table.offset), max(least, -(-num_rows // self.band_rows)))
        self._arena = np.empty((self.num_slots * self.band_rows, self._shape[1]), self._dtype)
        with self._change:
            self._slots.clear()
            self._free = list(range(self.num_slots))

    def take(self, rows: np.ndarray, out: np.ndarray, pool: Executor | None) -> None:
        """Write rows, in any order, to `out`, shape (n, L), of the dataset's dtype.

        Raises
        ------
        DataError
            A chunk is damaged.
        """
        bands = rows // self.band_rows
        wanted = np.unique(bands)
        # More bands than there is room for are taken a few at a time.
        for start in range(0, len(wanted), self.num_slots):
            part = wanted[start : start + self.num_slots]
            everything = len(part) == len(wanted)
            places = slice(None) if everything else np.flatnonzero((bands >= part[0]) & (bands <= part[-1]))
            slots = self._hold(part.tolist(), pool)
            try:
                numbers = np.array([slot.number for slot in slots])
                found = numbers[np.searchsorted(part, bands[places])] * self.band_rows + rows[places] % self.band_rows
                if everything:
                    source = self._arena.view(np.uint8)
                    np.take(source, found, axis=0, out=out.view(np.uint8), mode="clip")
                else:
                    out[places] = self._arena[found]
            finally:
                self._release(slots)

    def prepare(self, rows: np.ndarray, pool: Executor) -> None:
        """Begin to decode what rows will need, as far as there is room that nobody uses."""
        bands = rows // self.band_rows
        _, first = np.unique(bands, return_index=True)
        with self._change:
            begun = [
                (band, slot)
                for band in bands[np.sort(first)].tolist()  # what is needed first is decoded first
                if band not in self._slots and (slot := self._new_slot(band)) is not None
            ]
        for band, slot in begun:
            pool.submit(self._decode, band, slot)

    def _hold(self, bands: list[int], pool: Executor | None) -> list[_Slot]:
        """Return the slots of decoded bands, none of which is given away until they are released."""
        with self._change:
            # All at once or none: threads that each held a part and waited for the rest would wait for ever.
            while not self._has_room_for(bands):
                self._change.wait()
            slots, mine = [], []
            for band in bands:
                slot = self._slots.get(band)
                if slot is not None:
                    self._slots.move_to_end(band)
                    slot.users += 1
                slots.append(slot)
            for place, band in enumerate(bands):
                if slots[place] is None:
                    slot = slots[place] = self._new_slot(band)
                    slot.users += 1
                    mine.append((band, slot))
        for band, slot in mine[1:]:
            if pool is None:
                self._decode(band, slot)
            else:
                pool.submit(self._decode, band, slot)
        for band, slot in mine[:1]:
            self._decode(band, slot)
        wait([slot.decoded for slot in slots])
        for slot in slots:
            if (error := slot.decoded.exception()) is not None:
                self._release(slots)
                raise error
        return slots

    def _release(self, slots: Iterable[_Slot]) -> None:
        with self._change:
            for slot in slots:
                slot.users -= 1
            self._change.notify_all()

    def _has_room_for(self, bands: list[int]) -> bool:
        needed = [band for band in bands if band not in self._slots]
        ours = set(bands)
        idle = sum(slot.users == 0 and slot.decoded.done() for band, slot in self._slots.items() if band not in ours)
        return len(needed) <= len(self._free) + idle

    def _new_slot(self, band: int) -> _Slot | None:
        """Return an empty slot for a band, that of the band which was not used for longest; None if all are in use."""
        if self._free:
            number = self._free.pop()
        else:
            idle = (old for old, slot in self._slots.items() if slot.users == 0 and slot.decoded.done())
            old = next(idle, None)
            if old is None:
                return None
            number = self._slots.pop(old).number
        slot = self._slots[band] = _Slot(number)
        return slot

    def _decode(self, band: int, slot: _Slot) -> None:
        """Fill a slot; an error is raised where the slot is asked for."""
        try:
            self._fill_slot(band, self._arena[slot.number * self.band_rows :][: self.band_rows])
        except BaseException as error:
            with self._change:  # a damaged chunk stays an error each time it is asked for, but holds no room
                if self._slots.get(band) is slot:
                    del self._slots[band]
                    self._free.append(slot.number)
            slot.decoded.set_exception(error)
        else:
            slot.decoded.set_result(None)
        with self._change:
            self._change.notify_all()

    def _fill_slot(self, band: int, rows: np.ndarray) -> None:
        height, width = self._chunks
        num_bytes = height * width * self._dtype.itemsize
        for column in range(self._table.offset.shape[1]):
            left = column * width
            target = rows[:, left : left + width]
            offset, stored_bytes = int(self._table.offset[band, column]), int(self._table.num_bytes[band, column])
            if offset < 0:
                target[...] = self._fill
                continue
            stored = self._file.read(offset, stored_bytes)
            try:
                if len(stored) < stored_bytes:
                    raise DamagedChunkError("the file ends within it; it is truncated")
                decoded = self._pipeline.decode(stored, num_bytes, int(self._table.skipped[band, column]))
            except DamagedChunkError as error:
                first = band * height
                last = min(first + height, self._shape[0]) - 1
                raise DataError(
                    f"{self._file.path}: {self._name}: rows {first} to {last} cannot be read: the chunk at byte "
                    f"{offset} is damaged: {error}"
                ) from None
            target[...] = decoded.view(self._dtype).reshape(height, width)[:, : target.shape[1]]
