"""The forms of provisioning: for what the cursor is on in the vCenter tree, with defaults that make sense there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tui import show
from tui.calls import Call, Document, at
from tui.dialogs.form import CallForm, Field, Form, Values, filled
from tui.dialogs.run_form import RunForm
from tui.inventory_tree import Item

SPARE_MIB = 4096


@dataclass(frozen=True)
class Place:
    """Where an action begins: the item under the cursor, its vCenter's name and inventory, marked VMs, groups."""

    item: Item
    vcenter: str
    inventory: Document
    marked: tuple[Item, ...] = ()
    groups: tuple[Document, ...] = ()

    @property
    def host(self) -> Document | None:
        """The host under the cursor, or that of the GPU or VM there."""
        wanted = self.item.document.get("host") if self.item.kind in ("gpu", "vm") else self.item.document["name"]
        return next((each for each in self.inventory["hosts"] if each["name"] == wanted), None)


def form(what: str, place: Place) -> Form | str:
    """The form of an action; a text when the cursor is not on what it needs."""
    return FORMS[what](place)


SSH = (
    Field("ssh_user", "SSH user", hint="empty: the site's setting ssh_user"),
    Field("ssh_password", "SSH password", "password", hint="empty: the site's key or password"),
)


DEADLINE = Field("minutes", "Leases end within, minutes", "number", 60, least=0, most=43_200, needed=True)


def _ssh(values: Values) -> Document:
    given = filled({"user": values["ssh_user"], "password": values["ssh_password"]})
    return {"ssh": given} if given else {}


def passthrough(place: Place) -> Form | str:
    host = place.host
    if host is None or not host["gpus"]:
        return "Put the cursor on a host with GPUs, or on a GPU, to turn passthrough on or off."
    on = any(gpu["state"].startswith(("off", "on after")) for gpu in host["gpus"])
    only = [place.item.document["address"]] if place.item.kind == "gpu" else [gpu["address"] for gpu in host["gpus"]]
    fields = (
        Field("on", "Passthrough on", "switch", on),
        Field("gpus", "GPUs", "several", only, tuple((gpu_line(gpu), gpu["address"]) for gpu in host["gpus"])),
    )

    def make(values: Values) -> list[Document]:
        every = len(values["gpus"]) in (0, len(host["gpus"]))
        parameters = {"vcenter": place.vcenter, "host": host["name"], "on": values["on"]}
        return [{"kind": "passthrough", "parameters": parameters | ({} if every else {"gpus": values["gpus"]})}]

    intro = (
        "Maintenance mode and a reboot only where the host asks for them; VMs move or stop by vCenter's rules. "
        "Nothing is done that is true already."
    )
    return RunForm(f"Passthrough on {host['name']}", intro, fields, "Start the run", make)


def gpu_line(gpu: Document) -> str:
    return f"{gpu['address']}  {gpu['name']}  {show.mib(gpu['memory_mib'])}  {gpu['state']}"


def name_for(inventory: Document) -> str:
    """The next free name of the row gpu-01, gpu-02, ..."""
    taken = {vm["name"] for vm in inventory["vms"]}
    return next(name for number in range(1, 10_000) if (name := f"gpu-{number:02}") not in taken)


def variables_of(text: str) -> dict[str, str]:
    """`NAME=VALUE NAME=VALUE` as a mapping."""
    return {name: value for name, _, value in (each.partition("=") for each in text.split())}


