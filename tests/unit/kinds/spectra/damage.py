"""Files of spectra damaged at random, read in a process of its own that may die of it.

``python damage.py --count 10000`` tries that many by hand, and says what came of them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

WHOLE = ".whole"
"""Suffix of the file as it was before it was damaged."""

HERE = Path(__file__).resolve()

ALLOWED = ("same rows", "rows as written", "refused")
"""What may come of a damaged file: the rows that h5py reads or that were written before, or a DataError."""

ABSENT_PEER = "h5py died"
"""The rows could not be compared, as libhdf5 does not survive the file."""


def damage(draw: random.Random, content: bytes, chunks: list[tuple[int, int]]) -> bytes:
    """Return the content of a file with one thing wrong in it.

    Parameters
    ----------
    draw : Random
    content : bytes
    chunks : list of (offset, size)
        Where its compressed chunks lie; half of the damages hit the beginning of one, where decoders read sizes.
    """
    data = bytearray(content)
    where = draw.choice(["anywhere", "chunk", "head of a chunk"])
    begin, size = 0, len(data)
    if where != "anywhere" and chunks:
        begin, size = draw.choice(chunks)
        if where == "head of a chunk":
            size = min(size, 32)
    place = begin + draw.randrange(max(1, size))
    kind = draw.choice(["flip", "flip", "bytes", "zeros", "number", "cut", "copy"])
    if kind == "flip":
        for _ in range(draw.choice([1, 1, 2, 8])):
            data[begin + draw.randrange(max(1, size))] ^= 1 << draw.randrange(8)
    elif kind == "bytes":
        data[place : place + draw.randint(1, 16)] = draw.randbytes(draw.randint(1, 16))
    elif kind == "zeros":
        length = draw.choice([1, 8, 64, 512])
        data[place : place + length] = bytes(min(length, len(data) - place))
    elif kind == "number":  # what a size or an offset may be made to be
        number = draw.choice([0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, draw.randrange(2**32)])
        data[place : place + 4] = number.to_bytes(4, draw.choice(["little", "big"]))
    elif kind == "cut":
        del data[draw.randrange(len(data)) :]
    else:
        source = draw.randrange(len(data))
        data[place : place + 64] = data[source : source + 64]
    return bytes(data)


def chunks_of(path: Path) -> list[tuple[int, int]]:
    """Return offset and size of every chunk of flux and ivar."""
    found = []
    with h5py.File(path) as file:
        for dataset in file.values():
            if dataset.ndim == 2 and dataset.chunks:
                infos = [dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks())]
                found += [(info.byte_offset, info.size) for info in infos]
    return found


class Reader:
    """A process that reads files with hpctrain and with h5py; a new one when it has died or a test has ended it.

    Parameters
    ----------
    limit_s : float
        For one file; longer is a hang.
    columns : dict
        ``data.columns``.
    """

    def __init__(self, limit_s: float = 60.0, columns: dict[str, str] | None = None, **environment: str) -> None:
        self._limit_s, self._columns, self._environment = limit_s, columns or {}, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; one that runs before a test begins serves all tests, and none of them ends it."""
        command = [sys.executable, str(HERE), "--serve", json.dumps(self._columns)]
        self._process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment or None
        )

    def read(self, path: Path) -> tuple[str, str]:
        """Return what came of a file and the message, if there was one."""
        if self._process is None or self._process.returncode is not None:
            self.start()
        self._process.stdin.write(f"{path}\n".encode())
        outcome, message = self._answer("")
        if outcome == "read":  # hpctrain is done; what follows is h5py
            outcome, message = self._answer("h5py ")
        return outcome, message

    def _answer(self, who: str) -> tuple[str, str]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._limit_s):
                self.close()
                return f"{who}hung", ""
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._process = None
            return f"{who}died", f"exit code {code}"
        return tuple(json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self._process.communicate()
        self._process = None


def serve(columns: dict[str, str]) -> None:
    """Read the files named on stdin; one line for each as soon as hpctrain is done, and one for the comparison."""
    from any_layout import OWN_NAMES, read_plainly

    from hpctrain.errors import DataError
    from hpctrain.kinds.spectra.hdf5 import open_spectra
    from hpctrain.kinds.spectra.section import ColumnsSection, SpectraSection

    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # decoders written in C print what they think

    def answer(outcome: str, message: str = "") -> None:
        print(json.dumps([outcome, message]), file=answers, flush=True)

    for line in sys.stdin:
        path = Path(line.strip())
        try:
            spectra = open_spectra(SpectraSection(files=[str(path)], columns=ColumnsSection(**columns)))
            batch = spectra.read(np.arange(len(spectra)))
            spectra.close()
        except DataError as error:
            answer("refused", str(error))
            continue
        except BaseException as error:
            answer("another error", f"{type(error).__name__}: {error}")
            continue
        answer("read")
        found = {name: getattr(batch, name).numpy() for name in ("flux", "ivar")}
        plain: dict[str, np.ndarray] | str
        try:
            plain = read_plainly(path, OWN_NAMES | columns)
        except Exception as error:
            plain = f"{type(error).__name__}: {error}"
        answer(*compare(found, plain, read_plainly(path.with_suffix(WHOLE), OWN_NAMES | columns)))


def compare(
    found: dict[str, np.ndarray], plain: dict[str, np.ndarray] | str, whole: dict[str, np.ndarray]
) -> tuple[str, str]:
    """Say whether each row is the one h5py reads now, or the one that was written."""
    candidates = [whole] if isinstance(plain, str) else [plain, whole]
    wrong = []
    for name, rows in found.items():
        as_expected = np.zeros((len(candidates), len(rows)), bool)
        for number, candidate in enumerate(candidates):
            expected = candidate[name].astype(rows.dtype)
            with np.errstate(over="ignore"):
                redshift = candidate["redshift"].astype(np.float32)
            expected[~(np.isfinite(redshift) & (redshift > -0.03))] = 0
            if expected.shape == rows.shape:
                same = np.ascontiguousarray(expected).view(np.uint8) == np.ascontiguousarray(rows).view(np.uint8)
                as_expected[number] = same.all(axis=1)
        if not as_expected.any(axis=0).all():
            wrong.append(f"{name} {np.flatnonzero(~as_expected.any(axis=0))[:5]}")
        elif not as_expected[0].all():
            wrong.append("")
    if any(wrong):
        return ("OTHER ROWS" if len(candidates) == 2 else "ONLY H5PY REFUSES"), ", ".join(wrong) + str(plain)[:200]
    return ("rows as written" if wrong or len(candidates) == 1 else "same rows"), ""


def try_damages(
    seed: int, count: int, make: Callable[[random.Random, Path], None], reader: Reader, keep: Path | None = None
) -> Iterator[tuple[str, str, int]]:
    """Damage files and yield outcome, message and seed of each.

    Parameters
    ----------
    make : callable
        Writes a whole file; what it draws differs from seed to seed.
    keep : Path, optional
        Where files with an outcome that is not allowed are kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(seed, seed + count):
            draw = random.Random(number)
            path = Path(folder) / f"damaged-{number}.h5"
            make(draw, path)
            content, chunks = path.read_bytes(), chunks_of(path)
            path.with_suffix(WHOLE).write_bytes(content)
            path.write_bytes(damage(draw, content, chunks))
            outcome, message = reader.read(path)
            if keep is not None and outcome not in ALLOWED:
                shutil.copy(path, keep)
                shutil.copy(path.with_suffix(WHOLE), keep)
            path.unlink()
            path.with_suffix(WHOLE).unlink()
            yield outcome, message, number


def main() -> None:
    """Try damages by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files with an outcome that is not allowed")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(json.loads(arguments.serve))
        return
    from any_layout import draw_file

    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401
    reader = Reader()
    outcomes: collections.Counter[str] = collections.Counter()
    if arguments.keep is not None:
        arguments.keep.mkdir(exist_ok=True)
    draws = try_damages(
        arguments.seed, arguments.count, lambda draw, path: draw_file(draw, path, 64), reader, arguments.keep
    )
    for outcome, message, seed in draws:
        outcomes[outcome] += 1
        if outcome not in ALLOWED:
            print(f"seed {seed}: {outcome}: {message}", flush=True)
    reader.close()
    print(dict(outcomes))


if __name__ == "__main__":
    main()
