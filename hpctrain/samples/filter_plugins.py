"""The C functions of HDF5's filter plugins, called through ctypes without libhdf5's lock."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import h5py

DEFLATE, SHUFFLE, FLETCHER32, BZIP2, LZF = 1, 2, 3, 307, 32000
LZ4, BLOSC, BITSHUFFLE, ZSTD, BLOSC2 = 32004, 32001, 32008, 32015, 32026
"""Numbers under which the HDF Group has registered the filters."""

FilterFunction = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)
"""size_t filter(flags, cd_nelmts, cd_values, nbytes, *buf_size, **buf): replaces a malloc'ed buffer by another."""


class _FilterClass(ctypes.Structure):
    """H5Z_class2_t."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


@functools.cache
def libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc


@functools.cache
def function_of(number: int) -> Callable[..., int]:
    """Return the C function of a filter.

    Raises
    ------
    LookupError
        No plugin of this environment has the filter.
    """
    if number == LZF:
        # h5py includes this filter, in the extension that registers filters.
        library = ctypes.CDLL(h5py.h5z.__file__)
        with contextlib.suppress(AttributeError):
            return FilterFunction(ctypes.cast(library.lzf_filter, ctypes.c_void_p).value)
    return plugin_of(number)[0]


@functools.cache
def plugin_of(number: int) -> tuple[Callable[..., int], ctypes.CDLL]:
    """Return the function of a filter and its library; raises as above."""
    for path in _plugin_files():
        with contextlib.suppress(OSError, AttributeError, ValueError):
            library = ctypes.CDLL(str(path))
            describe = library.H5PLget_plugin_info
            describe.restype = ctypes.POINTER(_FilterClass)
            plugin = describe().contents  # ValueError where it returns NULL
            if plugin.id == number and plugin.filter:
                return FilterFunction(plugin.filter), library
    raise LookupError(number)


@functools.cache
def bitshuffle_function(packer: str) -> Callable[..., int] | None:
    """Return ``bshuf_decompress_lz4`` or ``_zstd`` of the library inside the plugin; None if it is not exported."""
    _, library = plugin_of(BITSHUFFLE)
    function = getattr(library, f"bshuf_decompress_{packer}", None)
    if function is not None:
        size = ctypes.c_size_t
        function.restype, function.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, size, size, size]
    return function


@functools.cache
def blosc2_unshuffle() -> Callable[..., int] | None:
    """Return Blosc 2's function that undoes HDF5's shuffle, four times as fast as numpy; None if there is none."""
    with contextlib.suppress(LookupError, AttributeError):
        function = plugin_of(BLOSC2)[1].blosc2_unshuffle
        function.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p]
        return function
    return None


@functools.cache
def _plugin_files() -> tuple[Path, ...]:
    folders = [folder for folder in os.environ.get("HDF5_PLUGIN_PATH", "").split(os.pathsep) if folder]
    if (package := importlib.util.find_spec("hdf5plugin")) and package.submodule_search_locations:
        folders += [os.path.join(place, "plugins") for place in package.submodule_search_locations]
    folders.append("/usr/local/hdf5/lib/plugin")  # libhdf5's own default
    return tuple(Path(path) for folder in folders for path in sorted(glob.glob(os.path.join(folder, "*.so*"))))
