"""The main job from the console alone: from a bare vCenter to CUDA programs in client VMs, and all the way back.

The guests are sandboxes with sshd, the appliance installs over real SSH, the daemon serves software GPUs. What is done
is done by keys and forms; the test itself only starts the programs in the client VMs, as their users would.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from console_site import (
    at_item,
    choose,
    confirm,
    console,
    form_for,
    go_to,
    in_state,
    newest,
    part,
    run_on_screen,
    showing,
    shows,
    until,
)
from provisioned import HOST, PACKAGES, PROGRAMS, GuestSite, guest_site
from provisioning_site import OVER
from textual.pilot import Pilot
from textual.widgets import Input, Select, Switch

from tui.app import ConsoleApp
from tui.calls import Document
from tui.dialogs.form import Form
from tui.inventory_tree import InventoryTree
from tui.listing import Listing
from tui.panes.leases import LeasesPane
from tui.panes.pool import PoolPane
from tui.panes.runs import RunsPane, part_done
from tui.panes.settings import SettingsPane
from tui.panes.vcenter import VcenterPane

SERVER = "gpu-server-1"
CLIENTS = ("client-01", "client-02")
FOR_A_RUN_S = 600.0


@pytest.mark.timeout(1500)
def test_from_a_bare_vcenter_to_programs_and_back(tmp_path: Path) -> None:
    with guest_site(tmp_path, f"sqlite:///{tmp_path}/appliance.db", bare=True) as site:
        asyncio.run(main_job(site))


async def main_job(site: GuestSite) -> None:
    async with console(site, VcenterPane, size=(160, 50)) as (app, pilot):
        await vcenter_added(site, app, pilot)
        await start(pilot, "host", HOST, "p")
        await run_to_its_end(pilot, await newest(pilot, site, "passthrough", HOST))
        await go_to(pilot, VcenterPane)
        tree = app.query_one(InventoryTree)
        await until(pilot, lambda: states(tree) == ["ready"] * 2, "passed through")

        await server_made(site, app, pilot)
        await clients_enabled(site, app, pilot)
        await programs_run(site, app, pilot)
        await adapter_added(site, app, pilot)

        for name in CLIENTS:
            await start(pilot, "vm", name, "x")
            await run_to_its_end(pilot, await newest(pilot, site, "disable-client", name))
        await start(pilot, "vm", SERVER, "x", minutes="0", passthrough_off=True)
        await run_to_its_end(pilot, await newest(pilot, site, "decommission-server", SERVER))
        await go_to(pilot, VcenterPane)
        await until(pilot, lambda: SERVER not in [each.document["name"] for each in tree.items("vm")], "the VM is gone")
        await until(pilot, lambda: states(tree) == ["off"] * 2, "as it was before")


def states(tree: InventoryTree) -> list[str]:
    """Of every GPU of the host."""
    return [each.document["state"] for each in tree.items("gpu") if each.document["host"] == HOST]


def fill(form: Form, values: dict[str, object]) -> None:
    for name, value in values.items():
        widget = form.query_one(f"#field-{name}")
        assert isinstance(widget, (Input, Select, Switch))
        widget.value = value


async def start(pilot: Pilot[int], kind: str, name: str, key: str, /, **values: object) -> None:
    """Open the form for something of the tree, fill it in, and start the run."""
    await go_to(pilot, VcenterPane)
    await at_item(pilot, kind, name)
    form = await form_for(pilot, key)
    fill(form, values)
    await until(pilot, lambda: not form.values()[1], "nothing is wrong in the form")
    await pilot.press("ctrl+s")
    await showing(pilot, RunsPane)


async def over(pilot: Pilot[int], id_: str) -> Document:
    """The run as the list shows it when it is over; what is done of it was seen to grow."""
    seen: list[float] = []

    def ended() -> bool:
        run = run_on_screen(pilot.app, id_)
        seen.append(part_done(run) if run else 0.0)
        return run is not None and run["state"] in OVER

    await until(pilot, ended, f"{id_} is over", FOR_A_RUN_S)
    assert seen == sorted(seen), seen
    run = run_on_screen(pilot.app, id_)
    assert run is not None
    return run


async def run_to_its_end(pilot: Pilot[int], id_: str) -> Document:
    run = await over(pilot, id_)
    assert run["state"] == "succeeded", (run["error"], run["remedy"])
    assert {step["state"] for step in run["steps"]} <= {"done", "skipped"}
    return run


async def vcenter_added(site: GuestSite, app: ConsoleApp, pilot: Pilot[int]) -> None:
    await until(pilot, lambda: shows(app, "no vCenter yet: press a to add one"), "what to do first")
    await pilot.press("a")
    await until(pilot, lambda: isinstance(app.screen, Form), "the form")
    assert isinstance(app.screen, Form)
    there = site.simulation
    wanted: dict[str, object] = {
        "name": "lab",
        "address": f"{there.host}:{there.port}",
        "username": there.user,
        "password": there.password,
        "fingerprint": there.thumbprint,
    }
    fill(app.screen, wanted)
    await until(pilot, lambda: not app.screen.query("#yes").first().disabled, "all is right")
    await pilot.press("ctrl+s")
    await until(pilot, lambda: shows(app, "vCenter lab", f"host {HOST}", "3 hosts, 6 GPUs"), "its inventory, unasked")


async def server_made(site: GuestSite, app: ConsoleApp, pilot: Pilot[int]) -> None:
    """Create the server; the run is cancelled under way, and retried: it goes on and comes to its end."""
    site.simulation.control.delay("CloneVM_Task", 4.0)
    await start(
        pilot,
        "host",
        HOST,
        "n",
        name=SERVER,
        network="dv-management",
        driver="softgpu",
        python_path=str(PACKAGES),
        environment="GPUFERRY_SOFTGPU_DEVICES=2 GPUFERRY_SOFTGPU_MEMORY_MIB=2048",
    )
    run = await newest(pilot, site, "provision-server", SERVER)
    await until(pilot, lambda: shows(app, "▶ running", "Create the server's virtual machine"), "live steps")
    await confirm(pilot, "c")
    cancelled = await in_state(pilot, run, "cancelled")
    assert cancelled["steps"][-1]["state"] == "pending"
    site.simulation.control.clear()
    await confirm(pilot, "t")
    await in_state(pilot, run, "queued", "running", "succeeded")
    await run_to_its_end(pilot, run)
    await go_to(pilot, PoolPane)
    await until(pilot, lambda: shows(app, f"● {SERVER}  ready", f"on {HOST}"), "in the pool")


async def clients_enabled(site: GuestSite, app: ConsoleApp, pilot: Pilot[int]) -> None:
    """Both at once. Nobody vouches for their host keys: their runs say so, and go on when the keys are confirmed."""
    await go_to(pilot, VcenterPane)
    for name in CLIENTS:
        await at_item(pilot, "vm", name)
        await pilot.press("space")
    await form_for(pilot, "e")
    assert shows(app, "Enable 2 clients")
    await pilot.press("ctrl+s")
    await showing(pilot, RunsPane)
    ids = [await newest(pilot, site, "enable-client", name) for name in CLIENTS]
    for id_ in ids:
        run = await over(pilot, id_)
        assert run["state"] == "failed"
        await choose(pilot, app.query_one("#runs", Listing), lambda each, id_=id_: each["id"] == id_)  # type: ignore[misc]
        await until(pilot, lambda: shows(app, "nobody has confirmed the SSH host key", "→ Compare it with"), "why")
    await go_to(pilot, SettingsPane)
    keys = await part(pilot, "host-keys")
    for _ in ids:
        chosen = await choose(pilot, keys, lambda each: not each["confirmed_at"])
        await confirm(pilot, "c")
        await until(pilot, lambda: keys.documents[chosen["id"]]["confirmed_at"], "confirmed")  # noqa: B023
    await go_to(pilot, RunsPane)
    for id_ in ids:
        await in_state(pilot, id_, "queued", "running", "succeeded")
        await run_to_its_end(pilot, id_)
    await go_to(pilot, LeasesPane)
    clients = await part(pilot, "clients")
    await until(pilot, lambda: sorted(each["name"] for each in clients.documents.values()) == list(CLIENTS), "enrolled")


async def programs_run(site: GuestSite, app: ConsoleApp, pilot: Pilot[int]) -> None:
    """A program in each client VM; those of one are seen while they run, and its results are right."""
    first, second = await asyncio.to_thread(addresses, site)
    await asyncio.to_thread(site.begin_steady, first)
    await go_to(pilot, LeasesPane)
    sessions = await part(pilot, "sessions")
    await choose(pilot, sessions, lambda each: bool(each["calls_s"] > 0), "its session's calls/s")
    assert shows(app, "▊ client-01", SERVER)
    command = (
        f"PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {PROGRAMS / 'compare_with_numpy.py'}"
    )
    output = await asyncio.to_thread(site.in_guest, second, command)
    assert output.count("values equal NumPy's") == 2, output
    assert await asyncio.to_thread(site.end_steady, first) > 0
    await until(pilot, lambda: not sessions.documents, "no program is left")


def addresses(site: GuestSite) -> list[str]:
    vms = {each["name"]: each["address"] for each in site.get(f"/v1/vcenters/{lab(site)}/inventory")["vms"]}
    return [vms[name] for name in CLIENTS]


def lab(site: GuestSite) -> str:
    (known,) = site.get("/v1/vcenters")["items"]
    return str(known["id"])


async def adapter_added(site: GuestSite, app: ConsoleApp, pilot: Pilot[int]) -> None:
    """A PVRDMA adapter for the server: off, changed, on again, and back in the pool."""
    await start(pilot, "vm", SERVER, "m", network="dv-pvrdma", minutes="0")
    run = await run_to_its_end(pilot, await newest(pilot, site, "attach-pvrdma", SERVER))
    assert {step["state"] for step in run["steps"]} == {"done"}
    await go_to(pilot, PoolPane)
    await until(pilot, lambda: shows(app, f"● {SERVER}  ready", f"on {HOST}"), "in the pool again")
