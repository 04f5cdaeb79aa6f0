"""OvfManager: reads OVF descriptors and says what importing them would create."""

from .api import vim
from .managed_object import Managed


class OvfManager(Managed):
    """Reads OVF descriptors."""

    kind = vim.OvfManager
