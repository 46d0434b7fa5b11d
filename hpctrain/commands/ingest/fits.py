"""``hpctrain ingest fits``."""

from __future__ import annotations

from hpctrain.commands.ingest.mapped import way

WAY = way("fits")
