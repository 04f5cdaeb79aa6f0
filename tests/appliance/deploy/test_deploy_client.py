"""Deploying the client to sandboxed guests over a real sshd: install, repeat, change, upgrade, roll back, uninstall."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from altered_bundle import altered
from deploy_site import DeploySite, Guest
from service_site import LOST_AFTER_S

from appliance.deploy.check import check
from appliance.deploy.deployment import Progress, deploy, inspect, installed, needs_of, uninstall
from appliance.deploy.errors import BrokenOffError, DeployError, NotConfirmedError, UnreachableError


def test_install_repeat_and_uninstall(deploy_site: DeploySite, guest: Guest) -> None:
    before = guest.files()
    assert check(guest.target, needs_of(deploy_site.bundle, "client", deploy_site.settings)) == ()
    assert installed(guest.target) is None
    told: list[Progress] = []
    first = deploy(
        guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket(name="one"), told.append
    )
    assert (first.version, first.changed, first.services) == (deploy_site.bundle.version, True, ("gpuferry-agent",))
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert (told[0].done, told[-1].done) == (0.0, 1.0)
    [client] = [each for each in deploy_site.clients() if each["name"] == "one"]
    assert (client["id"], client["agent_version"]) == (first.peer, first.version)
    assert guest.run("gpuferry version").output.startswith(f"gpuferry {first.version}")
    assert "one" in guest.run("gpuferry list servers >/dev/null; gpuferry list leases >/dev/null && echo one").output
    # The agent is nobody special, and strangers cannot read the machine's key.
    assert guest.run("ps -o user= -p $(pgrep -f '[b]in/gpuferry agent')").output.strip() == "gpuferry"
    assert guest.run("stat -c '%a %U:%G' /etc/gpuferry/identity.json").output.strip() == "640 root:gpuferry"
    assert guest.run("ls -a ~ | grep -c gpuferry-deploy || true").output.strip() == "0"

    pid = guest.run("pgrep -f '[b]in/gpuferry agent'").output
    again = deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings)
    assert again == replace(first, changed=False)
    assert guest.run("pgrep -f '[b]in/gpuferry agent'").output == pid

    assert uninstall(guest.target, "client") is True
    assert guest.files() == before
    assert guest.run("pgrep -f '[g]puferry' || echo none").output.strip() == "none"
    assert guest.run("getent passwd gpuferry; getent group gpuferry; echo end").output.strip() == "end"
    assert uninstall(guest.target, "client") is False
    assert inspect(guest.target, "client") is None


def test_upgrade_and_going_back(deploy_site: DeploySite, guest: Guest) -> None:
    site, settings = deploy_site.site, deploy_site.settings
    newer = altered(deploy_site.bundle, site.folder, "0.9.1", "client", {})
    deploy(guest.target, deploy_site.bundle, "client", settings, deploy_site.ticket(name="two"))
    upgraded = deploy(guest.target, newer, "client", settings)
    assert (upgraded.version, upgraded.changed) == ("0.9.1", True)
    assert "0.9.1" in guest.run("gpuferry version").output
    [client] = [each for each in deploy_site.clients() if each["name"] == "two"]
    assert (client["id"], client["agent_version"]) == (upgraded.peer, "0.9.1")
    # A version may be gone back to, and the settings be changed without a new version.
    changed = replace(settings, esxi_host="esx-07.example.test")
    back = deploy(guest.target, deploy_site.bundle, "client", changed)
    assert (back.version, back.changed, back.peer) == (deploy_site.bundle.version, True, upgraded.peer)
    assert guest.run("cat /etc/gpuferry/host").output.strip() == "esx-07.example.test"
    assert deploy(guest.target, deploy_site.bundle, "client", changed) == replace(back, changed=False)
    assert len(guest.run("ls /opt/gpuferry/client/versions").output.split()) == 2


BROKEN = """
import sys

def agent_main(arguments):
    sys.stderr.write("gpuferry: this version cannot work\\n")
    return 3
"""
NEVER_CONNECTS = """
import threading

def agent_main(arguments):
    threading.Event().wait()
