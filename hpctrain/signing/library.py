"""The library that signs, which is an extra."""

from __future__ import annotations

from typing import Any

from hpctrain.errors import SiteError


def need_signing() -> Any:
    """Return the module ``model_signing``.

    Raises
    ------
    SiteError
        It is not installed.
    """
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise SiteError(
            f"signatures need model-signing ({error.name} is not installed): pip install 'hpctrain[signing]'"
        ) from error
    return model_signing
