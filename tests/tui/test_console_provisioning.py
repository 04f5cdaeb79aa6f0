"""vCenter and runs in the console, against a simulated vCenter: the tree, forms with dry runs, runs to every end."""

from __future__ import annotations

import asyncio
from typing import Any

from console_site import (
    at_item,
    choose,
    confirm,
    console,
    form_for,
    go_to,
    in_state,
    newest,
    press_button,
    run_on_screen,
    showing,
    shows,
    until,
)
from provisioning_site import PATIENCE_S, ProvisioningSite
from textual.widgets import Button, Input, Select

from tui.app import ConsoleApp
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.form import Form
from tui.dialogs.run_form import RunForm
from tui.inventory_tree import InventoryTree
from tui.listing import Listing
from tui.panes.runs import RunsPane, part_done
from tui.panes.vcenter import VcenterPane

READY_HOST, AT_ONCE, NEEDS_REBOOT = (f"esx-0{number}.example.test" for number in (1, 2, 3))


def gpu_states(app: ConsoleApp, host: str) -> list[str]:
    gpus = app.query_one(InventoryTree).items("gpu")
    return [each.document["state"] for each in gpus if each.document["host"] == host]


def test_the_tree_says_state_and_next_step_and_is_filtered(vcenter_site: ProvisioningSite) -> None:
    async def scenario() -> None:
        async with console(vcenter_site, VcenterPane, size=(140, 40)) as (app, pilot):
            await at_item(pilot, "host", NEEDS_REBOOT)
            told = vcenter_site.host(NEEDS_REBOOT)["gpus"]
            await until(pilot, lambda: shows(app, "datacenter DC0", "cluster gpu-cluster", "GPU Tesla T4"))
            await until(pilot, lambda: gpu_states(app, NEEDS_REBOOT) == [each["state"] for each in told])
            steps = [each["next_step"] for each in told if each["next_step"]]
            labels = [str(node.label) for node in app.query_one(InventoryTree).by_key.values()]
            assert all(any(f"→ {each}" in label for label in labels) for each in steps), labels
            await pilot.press("slash", *"esx-03", "enter")
            await until(pilot, lambda: not shows(app, AT_ONCE))
            assert shows(app, NEEDS_REBOOT, "Tesla T4")
            await pilot.press("escape")
            await until(pilot, lambda: shows(app, AT_ONCE))

    asyncio.run(scenario())


def test_passthrough_is_tried_as_a_dry_run_then_run_to_its_end(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    def runs() -> list[Any]:
        return list(site.get(f"/v1/runs?kind=passthrough&subject={AT_ONCE}")["items"])

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(140, 44)) as (app, pilot):
            await at_item(pilot, "host", AT_ONCE)
            before = await asyncio.to_thread(runs)
            form = await form_for(pilot, "p")
            await until(pilot, lambda: shows(app, "Dry run", "Find the host"), "the dry run")
            assert await asyncio.to_thread(runs) == before, "a dry run leaves nothing behind"
            (call,) = form.calls(form.values()[0])
            assert call.command.startswith("gpuferry runs start passthrough vcenter=lab host=")
            await pilot.press("ctrl+s")
            await showing(pilot, RunsPane)
            id_ = await newest(pilot, site, "passthrough", AT_ONCE)
            run = await in_state(pilot, id_, "succeeded")
            await until(pilot, lambda: shows(app, "✔ succeeded", "passthrough", "Find the host", "100%"))
            assert part_done(run) == 1.0
            # Asked to cancel what is over, the appliance says no, and the console says why.
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await press_button(pilot)
            await until(pilot, lambda: bool(app.screen.query("#problem.-there")), "refused")
            await pilot.press("escape")
            await go_to(pilot, VcenterPane)
            await until(pilot, lambda: gpu_states(app, AT_ONCE) == ["ready", "ready"], "the tree shows it, unasked")

    asyncio.run(scenario())


