"""A site with a simulated vCenter: start runs, wait for them, kill the appliance, and look at what became of it all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from service_site import ServiceSite

from vcenter import simulator
from vcenter.simulator import GuestKind, Simulation

OVER = {"succeeded", "failed", "cancelled", "rolled-back"}
PATIENCE_S = 240.0


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """What the condition gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class ProvisioningSite(ServiceSite):
    """`simulation` is the vCenter `lab` of the site."""

    simulation: Simulation
    vcenter: str

    def add_vcenter(self, simulation: Simulation) -> None:
        self.simulation = simulation
        wanted = {
            "name": "lab",
            "address": f"{simulation.host}:{simulation.port}",
            "username": simulation.user,
            "password": simulation.password,
            "fingerprint": simulation.thumbprint,
        }
        self.vcenter = self.post("/v1/vcenters", wanted, 201)["id"]

    def post(self, path: str, content: Any = None, status: int = 200) -> Any:
        with self.api as api:
            answer = api.post(path, json=content)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        with self.api as api:
            answer = api.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def start(self, kind: str, **parameters: Any) -> str:
        return str(self.post("/v1/runs", {"kind": kind, "parameters": parameters}, 202)["id"])

    def run(self, id_: str) -> Any:
        return self.get(f"/v1/runs/{id_}")

    def ended(self, id_: str) -> Any:
        """The run when it is over."""

        def over() -> Any:
            run = self.run(id_)
            return run if run["state"] in OVER else None

        return until(over, f"{id_} is over")

    def succeeded(self, id_: str) -> Any:
        run = self.ended(id_)
        assert run["state"] == "succeeded", (run["error"], run["remedy"], run["steps"], self.log())
        return run

    def log(self) -> str:
        return "".join(path.read_text()[-4000:] for path in sorted(self.output.glob("*.log")))

    def inventory(self) -> Any:
        def answered() -> Any:
            with self.api as api:
                answer = api.get(f"/v1/vcenters/{self.vcenter}/inventory")
            return answer.json() if answer.status_code == 200 else None

        return until(answered, "an inventory")

    def host(self, name: str) -> Any:
        return next(host for host in self.inventory()["hosts"] if host["name"] == name)


@contextlib.contextmanager
def provisioning_site(
    folder: Path, database: str, *, pace: float = 0.005, guests: GuestKind = GuestKind.PAPER, inventory: Any = None
) -> Iterator[ProvisioningSite]:
    """A running appliance that knows a simulated vCenter."""
    with simulator.start(inventory, pace=pace, guests=guests) as simulation:
        site = ProvisioningSite(folder / "site", database)
        try:
            site.serve()
            site.await_up(PATIENCE_S)
            site.add_vcenter(simulation)
            yield site
        finally:
            site.close()
