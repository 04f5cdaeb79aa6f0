"""Deploying the client to sandboxed guests over a real sshd: install, repeat, change, upgrade, roll back, uninstall."""

from __future__ import annotations

from dataclasses import replace

from deploy_site import DeploySite, Guest

from appliance.deploy.check import check
from appliance.deploy.deployment import Progress, deploy, inspect, installed, needs_of, uninstall


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
