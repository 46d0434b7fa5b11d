"""``hpctrain ingest any``."""

from __future__ import annotations

from hpctrain.commands.ingest.mapped import way

WAY = way("any")
