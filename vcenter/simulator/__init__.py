"""A simulated vCenter: a real HTTPS server that speaks vSphere's API, for tests, demonstrations and development.

with start() as vcenter:
    si = SmartConnect(host=vcenter.host, port=vcenter.port, user=vcenter.user, pwd=vcenter.password, ...)
    vcenter.control.fail("PowerOnVM_Task", step="power on", on="gpu-server-1")
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .certificate import make_certificate
from .control import Control
from .inventory import make_world, read_inventory
from .server import Server, Service
from .world import World


class Simulation:
    """A running simulated vCenter: where it is, who may log in, and the handles to it."""

    def __init__(
        self, world: World, server: Server, user: str, password: str, certificate_file: Path, sha256: str, sha1: str
    ) -> None:
        self.world = world
        self.server = server
        self.user = user
        self.password = password
        self.certificate_file = certificate_file
        self.thumbprint = sha256
        self.thumbprint_sha1 = sha1

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self.server.host

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server.port

    @property
    def url(self) -> str:
        """https://host:port"""
        return f"https://{self.host}:{self.port}"

    @property
    def control(self) -> Control:
        """Failures, delays, sessions: what a test may do to it."""
        return self.world.control


@contextlib.contextmanager
def start(
    inventory: "Path | str | dict[str, Any] | None" = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_version: str = "8.0.3.0",
    pace: float = 0.01,
) -> Iterator[Simulation]:
    """Runs a simulated vCenter in this process until the block ends.

    ``inventory`` is a file or a mapping (see vcenter.simulator.inventory), default three hosts with six GPUs; ``pace``
    is how many seconds one step of a task takes. Raises InventoryError, ValueError (API version), OSError (port).
    """
    content = read_inventory(inventory)
    world = make_world(content, api_version=api_version, pace=pace)
    directory = Path(tempfile.mkdtemp(prefix="gpuferry-vcenter-"))
    try:
        certificate = make_certificate(directory, ["localhost", "127.0.0.1", host])
        service = Service(world)
        server = Server(service.app, host, port, certificate.certificate_file, certificate.key_file)
        server.start()
        first = (content.get("users") or [{"name": "administrator@vsphere.local", "password": "VMware1!"}])[0]
        try:
            yield Simulation(
                world,
                server,
                first["name"],
                first["password"],
                certificate.certificate_file,
                certificate.sha256,
                certificate.sha1,
            )
        finally:
            world.close()
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
