"""``hpctrain ingest lamost``."""

from __future__ import annotations

from hpctrain.commands.ingest.mapped import way

WAY = way("lamost")
