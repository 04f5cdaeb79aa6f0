"""The command line `gpuferry vcenter` against the simulated vCenter: tables, JSON, dry runs, errors, stored entries."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clientagent.command import main
from vcenter import stored
from vcenter.simulator import Simulation

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `gpuferry vcenter ...` with a configuration directory of its own; (status, output, errors)."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(stored.PASSWORD_VARIABLE, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["vcenter", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def added(run: Run, vcenter: Simulation, tmp_path: Path) -> Run:
    password = tmp_path / "password"
    password.write_text(f"{vcenter.password}\n")
    status, _, errors = run(
        "add", f"{vcenter.host}:{vcenter.port}", "--user", vcenter.user, "--name", "lab",
        "--thumbprint", vcenter.thumbprint, "--password-file", str(password),
    )  # fmt: skip
    assert status == 0, errors
    return run


def _json(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result[2]
    return json.loads(result[1])


def test_gpus_lists_every_card_with_host_state_and_next_step(added: Run) -> None:
    status, table, _ = added("gpus")
    assert status == 0
    found = _json(added("gpus", "--json"))
    assert len(found) == 6
    for gpu in found:
        line = next(row for row in table.splitlines() if gpu["host_name"] in row and gpu["address"] in row)
        for words in (gpu["name"], str(gpu["memory_mib"]), gpu["state"], gpu["next_step"]):
            assert words in line
    assert {gpu["state"] for gpu in found} == {"ready", "off", "on after reboot"}


def test_hosts(added: Run) -> None:
    found = _json(added("hosts", "--json"))
    assert [(host["name"], len(host["gpus"])) for host in found] == [
        ("esx-01.example.test", 2),
        ("esx-02.example.test", 2),
        ("esx-03.example.test", 2),
    ]
    assert "reboot required" in added("hosts")[1]


def test_passthrough_dry_run_then_for_real(added: Run, vcenter: Simulation) -> None:
    status, said, _ = added("passthrough", "on", "esx-03.example.test", "--dry-run")
    assert (status, vcenter.control.count("UpdatePassthruConfig")) == (0, 0)
    assert "passthrough of 0000:3c:00.0: off -> on" in said
    plan = _json(added("passthrough", "on", "esx-03.example.test", "--dry-run", "--json"))
    assert [change["what"] for change in plan["changes"]] == ["passthrough of 0000:3c:00.0"]
    status, _, errors = added("passthrough", "on", "esx-03.example.test")
    assert (status, vcenter.control.count("UpdatePassthruConfig")) == (1, 0)  # nobody to ask, no --yes
    assert "--yes" in errors
    done = _json(added("passthrough", "on", "esx-03.example.test", "--yes", "--json"))
    assert (done["applied"], done["rebooted"]) == (True, True)
    again = _json(added("passthrough", "on", "esx-03.example.test", "--yes", "--json"))
    assert (again["applied"], again["changes"]) == (False, [])


def test_a_server_from_creation_to_removal(added: Run, tmp_path: Path) -> None:
    key = tmp_path / "id.pub"
    key.write_text("ssh-ed25519 AAAAC3Nza admin@site\n")
    create = ["server", "create", "gpu-server-1", "--template", "gpuferry-template", "--network", "dv-management",
              "--rdma-network", "dv-pvrdma", "-n", "2", "--ssh-key", str(key)]  # fmt: skip
    plan = _json(added(*create, "--dry-run", "--json"))
    assert {"GPU", "adapter", "host", "datastore"} <= {change["what"] for change in plan["changes"]}
    assert _json(added("server", "list", "--json")) == []
    made = _json(added(*create, "--yes", "--json"))
    assert made["applied"] is True
    assert made["address"]
    servers = _json(added("server", "list", "--json"))
    assert [(s["name"], s["address"], len(s["gpus"])) for s in servers] == [("gpu-server-1", made["address"], 2)]
    tags = _json(added("tags", "list", "--json"))
    assert tags == [{"tag": "gpu-server", "kind": "VirtualMachine", "name": "gpu-server-1", "id": made["id"]}]
    assert _json(added(*create, "--yes", "--json"))["changes"] == []
    removed = _json(added("server", "remove", "gpu-server-1", "--yes", "--json"))
    assert removed["applied"] is True
    assert _json(added("server", "list", "--json")) == []
    assert _json(added("server", "remove", "gpu-server-1", "--yes", "--json"))["applied"] is False


def test_pvrdma(added: Run) -> None:
    assert [s["ready"] for s in _json(added("pvrdma", "status", "--json"))] == [False, False]
    assert _json(added("pvrdma", "host", "on", "esx-01.example.test", "--yes", "--json"))["applied"] is True
    assert [s["ready"] for s in _json(added("pvrdma", "status", "--json"))] == [True, False]
    adapter = ["pvrdma", "adapter", "add", "client-02", "--network", "dv-pvrdma", "--yes", "--json"]
    assert _json(added(*adapter))["applied"] is True
    assert _json(added(*adapter))["applied"] is False
    assert _json(added("pvrdma", "adapter", "remove", "client-02", "--yes", "--json"))["applied"] is True


def test_tags(added: Run) -> None:
    assert _json(added("tags", "define", "--yes", "--json"))["applied"] is True
    assert _json(added("tags", "set", "client", "client-01", "client-02", "--yes", "--json"))["applied"] is True
    assert [tag["name"] for tag in _json(added("tags", "list", "--json"))] == ["client-01", "client-02"]
    assert added("tags", "set", "client", "esx-01.example.test", "--yes")[0] == 1
    assert added("tags", "set", "boss", "client-01", "--yes")[0] == 1
    assert _json(added("tags", "clear", "client-01", "--yes", "--json"))["applied"] is True
    assert [tag["name"] for tag in _json(added("tags", "list", "--json"))] == ["client-02"]


def test_privileges(added: Run, vcenter: Simulation, tmp_path: Path) -> None:
    assert _json(added("privileges", "--json")) == []
    vcenter.control.restrict("less@vsphere.local", "pw", ["System.Anonymous", "System.View", "System.Read"])
    (tmp_path / "pw").write_text("pw\n")
    added("add", f"{vcenter.host}:{vcenter.port}", "--user", "less@vsphere.local", "--name", "less",
          "--thumbprint", vcenter.thumbprint, "--password-file", str(tmp_path / "pw"))  # fmt: skip
    status, output, _ = added("privileges", "--vcenter", "less", "--json")
    assert status == 1
    assert "Host.Config.PciPassthru" in {lack["privilege"] for lack in json.loads(output)}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("passthrough", "on", "nowhere", "--yes"), "NotFound"),
        (("passthrough", "maybe", "esx-01.example.test"), "InvalidRequest"),
        (("server", "create", "s", "--template", "t", "--network", "n", "--ova", "x", "--yes"), "InvalidRequest"),
        (("server", "create", "s", "--template", "nothing", "--network", "dv-management", "--yes"), "NotFound"),
        (("server", "create", "s", "--template", "gpuferry-template", "--network", "nowhere", "--yes"),
         "PortgroupMissing"),
        (("server", "create", "s", "--template", "gpuferry-template", "--network", "dv-management", "-n", "9", "--yes"),
         "NoCapacity"),
        (("server", "remove", "client-01", "--yes"), "InvalidRequest"),
        (("gpus", "--vcenter", "unknown"), "NotFound"),
        (("pvrdma", "adapter", "add", "client-02", "--network", "VM Network", "--yes"), "PvrdmaUnsupported"),
    ],
)  # fmt: skip
def test_errors_are_json_too_and_end_with_one(added: Run, arguments: tuple[str, ...], error: str) -> None:
    status, output, errors = added(*arguments, "--json")
    assert status == 1
    told = json.loads(output)
    assert told["error"] == error
    assert told["remedy"] in " ".join(errors.split("\n")) or told["remedy"].split()[0] in errors
    assert "Traceback" not in errors


def test_a_wrong_command_line(run: Run) -> None:
    assert run("gpuss")[0] == 2
    assert run("passthrough")[0] == 2
    status, output, _ = run("--help")
    assert status == 0
    for command in ("add", "hosts", "gpus", "passthrough", "server", "pvrdma", "tags", "simulate", "privileges"):
        assert command in output


def test_simulate_runs_a_vcenter_that_can_be_added(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "clientagent.command", "vcenter", "simulate", "--port", "0", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            monkeypatch.setenv(stored.PASSWORD_VARIABLE, facts["password"])
            status, _, errors = run("add", facts["url"], "--user", facts["user"], "--thumbprint", facts["thumbprint"])
            assert status == 0, errors
            assert len(_json(run("gpus", "--json"))) == 6
        finally:
            process.terminate()
    assert process.returncode == 0
    assert run("simulate", "--help")[0] == 0


# -- entries ---------------------------------------------------------------------------------------


def test_an_untrusted_certificate_is_never_taken_without_a_person(
    run: Run, vcenter: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stored.PASSWORD_VARIABLE, vcenter.password)
    status, _, errors = run("add", f"{vcenter.host}:{vcenter.port}", "--user", vcenter.user)
    assert status == 1
    assert vcenter.thumbprint.replace(":", "").lower() in errors.replace(":", "").lower()
    assert stored.load() == {}
    assert vcenter.control.calls == {}
    status, _, errors = run(
        "add", f"{vcenter.host}:{vcenter.port}", "--user", vcenter.user, "--ca-file", str(vcenter.certificate_file)
    )
    assert status == 0, errors


def test_a_person_compares_the_thumbprint(vcenter: Simulation, tmp_path: Path) -> None:
    """On a terminal the thumbprint is shown and asked about; no is no, yes pins it."""
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        stored.PASSWORD_VARIABLE: vcenter.password,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "clientagent.command", "vcenter", "add", f"{vcenter.host}:{vcenter.port}",
               "--user", vcenter.user, "--name", "lab"]  # fmt: skip
    path = tmp_path / "config" / "gpuferry" / "vcenters.json"
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        master, slave = pty.openpty()
        os.write(master, answer)
        done = subprocess.run(command, env=environment, stdin=slave, capture_output=True, timeout=60, check=False)
        os.close(master)
        os.close(slave)
        said = done.stderr.decode().replace(":", "").replace("\n", "").lower()
        assert vcenter.thumbprint.replace(":", "").lower() in said
        assert done.returncode == status, done.stderr.decode()
        assert path.exists() == (status == 0)
    assert stored.load(path)["lab"].thumbprint == vcenter.thumbprint.replace(":", "").lower()


def test_wrong_password_and_thumbprint(run: Run, vcenter: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stored.PASSWORD_VARIABLE, "wrong")
    address = f"{vcenter.host}:{vcenter.port}"
    status, output, _ = run("add", address, "--user", vcenter.user, "--thumbprint", vcenter.thumbprint, "--json")
    assert (status, json.loads(output)["error"]) == (1, "WrongPassword")
    status, output, _ = run("add", address, "--user", vcenter.user, "--thumbprint", "0" * 64, "--json")
    assert (status, json.loads(output)["error"]) == (1, "CertificateChanged")
    assert stored.load() == {}


def test_passwords_are_not_stored_unless_asked_for(
    run: Run, vcenter: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stored.PASSWORD_VARIABLE, vcenter.password)
    arguments = ["add", f"{vcenter.host}:{vcenter.port}", "--user", vcenter.user, "--thumbprint", vcenter.thumbprint]
    assert run(*arguments, "--name", "asked")[0] == 0
    assert vcenter.password not in stored.default_path().read_text()
    assert run(*arguments, "--name", "kept", "--store-password")[0] == 0
    assert stored.load()["kept"].password == vcenter.password
    assert stat.S_IMODE(stored.default_path().stat().st_mode) == 0o600
    status, output, _ = run("list", "--json")
    assert status == 0
    assert vcenter.password not in output
    monkeypatch.delenv(stored.PASSWORD_VARIABLE)
    assert run("gpus", "--vcenter", "kept")[0] == 0
    status, _, errors = run("gpus", "--vcenter", "asked")  # not stored, and nobody to ask
    assert status == 1
    assert stored.PASSWORD_VARIABLE in errors
    status, _, errors = run("gpus")
    assert status == 1
    assert "asked, kept" in errors
    assert run("remove", "asked")[0] == 0
    assert run("remove", "asked")[0] == 1
    assert run("gpus")[0] == 0


def test_a_file_that_others_may_read_is_refused(added: Run) -> None:
    stored.default_path().chmod(0o644)
    status, _, errors = added("gpus")
    assert status == 1
    assert "chmod 600" in errors
    stored.default_path().chmod(0o600)
    stored.default_path().write_text("{")
    assert added("gpus")[0] == 1
