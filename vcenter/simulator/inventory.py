"""From a small file to a data centre: hosts with cards, switches, datastores, templates and virtual machines.

The file is YAML or JSON (TOML if it ends in .toml). Its form::

    users: [{name, password, privileges: [...] (default: all), on: object name (default: everything)}]
    datacenters:
    - name
      datastores: [{name, capacity_gib, type: VMFS|NFS, hosts: [...] (default: all)}]
      networks: [standard network names, on all hosts]
      switches: [{name, mtu, portgroups: [{name, vlan, ports}]}]
      clusters: [{name, drs, ha, hosts: [...]}]     standalone hosts: "hosts" beside "clusters"
      virtual_machines: [...]
    host:  {name, cpu_cores, cpu_mhz, memory_gib, passthrough_needs_reboot, gpus: [...], nics: [...]}
    gpu:   {model: see cards.GPUS, count, passthrough: off|enabled|active, label, needs_reboot,
            graphics: shared|sharedDirect}
    nic:   {model: see cards.NICS, count, switch: name of a distributed switch, vmkernel: true adds an adapter there}
    virtual machine: {name, host, datastore, network, cpus, memory_gib, disk_gib, firmware, hardware, guest, template,
                      power: on|off, extra: {key: value}, gpus: [addresses], folder, annotation}

A key that is not listed is an error that names it.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from .api import vim
from .authorization_manager import ADMINISTRATOR_ROLE, AuthorizationManager
from .cards import GPUS, NICS
from .compute_resource import ClusterComputeResource, ComputeResource
from .control import Control
from .custom_fields_manager import CustomFieldsManager
from .datacenter import Datacenter
from .datastore import GIB, Datastore
from .distributed_virtual_switch import DistributedVirtualSwitch
from .event_manager import EventManager
from .folder import Folder
from .guest import Guests
from .host_system import HostSystem
from .license_manager import LicenseManager
from .network import Network
from .option_manager import OptionManager
from .ovf_manager import OvfManager
from .property_collector import PropertyCollector
from .search_index import SearchIndex
from .service_instance import ServiceInstance
from .session_manager import SessionManager, User
from .task_manager import TaskManager
from .values import build
from .view_manager import ViewManager
from .virtual_machine_create import register_ready
from .world import World

DEFAULT_INVENTORY = Path(__file__).with_name("default_inventory.yaml")
_FIRST_CARD_BUS = 0x3B
_FIRST_NIC_BUS = 0x18


class InventoryError(Exception):
    """The inventory file is not as it should be; the text says where."""


def read_inventory(source: "Path | str | dict[str, Any] | None") -> dict[str, Any]:
    """The content of an inventory file; a dictionary is taken as it is. Raises InventoryError."""
    if isinstance(source, dict):
        return source
    path = Path(source) if source is not None else DEFAULT_INVENTORY
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text)
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InventoryError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise InventoryError(f"{path}: a mapping is expected")
    return content


def make_world(
    content: dict[str, Any], *, api_version: str = "8.0.3.0", pace: float = 0.01, guests: Guests | None = None
) -> World:
    """A world with all managers and everything the inventory names. Raises InventoryError."""
    world = World(api_version, pace)
    world.guests = guests or world.guests
    world.control = Control(world)
    AuthorizationManager(world)
    root = Folder(world, "Datacenters", None, "datacenter", moid="group-d1")
    users = _users(content)
    SessionManager(world, users)
    PropertyCollector(world, "propertyCollector")
    ViewManager(world, "ViewManager")
    TaskManager(world)
    EventManager(world)
    CustomFieldsManager(world)
    SearchIndex(world, "SearchIndex")
    OptionManager(world, "VpxSettings")
    OvfManager(world, "OvfManager")
    LicenseManager(world, "LicenseManager")
    ServiceInstance(world)
    with world.lock:
        for entry in content.get("datacenters", ()):
            _datacenter(world, root, _Entry(entry, "datacenter"))
        _permissions(world, content)
    return world


class _Entry:
    """One mapping of the file; remembers what was read, refuses what nobody asked for."""

    def __init__(self, content: Any, what: str) -> None:
        if not isinstance(content, dict):
            raise InventoryError(f"{what}: a mapping is expected, not {content!r}")
        self._content = content
        self._what = f"{what} {content.get('name', content.get('model', ''))}".strip()
        self._read: set[str] = set()

    def __call__(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        value = self._content.get(key, default)
        # YAML reads on and off as truth values.
        if isinstance(value, bool) and isinstance(default, str):
            return "on" if value else "off"
        return value

    def needed(self, key: str) -> Any:
        if key not in self._content:
            raise InventoryError(f"{self._what}: {key} is missing")
        return self(key)

    def done(self) -> None:
        unknown = set(self._content) - self._read
        if unknown:
            raise InventoryError(f"{self._what}: there is no {', '.join(sorted(map(str, unknown)))}")

    def fail(self, message: str) -> InventoryError:
        return InventoryError(f"{self._what}: {message}")


def _users(content: dict[str, Any]) -> list[User]:
    entries = content.get("users") or [{"name": "administrator@vsphere.local", "password": "VMware1!"}]
    return [User(entry["name"], entry["password"]) for entry in entries]


def _permissions(world: World, content: dict[str, Any]) -> None:
    rights: Any = world.objects["AuthorizationManager"]
    for entry in content.get("users") or [{"name": "administrator@vsphere.local"}]:
        role = ADMINISTRATOR_ROLE
        if "privileges" in entry:
            role = rights.define_role(f"{entry['name']} role", entry["privileges"])
        try:
            on = world.control.find(entry.get("on", "group-d1"))
        except KeyError:
            raise InventoryError(f"user {entry['name']}: there is no {entry['on']}") from None
        rights.grant(entry["name"], on.ref, role)


def _datacenter(world: World, root: Folder, entry: _Entry) -> None:
    datacenter = Datacenter(world, entry.needed("name"), root)
    root.adopt(datacenter)
    hosts: dict[str, HostSystem] = {}
    switches: dict[str, DistributedVirtualSwitch] = {}
    for each in entry("switches", ()):
        switch_entry = _Entry(each, "switch")
        switch = DistributedVirtualSwitch(
            world, switch_entry.needed("name"), datacenter.network_folder, switch_entry("mtu", 1500)
        )
        datacenter.network_folder.adopt(switch)
        switch.add_portgroup(f"{switch.name}-DVUplinks", uplink=True)
        for group in switch_entry("portgroups", ()):
            group_entry = _Entry(group, "portgroup")
            switch.add_portgroup(group_entry.needed("name"), vlan=group_entry("vlan", 0), ports=group_entry("ports", 8))
            group_entry.done()
        switch_entry.done()
        switches[switch.name] = switch
    for each in entry("clusters", ()):
        cluster_entry = _Entry(each, "cluster")
        cluster = ClusterComputeResource(
            world,
            cluster_entry.needed("name"),
            datacenter.host_folder,
            drs=cluster_entry("drs", True),
            ha=cluster_entry("ha", False),
        )
        datacenter.host_folder.adopt(cluster)
        for host in cluster_entry("hosts", ()):
            _host(world, cluster, _Entry(host, "host"), hosts, switches)
        cluster_entry.done()
    for each in entry("hosts", ()):
        host_entry = _Entry(each, "host")
        alone = ComputeResource(world, host_entry.needed("name"), datacenter.host_folder)
        datacenter.host_folder.adopt(alone)
        _host(world, alone, host_entry, hosts, switches)
    stores = _datastores(world, datacenter, entry, hosts)
    networks = _networks(world, datacenter, entry, hosts)
    for switch in switches.values():
        networks.update({each.name: each for each in switch.portgroups})
    for each in entry("virtual_machines", ()):
        _machine(world, datacenter, _Entry(each, "virtual machine"), hosts, stores, networks)
    entry.done()


def _host(
    world: World,
    compute: ComputeResource,
    entry: _Entry,
    hosts: dict[str, HostSystem],
    switches: dict[str, DistributedVirtualSwitch],
) -> None:
    host = HostSystem(
        world,
        entry.needed("name"),
        compute,
        cpu_cores=entry("cpu_cores", 32),
        cpu_mhz=entry("cpu_mhz", 2600),
        memory_gib=entry("memory_gib", 512),
        rebind_without_reboot=not entry("passthrough_needs_reboot", False),
    )
    bus = _FIRST_CARD_BUS
    for each in entry("gpus", ()):
        gpu = _Entry(each, f"{host.name}: gpu")
        model = GPUS.get(gpu.needed("model"))
        if model is None:
            raise gpu.fail(f"there is no such model; there are {', '.join(GPUS)}")
        state = gpu("passthrough", "off")
        if state not in {"off", "enabled", "active"}:
            raise gpu.fail("passthrough is off, enabled or active")
        for _ in range(gpu("count", 1)):
            address = host.passthrough.insert_gpu(
                bus, model, state, gpu("label"), rebinds=not gpu("needs_reboot", False)
            )
            graphics = gpu("graphics")
            if graphics:
                host.graphics.configured[address] = host.graphics.active[address] = graphics
            bus += 1
        gpu.done()
    bus = _FIRST_NIC_BUS
    for each in entry("nics", ({"model": "X710"},)):
        nic = _Entry(each, f"{host.name}: nic")
        nic_model = NICS.get(nic.needed("model"))
        if nic_model is None:
            raise nic.fail(f"there is no such model; there are {', '.join(NICS)}")
        uplinks = []
        for _ in range(nic("count", 1)):
            uplinks.append(host.network_system.insert_nic(bus, nic_model))
            bus += 1
        switch_name, vmkernel = nic("switch"), nic("vmkernel", False)
        if switch_name is not None:
            if switch_name not in switches:
                raise nic.fail(f"there is no switch {switch_name}")
            switches[switch_name].add_host(host, uplinks)
        nic.done()
        if vmkernel:
            _vmkernel(host, switches[switch_name], len(hosts) + 1)
    host.network_system.vnics.insert(0, _management_adapter(len(hosts) + 1))
    compute.add_host(host)
    hosts[host.name] = host
    entry.done()


def _management_adapter(number: int) -> Any:
    return build(
        vim.host.VirtualNic,
        device="vmk0",
        key="key-vim.host.VirtualNic-vmk0",
        portgroup="Management Network",
        spec=build(
            vim.host.VirtualNic.Specification,
            ip=build(vim.host.IpConfig, dhcp=False, ipAddress=_address("192.0.2", number), subnetMask="255.255.255.0"),
            mac=f"b4:45:07:00:{number >> 8 & 255:02x}:{number & 255:02x}",
            mtu=1500,
        ),
    )


def _vmkernel(host: HostSystem, switch: DistributedVirtualSwitch, number: int) -> None:
    group = next((each for each in switch.portgroups if not each.uplink), None)
    if group is None:
        raise InventoryError(f"{host.name}: the switch {switch.name} has no port group for a VMkernel adapter")
    spec = build(
        vim.host.VirtualNic.Specification,
        ip=build(vim.host.IpConfig, dhcp=False, ipAddress=_address("198.51.100", number), subnetMask="255.255.255.0"),
        mtu=switch.mtu,
        distributedVirtualPort=build(vim.dvs.PortConnection, switchUuid=switch.uuid, portgroupKey=group.moid),
    )
    if not host.network_system.vnics:
        # vmk0 is the management adapter, put in front once all cards are there.
        host.network_system.vnics.append(_management_adapter(number))
        host.network_system.add_vnic("", spec)
        del host.network_system.vnics[0]
    else:
        host.network_system.add_vnic("", spec)


def _address(net: str, number: int) -> str:
    return f"{net}.{10 + number % 240}"


def _datastores(
    world: World, datacenter: Datacenter, entry: _Entry, hosts: dict[str, HostSystem]
) -> dict[str, Datastore]:
    stores = {}
    for each in entry("datastores", ()):
        store_entry = _Entry(each, "datastore")
        store = Datastore(
            world,
            store_entry.needed("name"),
            datacenter.datastore_folder,
            store_entry("capacity_gib", 1024) * GIB,
            store_entry("type", "VMFS"),
        )
        names = store_entry("hosts")
        try:
            mounted = [hosts[name] for name in names] if names is not None else list(hosts.values())
        except KeyError as error:
            raise store_entry.fail(f"there is no host {error}") from None
        store.mount_on(mounted)
        for host in mounted:
            host.set("datastore", [*host.values["datastore"], store.ref])
        store_entry.done()
        stores[store.name] = store
    datacenter.datastore_folder.adopt_many(list(stores.values()))
    datacenter.set("datastore", [store.ref for store in stores.values()])
    _note_on_computes(hosts, "datastore")
    return stores


def _networks(world: World, datacenter: Datacenter, entry: _Entry, hosts: dict[str, HostSystem]) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for name in entry("networks", ("VM Network",)):
        network = Network(world, name, datacenter.network_folder)
        network.reach(list(hosts.values()))
        networks[name] = network
        for host in hosts.values():
            host.set("network", [*host.values["network"], network.ref])
            host.network_system.portgroups.append(name)
    datacenter.network_folder.adopt_many(list(networks.values()))
    datacenter.set("network", [*datacenter.values["network"], *(each.ref for each in networks.values())])
    _note_on_computes(hosts, "network")
    return networks


def _note_on_computes(hosts: dict[str, HostSystem], name: str) -> None:
    for host in hosts.values():
        host.compute.note(name, host.values[name])


def _machine(
    world: World,
    datacenter: Datacenter,
    entry: _Entry,
    hosts: dict[str, HostSystem],
    stores: dict[str, Datastore],
    networks: dict[str, Network],
) -> None:
    def named(table: dict[str, Any], key: str) -> Any:
        name = entry(key)
        if name is None and table:
            return next(iter(table.values()))
        if name not in table:
            raise entry.fail(f"there is no {key} {name}")
        return table[name]

    folder = datacenter.vm_folder
    folder_name = entry("folder")
    if folder_name:
        folder = datacenter.vm_folder.child(folder_name)
        if folder is None:
            folder = Folder(world, folder_name, datacenter.vm_folder, "vm")
            datacenter.vm_folder.adopt(folder)
    register_ready(
        world,
        folder,
        entry.needed("name"),
        named(hosts, "host"),
        named(stores, "datastore"),
        named(networks, "network"),
        cpus=entry("cpus", 2),
        memory_mib=int(entry("memory_gib", 4) * 1024),
        disk_gib=entry("disk_gib", 40),
        firmware=entry("firmware", "efi"),
        hardware=entry("hardware", 19),
        guest_id=entry("guest", "ubuntu64Guest"),
        template=entry("template", False),
        running=entry("power", "off") == "on",
        extra=entry("extra", {}),
        gpus=entry("gpus", []),
        annotation=entry("annotation", ""),
    )
    entry.done()
