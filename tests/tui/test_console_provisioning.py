"""vCenter and runs in the console, against a simulated vCenter: the tree, dry runs in forms, a run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from console_site import PATIENCE_S, ConsoleSite, opened, screen_text, showing, shows, until
from textual.pilot import Pilot
from textual.widgets import Button, Input

from tui.app import ConsoleApp
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.run_form import RunForm
from tui.inventory_tree import InventoryTree
from tui.listing import Listing
from tui.panes.runs import RunsPane, part_done
from tui.panes.vcenter import VcenterPane
from vcenter import simulator
from vcenter.simulator import GuestKind


@pytest.fixture(scope="module")
def vcenter_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    folder = tmp_path_factory.mktemp("vcenter")
    with simulator.start(None, pace=0.005, guests=GuestKind.PAPER) as simulation:
        site = ConsoleSite(folder / "site", f"sqlite:///{folder}/appliance.db")
        site.serve()
        try:
            site.await_up(PATIENCE_S)
            site.add_vcenter(simulation)
            yield site
        finally:
            site.close()


async def at_item(pilot: Pilot[int], kind: str, name: str) -> None:
    """Put the cursor of the tree on something."""
    tree = pilot.app.query_one(InventoryTree)
    await until(pilot, lambda: any(each.document["name"] == name for each in tree.items(kind)), f"{kind} {name}")
    node = next(
        node
        for node in tree.by_key.values()
        if node.data and node.data.kind == kind and node.data.document["name"] == name
    )
    tree.move_cursor(node)
    await until(pilot, lambda: tree.item is not None and tree.item.document["name"] == name)


def test_the_tree_says_state_and_next_step_and_is_filtered(vcenter_site: ConsoleSite) -> None:
    async def scenario() -> None:
        app = ConsoleApp(vcenter_site.profile(vcenter_site.admin_token))
        async with app.run_test(size=(140, 40)) as pilot:
            await opened(pilot)
            await pilot.press("2")
            await showing(pilot, VcenterPane)
            await at_item(pilot, "host", "esx-02.example.test")
            await until(pilot, lambda: shows(app, "datacenter DC0", "cluster gpu-cluster", "GPU L40S", "■ off"))
            assert shows(app, "passthrough on esx-02.example.test"), screen_text(app)
            await pilot.press("slash", *"esx-03", "enter")
            await until(pilot, lambda: not shows(app, "esx-02.example.test"))
            assert shows(app, "esx-03.example.test", "Tesla T4")
            await pilot.press("escape")
            await until(pilot, lambda: shows(app, "esx-02.example.test"))

    asyncio.run(scenario())


def test_passthrough_is_tried_as_a_dry_run_then_run_to_its_end(vcenter_site: ConsoleSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        app = ConsoleApp(site.profile(site.admin_token))
        async with app.run_test(size=(140, 44)) as pilot:
            await opened(pilot)
            await pilot.press("2")
            await showing(pilot, VcenterPane)
            await at_item(pilot, "host", "esx-02.example.test")
            await pilot.press("p")
            await until(pilot, lambda: isinstance(app.screen, RunForm))
            form = app.screen
            assert isinstance(form, RunForm)
            await until(pilot, lambda: form.previews and shows(app, "Dry run", "would"), "dry run")
            with site.api as api:
                assert (await asyncio.to_thread(api.get, "/v1/runs")).json()["items"] == []
            await pilot.press("ctrl+s")
            await showing(pilot, RunsPane)
            runs = app.query_one("#runs", Listing)
            await until(
                pilot,
                lambda: [each["state"] for each in runs.documents.values()] == ["succeeded"],
                "the run goes on and ends by itself on the screen",
            )
            await until(pilot, lambda: shows(app, "✔ succeeded", "passthrough", "Find the host", "100%"))
            (run,) = runs.documents.values()
            assert part_done(run) == 1.0
            # Asked to cancel what is over, the appliance says no, and the console says why.
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.click("#yes")
            await until(pilot, lambda: bool(app.screen.query("#problem.-there")), "refused")
            await pilot.press("escape", "2")
            await showing(pilot, VcenterPane)
            tree = app.query_one(InventoryTree)

            def states() -> list[str]:
                return [
                    each.document["state"]
                    for each in tree.items("gpu")
                    if each.document["host"] == "esx-02.example.test"
                ]

            await until(pilot, lambda: states() == ["ready", "ready"], "the tree shows it without being asked")

    asyncio.run(scenario())


def test_a_server_form_has_sane_defaults_and_checks_as_you_type(vcenter_site: ConsoleSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        app = ConsoleApp(site.profile(site.admin_token))
        async with app.run_test(size=(120, 50)) as pilot:
            await opened(pilot)
            await pilot.press("2")
            await showing(pilot, VcenterPane)
            await at_item(pilot, "host", "esx-01.example.test")
            await pilot.press("n")
            await until(pilot, lambda: isinstance(app.screen, RunForm))
            form = app.screen
            assert isinstance(form, RunForm)
            values, wrong = form.values()
            assert not wrong
            assert values["name"] == "gpu-01"
            assert len(values["gpus"]) == 2
            assert values["memory_mib"] >= 1.5 * 2 * 40 * 1024
            assert values["template"] == "gpuferry-template"
            await until(pilot, lambda: form.previews, "dry run")
            await until(pilot, lambda: shows(app, "Dry run"))
            form.query_one("#field-name", Input).value = "client-01"
            await until(pilot, lambda: shows(app, "there is a VM of this name already"))
            assert form.query_one("#yes", Button).disabled
            form.query_one("#field-name", Input).value = "gpu 1"
            await until(pilot, lambda: shows(app, "letters, digits"))
            form.query_one("#field-name", Input).value = "gpu-07"
            form.query_one("#field-cpus", Input).value = "many"
            await until(pilot, lambda: shows(app, "no whole number"))
            form.query_one("#field-cpus", Input).value = "12"
            await until(pilot, lambda: not form.query_one("#yes", Button).disabled)
            (call,) = form.calls(form.values()[0])
            assert call.body["parameters"]["cpus"] == 12
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            # Many clients at once: marked VMs become one run each.
            await at_item(pilot, "vm", "client-01")
            await pilot.press("space")
            await at_item(pilot, "vm", "client-02")
            await pilot.press("space", "e")
            await until(pilot, lambda: isinstance(app.screen, RunForm) and shows(app, "Enable 2 clients"))
            many = app.screen
            assert isinstance(many, RunForm)
            bodies = [each.body["parameters"]["vm"] for each in many.calls(many.values()[0])]
            assert sorted(bodies) == ["client-01", "client-02"]

    asyncio.run(scenario())