"""


def test_a_failed_upgrade_is_rolled_back(deploy_site: DeploySite, guest: Guest) -> None:
    site, settings = deploy_site.site, replace(deploy_site.settings, verify_s=6.0)
    first = deploy(guest.target, deploy_site.bundle, "client", settings, deploy_site.ticket(name="three"))
    before = guest.files()
    for at, (text, said) in enumerate(((BROKEN, "this version cannot work"), (NEVER_CONNECTS, "says nothing"))):
        bad = altered(
            deploy_site.bundle, site.folder, f"0.9.{2 + at}", "client", {"clientagent/pool_commands.py": text}
        )
        with pytest.raises(NotConfirmedError, match="is in use again and connected") as caught:
            deploy(guest.target, bad, "client", settings)
        assert said in str(caught.value)
        there = inspect(guest.target, "client")
        assert there is not None
        assert (there.version, there.running, there.state, there.peer) == (first.version, True, "connected", first.peer)
        assert guest.files() - before == {"/var/log/gpuferry/gpuferry-agent.log"}
    assert deploy(guest.target, deploy_site.bundle, "client", settings) == replace(first, changed=False)


def test_a_first_installation_that_fails_leaves_nothing(deploy_site: DeploySite, guest: Guest) -> None:
    before = guest.files()
    bad = altered(
        deploy_site.bundle,
        deploy_site.site.folder,
        "0.9.9",
        "client",
        {"clientagent/control.py": "raise SystemExit(1)\n"},
    )
    with pytest.raises(DeployError):
        deploy(guest.target, bad, "client", deploy_site.settings, deploy_site.ticket())
    assert guest.files() == before
    assert inspect(guest.target, "client") is None


def test_a_revoked_client_is_enrolled_again(deploy_site: DeploySite, guest: Guest) -> None:
    settings = replace(deploy_site.settings, name="four")
    first = deploy(guest.target, deploy_site.bundle, "client", settings, deploy_site.ticket(name="four"))
    with deploy_site.site.api as api:
        tag = api.get(f"/v1/clients/{first.peer}").headers["ETag"]
        assert api.delete(f"/v1/clients/{first.peer}", headers={"If-Match": tag}).status_code == 204
    deadline = time.monotonic() + 60
    while (there := inspect(guest.target, "client")) and there.state != "refused":
        assert time.monotonic() < deadline, there
        time.sleep(0.2)
    made: list[str] = []

    def ticket() -> str:
        made.append(deploy_site.ticket(name="four"))
        return made[-1]

    again = deploy(guest.target, deploy_site.bundle, "client", settings, ticket)
    assert again.changed
    assert len(made) == 1
    assert deploy(guest.target, deploy_site.bundle, "client", settings, ticket) == replace(again, changed=False)
    assert len(made) == 1


def test_a_target_that_dies_in_mid_copy_keeps_its_version(deploy_site: DeploySite, guest: Guest) -> None:
    settings = deploy_site.settings
    first = deploy(guest.target, deploy_site.bundle, "client", settings, deploy_site.ticket(name="five"))
    newer = altered(deploy_site.bundle, deploy_site.site.folder, "0.9.5", "client", {})

    def dying(where: str, least: float) -> Callable[[Progress], None]:
        died: list[str] = []

        def note(progress: Progress) -> None:
            if where in progress.text and progress.done >= least and not died:
                died.append(where)
                deploy_site.guests.off(guest)

        return note

    # Half of the files are there, then the power goes.
    with pytest.raises((BrokenOffError, UnreachableError)):
        deploy(guest.target, newer, "client", settings, on_progress=dying("copying", 0.3))
    guest.on(deploy_site.guests)
    there = inspect(guest.target, "client")
    assert there is not None
    assert (there.version, there.running, there.peer) == (first.version, True, first.peer)
    assert guest.run("ls ~/.gpuferry-deploy").output

    # The new version was switched to, and never confirmed: it is put back before anything else is done.
    idle = {"clientagent/pool_commands.py": NEVER_CONNECTS}
    never = altered(deploy_site.bundle, deploy_site.site.folder, "0.9.6", "client", idle)
    with pytest.raises((BrokenOffError, UnreachableError)):
        deploy(guest.target, never, "client", settings, on_progress=dying("welcome", 0.0))
    guest.on(deploy_site.guests)
    assert guest.run("ls /opt/gpuferry/client/pending.json").output
    again = deploy(guest.target, newer, "client", settings)
    assert (again.version, again.changed, again.peer) == ("0.9.5", True, first.peer)
    assert "0.9.6" not in guest.run("ls /opt/gpuferry/client/versions").output
    assert guest.run("ls -a ~ | grep -c gpuferry-deploy || true").output.strip() == "0"
    assert guest.run("ls -A /opt/gpuferry/client").output.split() == [".lock", "current", "versions"]


def test_a_requested_lease_outlives_key_version_and_appliance(deploy_site: DeploySite, guest: Guest) -> None:
    site = deploy_site.site
    altered(deploy_site.bundle, site.folder, "0.9.7", "client", {}, "bundles")
    os.utime(site.folder / "bundles/client-0.9.7.gpuferry", (0, 0))  # offered, and not the newest
    site.daemon("gpus-of-a-test", 1)
    first = deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket(name="holds"))
    before = guest.run("cat /etc/gpuferry/identity.json").output
    guest.run("gpuferry request -n 1 -m 1024 --timeout 2m")
    [held] = leases(guest)

    def events(kind: str) -> list[str]:
        with site.api as api:
            answer = api.get("/v1/events", params={"kind": kind, "subject": first.peer})
        return [each["text"] for each in answer.json()["items"]]

    def order(what: str, **content: str) -> None:
        with site.api as api:
            answer = api.post(f"/v1/clients/{first.peer}/{what}", json=content or None)
        assert answer.status_code == 202, answer.text

    order("renew-key")
    eventually(lambda: events("client.key-renewed"))
    assert guest.run("stat -c '%a %U:%G' /var/lib/gpuferry/client/*.renewed-key.json").output == (
        "640 gpuferry:gpuferry\n"
    )
    assert guest.run("cat /etc/gpuferry/identity.json").output == before
    assert leases(guest) == [held]

    order("upgrade", version="0.9.7")
    eventually(lambda: any("version 0.9.7 is installed" in each for each in events("client.upgrade")))
    there = inspect(guest.target, "client")
    assert there is not None
    assert (there.version, there.running, there.state, there.peer) == ("0.9.7", True, "connected", first.peer)
    assert leases(guest) == [held]

    site.kill("appliance")
    time.sleep(LOST_AFTER_S + 2)
    assert guest.run("pgrep -f '[b]in/gpuferry agent'").output
    site.serve()
    site.await_up()
    eventually(lambda: leases(guest) == [held])
    guest.run("gpuferry release")
    assert leases(guest) == []
    # A machine that is deployed to again keeps the key that it has.
    assert deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings).peer == first.peer
    assert uninstall(guest.target, "client")
    assert "/var/lib/gpuferry" not in guest.files()


def leases(guest: Guest) -> list[str]:
    """The active leases of the machine."""
    rows = json.loads(guest.run("gpuferry list leases --json").output)
    return [row["lease"] for row in rows if row["state"] == "active"]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
