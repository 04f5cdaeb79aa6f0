"""LicenseManager: the licences the simulated vCenter runs under, for tools that list them."""

from typing import Any

from .api import vim
from .managed_object import Managed, derived
from .values import build


class LicenseManager(Managed):
    """An evaluation licence, as a vCenter has that was just installed."""

    kind = vim.LicenseManager

    @derived()
    def licenses(self) -> Any:
        """Every licence."""
        return [
            build(
                vim.LicenseManager.LicenseInfo,
                licenseKey="00000-00000-00000-00000-00000",
                editionKey="eval",
                name="Evaluation Mode",
                total=0,
                used=0,
                costUnit="",
            )
        ]