def variables(text: str) -> str:
    """What is wrong with `NAME=VALUE ...`; nothing when all is right."""
    wrong = next((each for each in text.split() if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", each)), None)
    return f"Variables: {wrong} is not NAME=VALUE" if wrong else ""


def create(place: Place) -> Form | str:
    host = place.host
    if host is None or not host["gpus"]:
        return "Put the cursor on a host with GPUs to create a GPU server on it."
    inventory = place.inventory
    taken = {vm["name"] for vm in inventory["vms"]}
    free = [gpu for gpu in host["gpus"] if not gpu["holder"]]
    template = place.item.document["name"] if place.item.kind == "vm" and place.item.document["template"] else ""
    templates = inventory["templates"]
    plain = [each["name"] for each in inventory["networks"] if not each["rdma"]]
    rdma = [each["name"] for each in inventory["networks"] if each["rdma"]]
    stores = sorted(inventory["datastores"], key=lambda each: -each["free_mib"])
    memory = max(16_384, int(1.5 * sum(gpu["memory_mib"] for gpu in free)) + SPARE_MIB)

    def name_taken(name: str) -> str:
        if name in taken:
            return f"{name}: there is a VM of this name already; the run would take up where it stands"
        fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name)
        return "" if fits else "Name: letters, digits, . _ -"

    fields = (
        Field("name", "Name", default=name_for(inventory), needed=True, check=name_taken),
        Field(
            "gpus",
            "GPUs",
            "several",
            [gpu["address"] for gpu in free],
            tuple((gpu_line(gpu), gpu["address"]) for gpu in free),
            needed=True,
        ),
        Field("cpus", "CPUs", "number", max(8, 4 * len(free)), least=1, most=1024, needed=True),
        Field(
            "memory_mib",
            "Memory, MiB",
            "number",
            memory,
            least=1024,
            most=64 * 1024 * 1024,
            needed=True,
            hint="it is reserved wholly; 1.5 × the GPUs' memory is a good size",
        ),
        Field(
            "template",
            "Template",
            "choice",
            template or (templates[0] if templates else None),
            tuple((each, each) for each in templates),
        ),
        Field("library_item", "or library item", hint="LIBRARY/ITEM of the content library"),
        Field("ova", "or OVA file", hint="a path on the appliance"),
        Field(
            "network",
            "Network",
            "choice",
            plain[0] if plain else None,
            tuple((each, each) for each in plain),
            needed=True,
        ),
        Field("rdma_network", "PVRDMA network", "choice", None, tuple((each, each) for each in rdma)),
        Field(
            "datastore",
            "Datastore",
            "choice",
            None,
            tuple((f"{each['name']}  {show.mib(each['free_mib'])} free", each["name"]) for each in stores),
        ),
        *SSH,
        Field(
            "driver",
            "Driver",
            "choice",
            "nvidia",
            (("nvidia: the server's GPUs", "nvidia"), ("softgpu: software GPUs, to try gpuferry out", "softgpu")),
            needed=True,
        ),
        Field("accept", "Acceptance test", "switch", True),
        Field("python_path", "Where its Python finds CuPy", hint="folders; empty: CuPy is in the bundle"),
        Field(
            "environment",
            "Variables of its daemon",
            hint="NAME=VALUE NAME=VALUE; empty: none",
            check=variables,
        ),
    )

    def make(values: Values) -> list[Document]:
        source = filled({key: values[key] for key in ("template", "library_item", "ova")})
        if "library_item" in source or "ova" in source:
            source.pop("template", None)
        parameters = {
            "vcenter": place.vcenter,
            "host": host["name"],
            "source": source,
            **filled({key: values[key] for key in ("name", "gpus", "cpus", "memory_mib", "network", "rdma_network")}),
            **filled({key: values[key] for key in ("datastore", "driver")}),
            **filled(
                {"python_path": values["python_path"].split(), "environment": variables_of(values["environment"])}
            ),
            **({} if values["accept"] else {"accept": False}),
            **_ssh(values),
        }
        return [{"kind": "provision-server", "parameters": parameters}]

    intro = f"A GPU server VM on {host['name']}: passthrough, VM, daemon, acceptance test, into the pool."
    return RunForm("Create a GPU server", intro, fields, "Start the run", make)


def pvrdma(place: Place) -> Form | str:
    vm = place.item.document
    if place.item.kind != "vm" or vm["template"]:
        return "Put the cursor on a VM to give it a PVRDMA adapter."
    networks = tuple((each["name"], each["name"]) for each in place.inventory["networks"] if each["rdma"])
    if not networks:
        return "No network of this vCenter carries RDMA: no host has an RDMA adapter on a distributed switch."
    fields = (
        Field("network", "Network", "choice", networks[0][1], networks, needed=True),
        Field(
            "protocol",
            "Protocol",
            "choice",
            "rocev2",
            (("RoCE v2: routed", "rocev2"), ("RoCE v1: one Ethernet segment", "rocev1")),
            needed=True,
        ),
        DEADLINE,
    )

    def make(values: Values) -> list[Document]:
        parameters = {
            "vcenter": place.vcenter,
            "name": vm["name"],
            "network": values["network"],
            "protocol": values["protocol"],
            "deadline_s": (values["minutes"] or 0) * 60,
        }
        return [{"kind": "attach-pvrdma", "parameters": parameters}]

    intro = (
        f"{vm['name']} gets a PVRDMA adapter: its forwarding can use RDMA. The VM is powered off for it and on again."
    )
    return RunForm("Add PVRDMA", intro, fields, "Start the run", make)


def enable(place: Place) -> Form | str:
    items = list(place.marked) or ([place.item] if place.item.kind == "vm" else [])
    vms = [each.document for each in items if not each.document["template"]]
    if not vms:
        return "Put the cursor on a VM, or mark several with Space, to make them clients."
    groups = tuple((each["name"], each["name"]) for each in place.groups)
    fields = (
        Field(
            "vms",
            "VMs",
            "several",
            [vm["name"] for vm in vms],
            tuple((vm["name"], vm["name"]) for vm in vms),
            needed=True,
        ),
        Field("group", "Group", "choice", "default", groups),
        *SSH,
    )

    def make(values: Values) -> list[Document]:
        common = filled({"group": values["group"]}) | _ssh(values)
        return [
            {"kind": "enable-client", "parameters": {"vcenter": place.vcenter, "vm": name, **common}}
            for name in values["vms"]
        ]

    intro = (
        "The client bundle is installed over SSH and the agent enrolled: programs of these VMs can use the pool then."
    )
    title = f"Enable {len(vms)} clients" if len(vms) > 1 else f"Enable {vms[0]['name']} as a client"
    return RunForm(title, intro, fields, "Start the runs" if len(vms) > 1 else "Start the run", make)


def remove(place: Place) -> Form | str:
    vm = place.item.document
    if place.item.kind == "vm" and vm["role"] == "gpu-server":
        fields = (
            DEADLINE,
            Field("delete_vm", "Delete the VM", "switch", True),
            Field("passthrough_off", "Passthrough off again", "switch", False),
            *SSH,
        )

        def decommission(values: Values) -> list[Document]:
            parameters = {
                "vcenter": place.vcenter,
                "name": vm["name"],
                "deadline_s": (values["minutes"] or 0) * 60,
                "delete_vm": values["delete_vm"],
                "passthrough_off": values["passthrough_off"],
                **_ssh(values),
            }
            return [{"kind": "decommission-server", "parameters": parameters}]

        intro = f"{vm['name']} is drained, taken out of the pool, and its GPUs go back to their host."
        return RunForm(f"Decommission {vm['name']}", intro, fields, "Start the run", decommission)
    if place.item.kind == "vm" and vm["role"] == "client":

        def disable(values: Values) -> list[Document]:
            return [
                {"kind": "disable-client", "parameters": {"vcenter": place.vcenter, "vm": vm["name"], **_ssh(values)}}
            ]

        intro = f"The leases of {vm['name']} end, the client bundle is removed, and its key is revoked."
        return RunForm(f"Disable {vm['name']} as a client", intro, SSH, "Start the run", disable)
    return "Put the cursor on a GPU server's VM or a client's VM to take it away."


def tag(place: Place) -> Form | str:
    each = place.item.document
    if place.item.kind not in ("host", "vm"):
        return "Put the cursor on a host or a VM to tag it."
    now = each.get("tag", "")
    choices = (("gpu-server: make GPU servers here", "gpu-server"), ("client: make it a client", "client"))
    fields = (
        Field(
            "tag", "Tag", "choice", now or ("client" if place.item.kind == "vm" else "gpu-server"), choices, needed=True
        ),
        Field("present", "Put on (off: take off)", "switch", not now),
    )

    def make(values: Values) -> Call:
        body = {"object": each["name"], "tag": values["tag"], "present": values["present"]}
        return Call("PUT", at("vcenters", place.item.vcenter, "tags"), body=body)

    intro = "vCenter's own tag says what is wanted; the appliance notices and starts the runs that fulfil it."
    return CallForm(f"Tag {each['name']}", intro, fields, "Set it", make)


def add_vcenter() -> Form:
    fields = (
        Field("name", "Name", hint="how people call it", needed=True),
        Field("address", "Address", hint="vcenter.lab, or vcenter.lab:443", needed=True),
        Field("username", "User", hint="gpuferry@vsphere.local", needed=True),
        Field("password", "Password", "password", needed=True),
        Field(
            "fingerprint",
            "SHA-256 of its certificate",
            hint="pins it; empty: the system's authorities decide",
            check=lambda text: (
                "" if re.fullmatch(r"([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}", text) else "Fingerprint: 32 bytes in hex"
            ),
        ),
    )
    intro = "The password is sealed with the appliance's own key and never shown again."
    return CallForm(
        "Add a vCenter", intro, fields, "Add", lambda values: Call("POST", "/v1/vcenters", body=filled(values)), "admin"
    )


FORMS: dict[str, Callable[[Place], Form | str]] = {
    "passthrough": passthrough,
    "create": create,
    "pvrdma": pvrdma,
    "enable": enable,
    "remove": remove,
    "tag": tag,
}
