"""A GPU server as the vSphere administrator sees it: its tag, its custom attributes."""

from __future__ import annotations

from pyVmomi import vim

from vcenter.attributes import Attribute, apply_attributes, plan_attributes
from vcenter.session import Session
from vcenter.tags import Tag, Tagged, apply_tags, plan_tags

SERVER_ROLE = "GPU server"


def mark_server(session: Session, vm: str, name: str, pool_state: str = "") -> None:
    """Puts the tag gpu-server and the role on a server VM; `pool_state` too, when it is known. Safe to repeat."""
    apply_tags(session, plan_tags(session, [Tagged("VirtualMachine", vm, Tag.GPU_SERVER)]))
    shown = {Attribute.ROLE: SERVER_ROLE}
    if pool_state:
        shown[Attribute.POOL_STATE] = pool_state
    ref = session.object(vim.VirtualMachine, vm)
    apply_attributes(session, plan_attributes(session, ref, name, shown))