def test_a_run_that_fails_says_why_is_retried_and_rolled_back(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site
    wrong = site.start("passthrough", vcenter="lab", host="esx-99")

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(240, 44)) as (app, pilot):
            await at_item(pilot, "host", NEEDS_REBOOT)
            await form_for(pilot, "p")
            site.simulation.control.fail("UpdatePassthruConfig")
            await pilot.press("ctrl+s")
            await showing(pilot, RunsPane)
            id_ = await newest(pilot, site, "passthrough", NEEDS_REBOOT)
            run = await in_state(pilot, id_, "failed")
            assert run["remedy"]
            first = " ".join(run["error"].split())[:60]
            await until(pilot, lambda: shows(app, "✖ failed", first, f"→ {run['remedy'][:40]}"), "why, and what to do")
            await confirm(pilot, "t")
            run = await in_state(pilot, id_, "succeeded")
            await until(pilot, lambda: shows(app, "✔ done ×2", "was rebooted"), "the second attempt, and what it did")
            await until(pilot, lambda: app.query_one("#log").lines, "the log beside the steps")  # type: ignore[attr-defined]
            await confirm(pilot, "b")
            run = await in_state(pilot, id_, "rolled-back")
            assert [each["state"] for each in run["steps"]] == ["done", "undone"]
            # One that can never go well.
            await choose(pilot, app.query_one("#runs", Listing), lambda each: each["id"] == wrong)
            await until(pilot, lambda: shows(app, "✖ failed", "esx-99", "→ "))

    asyncio.run(scenario())


def test_a_server_form_has_sane_defaults_and_checks_as_you_type(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(120, 50)) as (app, pilot):
            await at_item(pilot, "host", READY_HOST)
            form = await form_for(pilot, "n")
            values, wrong = form.values()
            assert not wrong
            assert values["name"].startswith("gpu-")
            assert len(values["gpus"]) == 2
            assert values["memory_mib"] >= 1.5 * 2 * 40 * 1024
            assert values["template"] == "gpuferry-template"
            await until(pilot, lambda: shows(app, "Dry run", "Create the server's virtual machine"), "the dry run")
            for name, typed, told in (
                ("name", "client-01", "there is a VM of this name already"),
                ("name", "gpu 1", "letters, digits"),
                ("name", "", "is needed"),
                ("name", "gpu-07", ""),
                ("cpus", "many", "no whole number"),
                ("cpus", "0", "at least 1"),
                ("cpus", "12", ""),
                ("environment", "DEBUG", "DEBUG is not NAME=VALUE"),
                ("environment", "GPUFERRY_LOG=debug A=b=c", ""),
                ("python_path", "/opt/cupy /srv/more", ""),
            ):
                form.query_one(f"#field-{name}", Input).value = typed
                button = form.query_one("#yes", Button)

                def said(told: str = told, button: Button = button) -> bool:
                    right = shows(app, told) if told else not form.query("#problem.-there")
                    return right and button.disabled == bool(told)

                await until(pilot, said, f"{name} {typed!r}: {told}")
            (call,) = form.calls(form.values()[0])
            assert call.body["parameters"]["cpus"] == 12
            assert call.body["parameters"]["environment"] == {"GPUFERRY_LOG": "debug", "A": "b=c"}
            assert call.body["parameters"]["python_path"] == ["/opt/cupy", "/srv/more"]
            # A network that is not there is refused by the appliance, in the form, before anything is done.
            form.query_one("#field-network", Select).value = "dv-clients"
            seen = form.previews
            await until(pilot, lambda: form.previews > seen, "tried again with the other network")
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)

    asyncio.run(scenario())


def test_many_machines_are_marked_and_become_a_run_each(vcenter_site: ProvisioningSite) -> None:
    async def scenario() -> None:
        async with console(vcenter_site, VcenterPane, size=(120, 50)) as (app, pilot):
            await at_item(pilot, "vm", "client-01")
            await pilot.press("space")
            await at_item(pilot, "vm", "client-02")
            await pilot.press("space")
            await until(pilot, lambda: shows(app, "☑ VM client-01", "☑ VM client-02"))
            await pilot.press("e")
            await until(pilot, lambda: isinstance(app.screen, RunForm) and shows(app, "Enable 2 clients"))
            many = app.screen
            assert isinstance(many, RunForm)
            bodies = [each.body["parameters"]["vm"] for each in many.calls(many.values()[0])]
            assert sorted(bodies) == ["client-01", "client-02"]
            await pilot.press("escape")

    asyncio.run(scenario())


