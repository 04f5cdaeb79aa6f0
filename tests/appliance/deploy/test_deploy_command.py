"""`gpuferry appliance bundle | check | deploy | undeploy` on several guests at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deploy_site import DeploySite

from appliance.deploy.command import parse_host


def test_deploying_from_the_command_line(deploy_site: DeploySite, tmp_path: Path) -> None:
    site = deploy_site.site
    guests = [deploy_site.guests.new() for _ in range(3)]
    key = tmp_path / "key"
    key.write_text(deploy_site.guests.private)
    common = ["--data", str(site.folder), "--key", str(key), *(f"ferry@{each.address}" for each in guests[:2])]
    common.append(guests[2].address)

    shown = site.gpuferry("appliance", "bundle", "show", "--data", str(site.folder)).stdout
    assert "signature right" in shown

    unconfirmed = site.gpuferry("appliance", "deploy", *common, check=False)
    assert unconfirmed.returncode == 3
    fingerprints = re.findall(r"--accept (SHA256:\S+)", unconfirmed.stderr)
    assert len(set(fingerprints)) == 3
    assert all(not each.files() & {"/opt/gpuferry"} for each in guests)

    accept = [part for each in fingerprints for part in ("--accept", each)]
    checked = site.gpuferry("appliance", "check", *common, *accept)
    assert checked.stdout.count(": fit") == 3

    first = site.gpuferry("appliance", "deploy", *common)
    assert first.stdout.count(f"{deploy_site.bundle.version}, changed, client-") == 3
    assert "3 of 3 machines are as they should be" in first.stdout
    enrolled = {each["hostname"] for each in deploy_site.clients()}
    assert {each.run("hostname").output.strip() for each in guests} <= enrolled

    # One that is switched off keeps nobody else from being deployed to.
    deploy_site.guests.off(guests[2])
    again = site.gpuferry("appliance", "deploy", *common, check=False)
    assert again.returncode == 1
    assert again.stdout.count(", unchanged, client-") == 2
    assert "no SSH server answers" in again.stdout

    removed = site.gpuferry("appliance", "undeploy", *common[:-1])
    assert removed.stdout.count(": removed") == 2
    for each in guests[:2]:
        assert "/opt/gpuferry" not in each.files()
        deploy_site.guests.off(each)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("gpu.example.test", ("me", "gpu.example.test", 22)),
        ("root@10.1.2.3:2222", ("root", "10.1.2.3", 2222)),
        ("[2001:db8::1]:22", ("me", "2001:db8::1", 22)),
        ("you@2001:db8::1", ("you", "2001:db8::1", 22)),
    ],
)
def test_hosts_as_people_write_them(text: str, parsed: tuple[str, str, int]) -> None:
    assert parse_host(text, "me") == parsed


@pytest.mark.parametrize("text", ["", "root@", "host:port", "[::1]:x"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="USER@"):
        parse_host(text, "me")
