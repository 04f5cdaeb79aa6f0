"""Where a GPU server goes: a host with enough free GPUs, memory and the right switches, and a datastore with room.

Pure: it reads an inventory and gives a Placement, or says for every host why not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vcenter.errors import NoCapacity, PortgroupMissing
from vcenter.inventory import Cluster, Datastore, Gpu, GpuState, Host, Inventory, pick
from vcenter.vm_spec import Port

# What ESXi keeps for itself and for a VM's overhead; a full reservation must fit beside it.
HOST_RESERVE_MIB = 8 * 1024


@dataclass(frozen=True)
class Wish:
    """What a server needs. `host`, `gpus` (addresses), `model`, `datastore` narrow the choice; `count` GPUs otherwise.

    `ports` are the networks that the host must have; `rdma_switch` the UUID of the DVS that must have an RDMA uplink
    there.
    """

    memory_mib: int | None = None
    count: int = 1
    host: str = ""
    gpus: tuple[str, ...] = ()
    model: str = ""
    datastore: str = ""
    disk_mib: int = 0
    ports: tuple[Port, ...] = ()
    rdma_switch: str = ""
    dynamic: bool = False


@dataclass(frozen=True)
class Placement:
    host: Host
    cluster: Cluster
    gpus: tuple[Gpu, ...]
    datastore: Datastore


def place(inventory: Inventory, wish: Wish, memory_for: Callable[[list[Gpu]], int]) -> Placement:
    """The best host: the one that keeps the fewest GPUs and the least memory unused (tight packing), by name on a tie.

    `memory_for` says how much memory (MiB) a server with these GPUs takes. Raises NoCapacity with the reason per host.
    """
    hosts = [inventory.host(wish.host)] if wish.host else sorted(inventory.hosts.values(), key=lambda host: host.name)
    fits: list[tuple[int, int, str, Placement]] = []
    reasons: dict[str, str] = {}
    for host in hosts:
        chosen = _choose_gpus(inventory, host, wish)
        if isinstance(chosen, str):
            reasons[host.name] = chosen
            continue
        memory = memory_for(list(chosen))
        reason = _why_not(inventory, host, wish, memory)
        if reason:
            reasons[host.name] = reason
            continue
        datastore = _choose_datastore(inventory, host, wish)
        if isinstance(datastore, str):
            reasons[host.name] = datastore
            continue
        left = sum(gpu.free for gpu in host.gpus) - len(chosen)
        free = host.memory_mib - inventory.reserved_mib(host.id) - memory
        fits.append((left, free, host.name, Placement(host, inventory.clusters[host.cluster], chosen, datastore)))
    if not fits:
        said = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()) if reason != "no GPU")
        raise NoCapacity(
            f"No host can take this server. {said or 'No host has a GPU.'}.",
            object_name=wish.host or inventory.vcenter,
            remedy="`gpuferry vcenter gpus` shows the next step for each card.",
        )
    return min(fits, key=lambda fit: fit[:3])[3]


def _choose_gpus(inventory: Inventory, host: Host, wish: Wish) -> tuple[Gpu, ...] | str:
    """The GPUs to take on a host, or why there are none."""
    if not host.gpus:
        return "no GPU"
    if not host.connected:
        return f"not connected ({host.connection})"
    if host.in_maintenance:
        return "in maintenance mode"
    if wish.gpus:
        gpus = tuple(inventory.gpu(host.id, address) for address in wish.gpus)
        bad = [f"{gpu.address} is {_state(gpu)}" for gpu in gpus if not gpu.free]
        return ", ".join(bad) if bad else gpus
    free = [gpu for gpu in host.gpus if gpu.free and wish.model.lower() in gpu.name.lower()]
    if len(free) < wish.count:
        have = ", ".join(f"{gpu.address} {_state(gpu)}" for gpu in host.gpus)
        return f"{len(free)} of {wish.count} GPUs{f' like {wish.model}' if wish.model else ''} ready ({have})"
    # Equal cards work best together: prefer the model of which there are enough, smallest memory first.
    for gpu in sorted(free, key=lambda gpu: (gpu.memory_mib, gpu.address)):
        same = [other for other in free if other.name == gpu.name]
        if len(same) >= wish.count:
            return tuple(sorted(same, key=lambda other: other.address)[: wish.count])
    return tuple(sorted(free, key=lambda gpu: gpu.address)[: wish.count])


def _state(gpu: Gpu) -> str:
    users = ", ".join(user.name for user in gpu.users)
    return f"{gpu.state.value} by {users}" if gpu.state in (GpuState.IN_USE, GpuState.HELD) else gpu.state.value


def _why_not(inventory: Inventory, host: Host, wish: Wish, memory_mib: int) -> str:
    free = host.memory_mib - inventory.reserved_mib(host.id) - HOST_RESERVE_MIB
    if memory_mib > free:
        return f"{memory_mib} MiB must be reserved, {max(0, free)} MiB are free"
    uuids = {switch.uuid for switch in host.switches}
    for port in wish.ports:
        if port.distributed and port.switch_uuid not in uuids:
            return f"not a member of the distributed switch of {port.name}"
        if port.network_id and port.network_id not in host.networks:
            return f"has no network {port.name}"
    if wish.rdma_switch and not any(nic.switch == wish.rdma_switch for nic in host.rdma_nics):
        return "no RDMA uplink on the PVRDMA network's switch"
    return ""


def _choose_datastore(inventory: Inventory, host: Host, wish: Wish) -> Datastore | str:
    mounted = [inventory.datastores[moid] for moid in host.datastores if moid in inventory.datastores]
    if wish.datastore:
        wanted = pick(inventory.datastores, wish.datastore, "datastore")
        mounted = [datastore for datastore in mounted if datastore.id == wanted.id]
        if not mounted:
            return f"does not mount the datastore {wanted.name}"
    usable = [datastore for datastore in mounted if datastore.accessible]
    if not usable:
        return "no accessible datastore"
    best = max(usable, key=lambda datastore: (datastore.free_mib, datastore.name))
    if best.free_mib < wish.disk_mib:
        return f"{wish.disk_mib} MiB of disk needed, {best.free_mib} MiB free on {best.name}"
    return best


def find_port(inventory: Inventory, name_or_id: str) -> Port:
    """The network with this name or id: a distributed portgroup first, else a standard network. Raises
    PortgroupMissing.
    """
    groups = [
        group
        for group in inventory.portgroups.values()
        if name_or_id in (group.name, group.id, group.key) and not group.uplink
    ]
    if len(groups) > 1:
        ids = ", ".join(group.id for group in groups)
        raise PortgroupMissing(
            f"{len(groups)} portgroups are called {name_or_id!r}: {ids}.",
            object_name=name_or_id,
            remedy="Name it by its id.",
        )
    if groups:
        switch = inventory.switches.get(groups[0].switch)
        return Port(groups[0].name, switch_uuid=switch.uuid if switch else "", portgroup_key=groups[0].key)
    for network in inventory.networks.values():
        if name_or_id in (network.name, network.id):
            return Port(network.name, network_id=network.id)
    raise PortgroupMissing(f"There is no portgroup {name_or_id!r} in this vCenter.", object_name=name_or_id)