def test_an_action_says_what_it_needs(vcenter_site: ProvisioningSite) -> None:
    async def scenario() -> None:
        async with console(vcenter_site, VcenterPane, size=(140, 44)) as (app, pilot):
            for kind, name, key, told in (
                ("vm", "client-01", "d", "Put the cursor on a GPU server's VM to drain it"),
                ("vm", "client-02", "x", "Put the cursor on a GPU server's VM or a client's VM"),
                ("vm", "gpuferry-template", "e", "Put the cursor on a VM, or mark several"),
                ("cluster", "gpu-cluster", "t", "Put the cursor on a host or a VM to tag it"),
                ("datacenter", "DC0", "p", "Put the cursor on a host with GPUs"),
            ):
                await at_item(pilot, kind, name)
                await pilot.press(key)
                await until(pilot, lambda told=told: any(told in each.message for each in app._notifications), told)  # type: ignore[misc]
                assert len(app.screen_stack) == 1

    asyncio.run(scenario())


def test_a_machine_is_tagged_and_the_tag_taken_off(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    def tag() -> str:
        return str(site.host(NEEDS_REBOOT)["tag"])

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(140, 44)) as (app, pilot):
            for wanted in ("gpu-server", ""):
                await at_item(pilot, "host", NEEDS_REBOOT)
                tree = app.query_one(InventoryTree)
                await until(pilot, lambda: tree.item and tree.item.document["tag"] != wanted)  # noqa: B023
                await pilot.press("t")
                await until(pilot, lambda: isinstance(app.screen, Form) and shows(app, "Set it"))
                await press_button(pilot)
                await until(pilot, lambda: len(app.screen_stack) == 1, "taken")
                shown = "tag gpu-server"
                await until(pilot, lambda: shows(app, shown) == bool(wanted), "the tree shows it")  # noqa: B023
                await until(pilot, lambda: tag() == wanted)  # noqa: B023

    asyncio.run(scenario())


def test_a_run_is_cancelled_and_taken_back(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(140, 44)) as (app, pilot):
            await at_item(pilot, "host", READY_HOST)
            form = await form_for(pilot, "n")
            name = form.values()[0]["name"]
            site.simulation.control.delay("CloneVM_Task", 4.0)
            await pilot.press("ctrl+s")
            await showing(pilot, RunsPane)
            id_ = await newest(pilot, site, "provision-server", name)
            await in_state(pilot, id_, "running")
            await until(pilot, lambda: shows(app, "▶ running", "Create the server's virtual machine"), "live steps")
            # The list learns of it by itself, a moment after the steps beside it.
            unknown = {"state": "", "steps": []}
            await until(pilot, lambda: 0.0 < part_done(run_on_screen(app, id_) or unknown) < 1.0, "a part is done")
            await confirm(pilot, "c")
            run = await in_state(pilot, id_, "cancelled")
            assert run["steps"][-1]["state"] == "pending"
            await confirm(pilot, "b")
            await in_state(pilot, id_, "rolled-back")
            await go_to(pilot, VcenterPane)
            tree = app.query_one(InventoryTree)
            await until(pilot, lambda: name not in [each.document["name"] for each in tree.items("vm")], "no VM left")

    asyncio.run(scenario())


def test_a_run_goes_on_where_it_was_when_the_appliance_was_killed(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        async with console(site, VcenterPane, size=(140, 44)) as (app, pilot):
            await at_item(pilot, "host", NEEDS_REBOOT)
            on = any(state.startswith(("off", "on after")) for state in gpu_states(app, NEEDS_REBOOT))
            await form_for(pilot, "p")
            site.simulation.control.delay("UpdatePassthruConfig", 5.0)
            await pilot.press("ctrl+s")
            await showing(pilot, RunsPane)
            id_ = await newest(pilot, site, "passthrough", NEEDS_REBOOT)
            await in_state(pilot, id_, "running")
            await asyncio.to_thread(site.kill, "appliance")
            await until(pilot, lambda: shows(app, "✖ not connected"), "lost")
            assert run_on_screen(app, id_), "what was read stays"
            site.serve()
            await asyncio.to_thread(site.await_up, PATIENCE_S)
            run = await in_state(pilot, id_, "succeeded")
            assert run["parameters"]["on"] == on
            assert shows(app, "● live")

    asyncio.run(scenario())
