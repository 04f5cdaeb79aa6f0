"""The roles on bare machines with a real sshd, without a vCenter: Ansible's own connection is the only way to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_site import DeploySite, Guest, guests_of, sandbox_missing
from playing import Control, Played, environment_of
from provisioned import OVERLAID, PACKAGES, PROGRAMS, SOFTWARE
from service_site import ServiceSite

from appliance.deploy.building import build_bundle

SERVER, CLIENT, APPLIANCE = "bare-1", "station-1", "manager-1"
PROGRAM = f"PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {PROGRAMS}/compare_with_numpy.py"


@dataclass
class Bare:
    """An appliance, and machines that it cannot log in to."""

    deploy: DeploySite
    server: Guest
    client: Guest
    manager: Guest

    def get(self, path: str) -> list[dict[str, Any]]:
        with self.deploy.site.api as api:
            return list(api.get(path).json()["items"])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    if sandbox_missing():
        pytest.skip(sandbox_missing())
    folder: Path = tmp_path_factory.mktemp("bare")
    # Most folders of this machine are part of a guest already; these may lie elsewhere.
    seen = [each for each in (Path(sys.prefix), Path(sys.base_prefix), PROGRAMS) if each.parts[1] not in OVERLAID]
    with guests_of(folder, 3, seen) as guests:
        site = ServiceSite(folder / "site", f"sqlite:///{folder / 'appliance.db'}", guests.gateway)
        try:
            site.serve()
            bundle = build_bundle(site.folder, installed=True)
            site.await_up(120)
            yield Bare(DeploySite(site, bundle, guests), guests.new(), guests.new(), guests.new())
        finally:
            site.close()


@pytest.fixture(scope="module")
def control(bare: Bare, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Control:
    control = Control(tmp_path_factory.mktemp("control"), collections, environment_of(bare.deploy.site))
    (control.folder / "key").write_text(bare.deploy.guests.private)
    (control.folder / "key").chmod(0o600)
    guests = {SERVER: bare.server, CLIENT: bare.client, APPLIANCE: bare.manager}
    machines = {name: {"ansible_host": guest.address} for name, guest in guests.items()}
    for each in machines.values():
        each.update(
            ansible_user="ferry",
            ansible_ssh_private_key_file=str(control.folder / "key"),
            ansible_ssh_common_args="-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            ansible_python_interpreter="/usr/bin/python3",
        )
    (control.folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": machines}}))
    return control


def play(control: Control, *arguments: str, ok: bool = True, **more: dict[str, Any]) -> Played:
    """The roles that `more` names, each on its machine and with its variables."""
    plays: list[dict[str, Any]] = [
        {
            "hosts": host,
            "become": True,
            "gather_facts": False,
            "roles": [{"role": f"gpuferry.pool.{role}", **more.get(role, {})}],
        }
        for host, role in ((APPLIANCE, "appliance"), (SERVER, "gpu_server"), (CLIENT, "client"))
        if role in more
    ]
    (control.folder / "roles.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    return control.play("roles.yml", "--diff", *arguments, inventory="hosts.yml", ok=ok)


def changed(played: Played) -> list[tuple[str, str]]:
    return [(each.host, each.name.rpartition(" : ")[2]) for each in played.tasks if each.changed]


@pytest.mark.timeout(900)
def test_bare_machines_join_the_pool_and_leave_it(bare: Bare, control: Control) -> None:
    before = bare.server.files(), bare.client.files()
    server = {
        "gpu_server_driver": "softgpu",
        "gpu_server_environment": SOFTWARE,
        "gpu_server_python_path": [str(PACKAGES)],
        "gpu_server_drain_s": 0,
    }
    client = {"client_max_gpus": 2, "client_users": ["plain"]}

    foreseen = play(control, "--check", gpu_server=server, client=client)
    assert (bare.server.files(), bare.client.files()) == before, "check mode changes nothing"
    stood = play(control, gpu_server=server, client=client)
    wanted = [(SERVER, "Install and enrol"), (CLIENT, "Install and enrol")]
    users = (CLIENT, "Let people use GPUs in the machine's name")
    opened = [(SERVER, "Acceptance test"), (SERVER, "In service")]
    assert changed(stood) == [wanted[0], *opened, wanted[1], users, (CLIENT, "Group and quotas")]
    assert [(host, name.removesuffix(" (foreseen)")) for host, name in changed(foreseen)] == changed(stood)
    assert stood["Group and quotas"]["client"]["max_gpus"] == 2
    again = play(control, gpu_server=server, client=client)
    assert changed(again) == [], again.output
    [enrolled] = bare.get("/v1/servers")
    [test] = bare.get(f"/v1/servers/{enrolled['id']}/acceptance")
    assert test["passed"], test
    assert len(test["result"]["gpus"]) == 2
    assert again.output.count("changed=0") == 2

    output = bare.client.run(PROGRAM).output
    assert output.count("values equal NumPy's") == 2, output
    assert "gpuferry" in bare.client.run("id -nG plain").output.split()

    # What is configured otherwise is brought in line, and nothing else is touched; a machine whose key was revoked is
    # enrolled anew.
    fewer = {**server, "gpu_server_environment": {**SOFTWARE, "GPUFERRY_SOFTGPU_DEVICES": "1"}}
    [station] = bare.get("/v1/clients")
    with bare.deploy.site.api as api:
        assert api.delete(f"/v1/clients/{station['id']}", headers={"If-Match": "*"}).status_code == 204
    foreseen = play(control, "--check", gpu_server=fewer, client=client)
    anew = play(control, gpu_server=fewer, client=client)
    assert changed(anew)[:2] == changed(foreseen)[:2] == wanted
    steps = [list(each.diff["after"]) for each in foreseen.tasks if each.name.endswith(" : Install and enrol")]
    assert steps == [["configure", "start gpuferry-gpuserver"], ["enrol", "start gpuferry-agent"]]
    assert anew["Group and quotas"]["client"]["max_gpus"] == 2
    assert [each["name"] for each in bare.get("/v1/clients?revoked=false")] == [CLIENT]

    gone = {"gpu_server": {**server, "gpu_server_state": "absent"}, "client": {"client_state": "absent"}}
    foreseen, left = play(control, "--check", **gone), play(control, **gone)
    assert changed(foreseen) == changed(left)
    assert [name for _, name in changed(left)] == [
        "Drain",
        "Take gpuferry off the machine",
        "Forget the machine",
        "Take gpuferry off the machine",
        "Forget the machine",
    ]
    assert play(control, **gone).output.count("changed=0") == 2
    assert (bare.server.files(), bare.client.files()) == before
    assert bare.client.run("getent passwd gpuferry || echo none").output.strip() == "none"
    assert [each["state"] for each in bare.get("/v1/servers")] == ["revoked"]
    assert bare.get("/v1/clients?revoked=false") == []


def test_what_keeps_a_machine_out_is_told(bare: Bare, control: Control) -> None:
    def refused(become: bool = True, **options: Any) -> str:
        tasks = [{"name": "try", "gpuferry.pool.machine": {"role": "client", **options}}]
        (control.folder / "wrong.yml").write_text(
            yaml.safe_dump([{"hosts": CLIENT, "gather_facts": False, "become": become, "tasks": tasks}])
        )
        played = control.play("wrong.yml", inventory="hosts.yml", ok=False)
        [task] = played.tasks
        assert task.outcome == "failed", task.result
        return str(task.result["msg"])

    files = bare.client.files()
    assert f"machine {CLIENT}: it takes root to install services. Set `become: true`" in refused(become=False)
    assert "has no bundle of version 9.9 for a client. It has 0.1.0" in refused(version="9.9")
    assert "the bundle has no part nonsense. Build the bundle again" in refused(parts=["nonsense"])
    assert f"machine {CLIENT}: the appliance did not enrol this machine: not an enrolment ticket" in refused(ticket="x")
    assert "Check `appliance_url`" in refused(appliance_url="https://127.0.0.1:9", appliance_timeout=2)
    assert "value of role must be one of: client, server" in refused(role="gpu")
    assert bare.client.files() == files, "nothing is left of what failed"


@pytest.mark.timeout(900)
def test_an_appliance_from_nothing(bare: Bare, control: Control) -> None:
    before = bare.manager.files(), bare.client.files()
    made = build_bundle(control.folder, control.folder / "appliance.gpuferry", roles=("appliance",), installed=True)
    (control.folder / "appliance.gpuferry.key").write_text(made.key.hex())
    token, authority = control.folder / "admin.token", control.folder / "site-ca.pem"
    appliance = {
        "appliance_bundle": str(made.path),
        "appliance_admin_token_path": str(token),
        "appliance_ca_path": str(authority),
        "appliance_api_port": 14743,
        "appliance_bundle_options": ["--installed"],
    }
    foreseen = play(control, "--check", appliance=appliance)
    assert (bare.manager.files(), token.exists()) == (before[0], False), "check mode changes nothing"
    stood = play(control, appliance=appliance)
    wanted = [(APPLIANCE, "Install, make the site, serve"), (APPLIANCE, "Make the bundle for machines")]
    assert changed(stood) == changed(foreseen) == wanted
    secret = token.read_text().strip()
    assert secret.startswith("gft_")
    assert secret not in stood.output + repr(stood.tasks)
    assert token.stat().st_mode & 0o777 == 0o600
    assert stood[wanted[0][1]]["url"] == f"https://{bare.manager.address}:14743"
    assert "changed=0" in play(control, appliance=appliance).output
    refusal = play(control, appliance={**appliance, "appliance_api_port": 4743}, ok=False)
    assert "its site has api_port 14743, not 4743, since it was made." in refusal.output

    # A machine gets its client from the bundle that the new appliance made.
    own = {f"GPUFERRY_{name}": control.environment[f"GPUFERRY_{name}"] for name in ("URL", "TOKEN", "CA_PATH")}
    url = f"https://{bare.manager.address}:14743"
    control.environment.update(GPUFERRY_URL=url, GPUFERRY_TOKEN=secret, GPUFERRY_CA_PATH=str(authority))
    try:
        joined = play(control, client={})
        assert joined["Install and enrol"]["machine"]["standing"] == "connected"
        assert "health" in bare.client.run("gpuferry --help").output
        play(control, client={"client_state": "absent"})
    finally:
        control.environment.update(own)

    kept = play(control, appliance={"appliance_state": "absent"})
    assert changed(kept) == [(APPLIANCE, "Take the appliance off the machine")]
    assert "/var/lib/gpuferry-appliance" in bare.manager.files(), "keys and database outlive the program"
    authority.unlink()
    back = play(control, appliance=appliance)
    assert changed(back) == wanted[:1]
    assert token.read_text().strip() == secret, "the site is the one that was"
    assert authority.read_text().startswith("-----BEGIN CERTIFICATE")
    gone = {"appliance_state": "absent", "appliance_remove_site": True}
    foreseen, left = play(control, "--check", appliance=gone), play(control, appliance=gone)
    assert changed(left) == changed(foreseen) == [(APPLIANCE, "Take the appliance off the machine")]
    assert "changed=0" in play(control, appliance=gone).output
    assert (bare.manager.files(), bare.client.files()) == before
