"""Targets that cannot be deployed to, over a real sshd: the error says what is wrong, the target stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from deploy_site import PASSWORD, DeploySite, Guest

from appliance.deploy.check import check
from appliance.deploy.deployment import Progress, deploy, inspect, needs_of, uninstall
from appliance.deploy.errors import (
    BundleRefusedError,
    DeployError,
    HostKeyChangedError,
    HostKeyUnknownError,
    LoginRefusedError,
    NoSpaceError,
    TargetUnfitError,
    TicketRefusedError,
    UnreachableError,
)
from appliance.deploy.ssh import Target, learn_host_key

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture(scope="module")
def machine(deploy_site: DeploySite) -> Iterator[Guest]:
    """One guest for all tests that leave it as it was."""
    made = deploy_site.guests.new()
    yield made
    deploy_site.guests.off(made)


def refused(site: DeploySite, target: Target, kind: type[DeployError]) -> DeployError:
    with pytest.raises(kind) as caught:
        deploy(target, site.bundle, "client", site.settings, site.ticket())
    assert caught.value.target == target.shown
    return caught.value


def test_an_unknown_host_key_is_shown_for_confirmation(deploy_site: DeploySite, machine: Guest) -> None:
    unknown = refused(deploy_site, replace(machine.target, host_key=None), HostKeyUnknownError)
    assert isinstance(unknown, HostKeyUnknownError)
    assert unknown.host_key == machine.target.host_key
    shown = machine.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").output.split()[1]
    assert unknown.fingerprint == shown
    assert learn_host_key(machine.target) == (unknown.host_key, shown)
    # A fingerprint pins as well as the key itself.
    assert check(replace(machine.target, host_key=shown), needs_of(deploy_site.bundle, "client")) == ()


def test_a_changed_host_key_is_never_accepted(deploy_site: DeploySite, machine: Guest) -> None:
    changed = refused(deploy_site, replace(machine.target, host_key=OTHER_KEY), HostKeyChangedError)
    assert isinstance(changed, HostKeyChangedError)
    assert changed.fingerprint == learn_host_key(machine.target)[1] != changed.expected
    rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7"
    refused(deploy_site, replace(machine.target, host_key=rsa), HostKeyChangedError)


def test_wrong_credentials(deploy_site: DeploySite, machine: Guest) -> None:
    by_password = machine.sees("ferry", key=None, password="wrong", port=2222)
    assert "password" in str(refused(deploy_site, by_password, LoginRefusedError))
    assert check(replace(by_password, password=PASSWORD), needs_of(deploy_site.bundle, "client")) == ()
    assert "no private key" in str(refused(deploy_site, replace(machine.target, key="nonsense"), LoginRefusedError))
    refused(deploy_site, replace(machine.target, key=None), LoginRefusedError)
    refused(deploy_site, machine.sees("nobody-here"), LoginRefusedError)
    refused(deploy_site, machine.sees(port=2), UnreachableError)


def test_without_sudo(deploy_site: DeploySite, machine: Guest) -> None:
    needs = needs_of(deploy_site.bundle, "client")
    for target in (
        machine.sees("plain"),
        machine.sees("plain", sudo_password="whatever"),
        machine.sees("asked"),
        machine.sees("asked", sudo_password="wrong"),
    ):
        [finding] = check(target, needs)
        assert (finding.what, finding.wanted) == ("root", f"sudo for {target.user}"), finding
        refused(deploy_site, target, TargetUnfitError)
    assert check(machine.sees("asked", sudo_password=PASSWORD), needs) == ()
    assert check(machine.sees("ferry"), needs) == ()
    # A password that sudo does not ask for does no harm.
    assert check(machine.sees("ferry", sudo_password="superfluous"), needs) == ()


def test_all_that_is_wrong_is_said_at_once(deploy_site: DeploySite, guest: Guest) -> None:
    guest.run(
        "mv /usr/bin/date /usr/bin/real-date; printf '#!/bin/sh\\necho 1000000000\\n' > /usr/bin/date; "
        "chmod 755 /usr/bin/date; mkdir -p /opt; mount -t tmpfs -o size=8m small /opt; rm -f /usr/bin/python3*"
    )
    needs = replace(needs_of(deploy_site.bundle, "client"), reach=("127.0.0.1:1",), glibc="2.99", architecture="sparc")
    findings = check(guest.sees("plain"), needs)
    said = {each.what: each.measured for each in findings}
    assert set(said) == {"architecture", "glibc", "Python", "disk of /opt", "clock", "network", "root"}
    assert said["disk of /opt"].startswith(("7 MiB", "8 MiB"))
    assert "behind" in said["clock"]
    assert all(each.remedy for each in findings)
    with pytest.raises(TargetUnfitError) as unfit:
        deploy(guest.target, deploy_site.bundle, "client", replace(deploy_site.settings, reach=("127.0.0.1:1",)))
    assert {each.what for each in unfit.value.findings} == {"Python", "disk of /opt", "clock", "network"}
    assert "gpuferry" not in guest.run("ls -a /opt /root").output


def test_a_bundle_with_a_wrong_signature(deploy_site: DeploySite, machine: Guest) -> None:
    before = machine.files()
    good = deploy_site.bundle
    bundle = type(good)(good.path, good.key)
    bundle.signature = bytes([bundle.signature[0] ^ 1]) + bundle.signature[1:]
    site = DeploySite(deploy_site.site, bundle, deploy_site.guests)
    assert "not signed" in str(refused(site, machine.target, BundleRefusedError))
    # A manifest that was changed is one whose signature is wrong.
    bundle = type(good)(good.path, good.key)
    bundle.raw = bundle.raw.replace(good.version.encode(), b"9.9.9")
    refused(DeploySite(deploy_site.site, bundle, deploy_site.guests), machine.target, BundleRefusedError)
    # And a file that is not the one that was signed.
    bundle = type(good)(good.path, good.key)
    wheel = next(each for each in bundle.manifest.files if each.name.startswith("client/"))
    true = bundle.read
    bundle.read = lambda file: true(file)[:-1] + b"!" if file == wheel else true(file)  # type: ignore[method-assign]
    wrong = refused(DeploySite(deploy_site.site, bundle, deploy_site.guests), machine.target, BundleRefusedError)
    assert wheel.name in str(wrong)
    assert machine.files() == before
    assert machine.run("getent passwd gpuferry || echo none").output.strip() == "none"


def test_a_ticket_works_once(deploy_site: DeploySite, machine: Guest, guest: Guest) -> None:
    before = machine.files()
    ticket = deploy_site.ticket()
    deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings, ticket)
    with pytest.raises(TicketRefusedError, match="was used"):
        deploy(machine.target, deploy_site.bundle, "client", deploy_site.settings, ticket)
    assert machine.files() == before
    assert inspect(machine.target, "client") is None
    # Without one a machine cannot be enrolled, and nothing of the attempt stays either.
    with pytest.raises(TicketRefusedError):
        deploy(machine.target, deploy_site.bundle, "client", deploy_site.settings)
    assert machine.files() == before


def test_no_space(deploy_site: DeploySite, guest: Guest) -> None:
    guest.run("mkdir -p /opt; mount -t tmpfs -o size=90m small /opt")
    before = guest.files()

    def fill(progress: Progress) -> None:
        if "copying installer" in progress.text:
            guest.run("head -c 89m /dev/zero > /opt/filler 2>/dev/null || true")

    with pytest.raises(NoSpaceError):
        deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket(), fill)
    assert guest.files() == before
    guest.run(
        "rm /opt/filler; mkdir -m 700 ~root/.gpuferry-deploy; mount -t tmpfs -o size=1m tiny ~root/.gpuferry-deploy"
    )
    with pytest.raises(NoSpaceError):
        deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket())
    guest.run("umount ~root/.gpuferry-deploy")
    assert deploy(guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket()).changed
    uninstall(guest.target, "client")
    assert guest.files() == before


def test_through_a_jump_host(deploy_site: DeploySite, machine: Guest, guest: Guest) -> None:
    before = guest.files()
    through = replace(guest.target, jump=machine.sees("plain"))
    deployed = deploy(through, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket())
    assert deployed.changed
    assert "10.213" in guest.run("cat /var/log/sshd.log").output
    assert machine.address in guest.run("cat /var/log/sshd.log").output
    unknown = replace(guest.target, jump=replace(machine.target, host_key=None))
    with pytest.raises(HostKeyUnknownError) as caught:
        uninstall(unknown, "client")
    assert caught.value.target == machine.address
    with pytest.raises(UnreachableError, match="jump host"):
        inspect(replace(through, port=1), "client")
    assert uninstall(through, "client")
    assert guest.files() == before
