"""``hpctrain ingest parquet``."""

from __future__ import annotations

import argparse

from hpctrain.commands.ingest.multimodal import add_column_option
from hpctrain.commands.ingest.way import Prepared, Way


def _prepare(args: argparse.Namespace) -> Prepared:
    from hpctrain.ingest import parquet
    from hpctrain.ingest.sources import find_sources

    reader = parquet.ParquetReader(dict(args.column))
    sources = find_sources(args.sources, parquet.FILE_NAMES)
    return Prepared(reader, sources.paths, sources.skipped)


WAY = Way(
    "Parquet tables with list columns (pip install 'hpctrain[parquet]')",
    "auto",
    add_column_option,
    _prepare,
)
