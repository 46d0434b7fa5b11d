"""The JSON Schema of ``results/validation.json``, for other programs that read it."""

from __future__ import annotations

import json

from hpctrain.report.validation_file import ValidationFile


def validation_schema_text() -> str:
    """Return the text of ``hpctrain/validation/schema.json``."""
    schema = ValidationFile.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hpctrain validation"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
