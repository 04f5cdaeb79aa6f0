"""The version of gpuferry that this process runs. Python 3.9, standard library alone."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

SOURCE_TREE = "0.1.0"
"""What a source tree that is not installed calls itself."""


def own_version() -> str:
    """gpuferry's version as it is installed; that of the source tree where it is not."""
    try:
        return version("gpuferry")
    except PackageNotFoundError:
        return SOURCE_TREE
