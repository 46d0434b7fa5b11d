"""``hpctrain ingest hdf5``."""

from __future__ import annotations

from hpctrain.commands.ingest.mapped import way

WAY = way("hdf5")
