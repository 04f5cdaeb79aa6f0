"""What a run of each kind is asked with. Secrets among it are sealed and shown to nobody."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from appliance.api.schemas import Name, Text, printable

Memory = Annotated[int, Field(ge=0, le=64 * 1024 * 1024)]
Deadline = Annotated[int, Field(ge=0, le=2_592_000)]
Port = Annotated[int, Field(ge=1, le=65535)]
Variables = Annotated[dict[str, Text], Field(max_length=50)]


class Parameters(BaseModel):
    """What all kinds share: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Ssh(Parameters):
    """How to log in; what is left out comes from the site's settings. `key` is a private key in OpenSSH's format."""

    user: Annotated[str, Field(max_length=64), AfterValidator(printable)] = ""
    port: Port | None = None
    key: SecretStr | None = None
    password: SecretStr | None = None
    sudo_password: SecretStr | None = None
    jump: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    """user@host[:port] through which the target is reached."""


class Source(Parameters):
    """What a server VM is made from: one of the three."""

    template: Name | None = None
    library_item: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", max_length=300)] | None = None
    """LIBRARY/ITEM"""
    ova: Name | None = None
    """Path of a file on the appliance."""

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(each is not None for each in (self.template, self.library_item, self.ova)) != 1:
            raise ValueError("name one of template, library_item and ova")
        return self


class ProvisionServer(Parameters):
    """A GPU server from a bare host to the pool."""

    vcenter: Name
    host: Name
    name: Name
    gpus: Annotated[list[Name], Field(max_length=64)] = []
    """PCI addresses; without them `gpu_count` are chosen."""
    gpu_count: Annotated[int, Field(ge=1, le=64)] = 1
    cpus: Annotated[int, Field(ge=1, le=1024)] = 8
    memory_mib: Memory = 0
    """0: 1.5 times the memory of its GPUs."""
    source: Source
    network: Name
    rdma_network: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    datastore: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    ssh: Ssh = Ssh()
    driver: Annotated[str, Field(pattern="^(nvidia|softgpu)$")] = "nvidia"
    """`softgpu`: the daemon serves GPUs in software, for trying gpuferry out."""
    environment: Variables = {}
    """Variables of the daemon's service."""
    python_path: Annotated[list[Text], Field(max_length=20)] = []
    """Folders of the server in which Python finds what the bundle does not bring along (CuPy)."""
    accept: bool = True
    """False: into the pool without an acceptance test."""


class DecommissionServer(Parameters):
    """A GPU server out of the pool and back to its host."""

    vcenter: Name
    name: Name
    deadline_s: Deadline = 3600
    """What its leases are given to end."""
    delete_vm: bool = True
    passthrough_off: bool = False
    ssh: Ssh = Ssh()


class AttachPvrdma(Parameters):
    """A PVRDMA adapter for a GPU server that exists; it is drained and off for a moment."""

    vcenter: Name
    name: Name
    network: Name
    protocol: Annotated[str, Field(pattern="^rocev[12]$")] = "rocev2"
    deadline_s: Deadline = 3600


class ClientMachine(Parameters):
    """The machine of a client: a VM of a vCenter, or any Linux machine by its address."""

    vcenter: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    vm: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    address: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    ssh: Ssh = Ssh()

    @model_validator(mode="after")
    def _named(self) -> ClientMachine:
        if bool(self.vm) != bool(self.vcenter):
            raise ValueError("vcenter and vm go together")
        if not self.vm and not self.address:
            raise ValueError("name a vm of a vcenter, or an address")
        return self


class EnableClient(ClientMachine):
    """A machine's programs may use the pool."""

    group: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    name: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    """The client's name; default: the VM's, or the address."""
    environment: Variables = {}


class DisableClient(ClientMachine):
    """The way back."""

    client: Annotated[str, Field(max_length=200), AfterValidator(printable)] = ""
    """The client's name or id; default: the VM's name, or the address."""


class Passthrough(Parameters):
    """Passthrough of a host's GPUs on or off, through maintenance mode and reboot where it needs them."""

    vcenter: Name
    host: Name
    gpus: Annotated[list[Name], Field(max_length=64)] = []
    """PCI addresses; default: all GPUs of the host."""
    on: bool = True


class UpgradeServers(Parameters):
    """The daemon of some or all servers, rolling.

    `by`: over SSH, or by an order to the daemon, whose machine fetches the bundle itself."""

    servers: Annotated[list[Name], Field(max_length=1000)] = []
    deadline_s: Deadline = 3600
    at_once: Annotated[int, Field(ge=1, le=50)] = 1
    by: Literal["ssh", "order"] = "ssh"
    ssh: Ssh = Ssh()


class UpgradeClients(Parameters):
    """The agent of some or all clients, rolling.

    `deadline_s`: how long the leases of a batch's clients are waited for; 0: not at all, they go on over the upgrade.
    """

    clients: Annotated[list[Name], Field(max_length=10000)] = []
    deadline_s: Deadline = 0
    at_once: Annotated[int, Field(ge=1, le=50)] = 10
    by: Literal["ssh", "order"] = "ssh"
    ssh: Ssh = Ssh()


class AcceptServer(Parameters):
    """The acceptance test of a server that is there already."""

    server: Name
    ssh: Ssh = Ssh()


def split_secrets(parameters: Parameters) -> tuple[dict[str, Any], dict[str, str]]:
    """(what may be shown and stored in clear, the secrets of `ssh`)."""
    shown = parameters.model_dump(mode="json")
    secrets: dict[str, str] = {}
    ssh = getattr(parameters, "ssh", None)
    for field in ("key", "password", "sudo_password"):
        value = getattr(ssh, field, None)
        if value is not None:
            secrets[field] = value.get_secret_value()
        if "ssh" in shown:
            shown["ssh"].pop(field, None)
    return shown, secrets
