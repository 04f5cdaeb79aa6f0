"""`gpuferry vcenter`: vCenters, hosts, GPUs, passthrough, GPU servers, PVRDMA, tags, from the command line."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vcenter import stored
from vcenter.certificate import Trust, fetch_thumbprint, shown
from vcenter.command_output import (
    DryRun,
    Json,
    VcenterName,
    Yes,
    confirmed,
    err,
    out,
    progress_bars,
    session,
    show_plan,
    write_error,
    write_json,
    write_table,
)
from vcenter.command_pvrdma import app as pvrdma_app
from vcenter.command_server import app as server_app
from vcenter.command_tags import app as tags_app
from vcenter.errors import CertificateUntrusted, InvalidRequest, NotFound, VcenterError
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.privileges import missing_privileges
from vcenter.reading import load
from vcenter.session import Endpoint, Session

app = typer.Typer(
    name="vcenter",
    help="Find the GPUs of a vCenter's hosts, pass them through, build GPU servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(server_app, name="server")
app.add_typer(pvrdma_app, name="pvrdma")
app.add_typer(tags_app, name="tags")


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(help="Host name or address of the vCenter, with :PORT when it is not 443.")],
    *,
    user: Annotated[str, typer.Option("--user", "-u", help="Account, with its domain: user@vsphere.local.")],
    name: Annotated[str, typer.Option("--name", help="What to call it here (default: the host name).")] = "",
    ca_file: Annotated[Path | None, typer.Option("--ca-file", help="CA certificates that vouch for it (PEM).")] = None,
    thumbprint: Annotated[str, typer.Option("--thumbprint", help="Pin its certificate: SHA-256, hex.")] = "",
    password_file: Annotated[Path | None, typer.Option("--password-file", help="Read the password from here.")] = None,
    store_password: Annotated[
        bool, typer.Option("--store-password", help="Keep the password, in clear, in the 0600 file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remember a vCenter after logging in to it once.

    Its certificate is verified by the system's CAs, or --ca-file; failing that, its thumbprint is shown and you are
    asked. The password comes from --password-file, from GPUFERRY_VCENTER_PASSWORD, or is asked for.
    """
    try:
        endpoint = Endpoint.parse(address, user, Trust(thumbprint=thumbprint, ca_file=str(ca_file or "")))
    except ValueError as bad:
        raise InvalidRequest(f"{bad}.") from None
    password = _given_password(password_file, endpoint)
    try:
        opened = Session(endpoint, password)
    except CertificateUntrusted as untrusted:
        if ca_file or thumbprint:
            raise
        endpoint = replace(endpoint, trust=Trust(thumbprint=_consented_thumbprint(endpoint, untrusted)))
        opened = Session(endpoint, password)
    with opened:
        about = opened.about
    entry = stored.StoredVcenter(
        name=name or endpoint.host,
        host=endpoint.host,
        user=user,
        port=endpoint.port,
        thumbprint=endpoint.trust.thumbprint,
        ca_file=str(ca_file.resolve()) if ca_file else "",
        password=password if store_password else "",
        password_file=str(password_file.resolve()) if password_file else "",
    )
    stored.save({**stored.load(), entry.name: entry})
    if as_json:
        write_json({**_public(entry), "product": str(about.fullName), "api_version": str(about.apiVersion)})
    else:
        out().print(f"Added {entry.name}: {about.fullName}, API {about.apiVersion}.", highlight=False)


def _given_password(password_file: Path | None, endpoint: Endpoint) -> str:
    entry = stored.StoredVcenter("", endpoint.host, endpoint.user, password_file=str(password_file or ""))
    password = stored.password_of(entry)
    if password is None:
        if not sys.stdin.isatty():
            raise InvalidRequest(
                "There is no password, and nobody to ask.",
                remedy=f"Give --password-file, or set {stored.PASSWORD_VARIABLE}.",
            )
        password = str(typer.prompt(f"Password of {endpoint.user}", hide_input=True, err=True))
    return password


def _consented_thumbprint(endpoint: Endpoint, untrusted: CertificateUntrusted) -> str:
    """The thumbprint of the certificate, once the user has looked at it and said yes; never without a person."""
    seen = fetch_thumbprint(endpoint.host, endpoint.port)
    console = err()
    console.print(
        f"No CA known here vouches for {endpoint.server}. The SHA-256 thumbprint of its certificate is", highlight=False
    )
    console.print(f"  {shown(seen)}", highlight=False)
    if not sys.stdin.isatty():
        untrusted.remedy = (
            f"Compare the thumbprint with vCenter's own, then repeat with --thumbprint {seen} or with --ca-file."
        )
        raise untrusted
    console.print("Compare it with the one that vCenter's own console shows.")
    if not typer.confirm("Is it the same?", default=False, err=True):
        raise untrusted
    return seen


def _public(entry: stored.StoredVcenter) -> dict[str, object]:
    """An entry without its password."""
    return {
        "name": entry.name,
        "host": entry.host,
        "port": entry.port,
        "user": entry.user,
        "thumbprint": entry.thumbprint,
        "ca_file": entry.ca_file,
        "password": "stored" if entry.password else "file" if entry.password_file else "asked for",
    }


@app.command("list")
def list_vcenters(as_json: Json = False) -> None:
    """The vCenters that were added."""
    entries = [_public(entry) for _, entry in sorted(stored.load().items())]
    if as_json:
        write_json(entries)
        return
    rows = [
        [e["name"], e["host"], e["user"], "pinned" if e["thumbprint"] else e["ca_file"] or "system CAs", e["password"]]
        for e in entries
    ]
    write_table("vCenters", ["name", "host", "user", "trust", "password"], rows, "No vCenter has been added yet.")


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Name of the entry.")]) -> None:
    """Forget a vCenter. Nothing changes in it."""
    entries = stored.load()
    if name not in entries:
        raise NotFound(f"No vCenter {name!r} has been added.", object_name=name)
    del entries[name]
    stored.save(entries)
    out().print(f"Forgot {name}.", highlight=False)


@app.command("hosts")
def hosts(vcenter: VcenterName = "", as_json: Json = False, every: Annotated[
    bool, typer.Option("--all", help="Also hosts without GPUs.")
] = False) -> None:  # fmt: skip
    """The hosts, with their GPUs, RDMA NICs and state."""
    with session(vcenter) as opened:
        inventory = load(opened)
    found = sorted((host for host in inventory.hosts.values() if every or host.gpus), key=lambda host: host.name)
    if as_json:
        write_json(found)
        return
    rows = []
    for host in found:
        cluster = inventory.clusters.get(host.cluster)
        state = "maintenance" if host.in_maintenance else host.connection
        rows.append(
            [
                host.name,
                cluster.name if cluster and not cluster.standalone else "",
                state + (", reboot required" if host.reboot_required else ""),
                host.product,
                host.memory_mib // 1024,
                len(host.gpus),
                sum(gpu.free for gpu in host.gpus),
                ", ".join(f"{nic.name} ({nic.uplink})" for nic in host.rdma_nics),
            ]
        )
    columns = ["host", "cluster", "state", "product", "GiB", "GPUs", "ready", "RDMA"]
    write_table(f"Hosts of {inventory.vcenter}", columns, rows, "No host has a GPU. `--all` shows all hosts.")


@app.command("gpus")
def gpus(vcenter: VcenterName = "", as_json: Json = False) -> None:
    """Every GPU, with its host, its state, and the next step to bring it into the pool."""
    with session(vcenter) as opened:
        inventory = load(opened)
    found = inventory.gpus()
    if as_json:
        write_json(found)
        return
    rows = [[gpu.host_name, gpu.address, gpu.name, gpu.memory_mib, gpu.state.value, gpu.next_step] for gpu in found]
    columns = ["host", "address", "GPU", "MiB", "state", "next step"]
    write_table(f"GPUs of {inventory.vcenter}", columns, rows, "No host of this vCenter has an NVIDIA GPU.")


@app.command("passthrough")
def passthrough(
    state: Annotated[str, typer.Argument(help="on or off")],
    host: Annotated[str, typer.Argument(help="Host name or id.")],
    addresses: Annotated[
        list[str] | None, typer.Argument(help="PCI addresses; without any, all GPUs of the host.")
    ] = None,
    *,
    label: Annotated[str | None, typer.Option("--label", help="Hardware label for dynamic passthrough.")] = None,
    no_reboot: Annotated[bool, typer.Option("--no-reboot", help="Never reboot the host.")] = False,
    vcenter: VcenterName = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Turn passthrough of GPUs on or off, through maintenance mode and a reboot where the host needs one."""
    if state not in ("on", "off"):
        raise InvalidRequest(f"{state!r} is neither on nor off.")
    with session(vcenter) as opened:
        plan = plan_passthrough(
            opened, load(opened), host, addresses or (), enable=state == "on", label=label, allow_reboot=not no_reboot
        )
        show_plan(plan, as_json, dry_run=dry_run)
        rebooted = False
        applied = not dry_run and confirmed(plan, "Go on?", yes)
        if applied:
            with progress_bars() as bars:
                rebooted = apply_passthrough(opened, plan, bars)
    if as_json and not dry_run:
        write_json({**plan.as_dict(), "applied": applied, "rebooted": rebooted})


@app.command("privileges")
def privileges(
    hosts_named: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Hosts to check for.")] = None,
    *,
    vcenter: VcenterName = "",
    as_json: Json = False,
) -> None:
    """The privileges that the account lacks, each with the object it is missing on. Exit status 1 when there are
    any.
    """
    with session(vcenter) as opened:
        missing = missing_privileges(opened, load(opened), hosts_named or ())
    if as_json:
        write_json(missing)
    else:
        rows = [[lack.privilege, lack.object_name, lack.why] for lack in missing]
        write_table(
            "Missing privileges", ["privilege", "object", "for"], rows, "The account has every privilege it needs."
        )
    if missing:
        raise typer.Exit(1)


@app.command(
    "simulate",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def simulate(context: typer.Context) -> None:
    """Run a simulated vCenter with GPUs, RDMA NICs and guests, for trying things out."""
    command = importlib.import_module("vcenter.simulator.command")
    raise typer.Exit(command.main(list(context.args)))


def main(arguments: list[str]) -> int:
    """Runs the command line; 0 when all went well, 1 for an error of vCenter's or ours, 2 for a wrong command line."""
    try:
        app(args=arguments, prog_name="gpuferry vcenter")
    except VcenterError as error:
        write_error(error, "--json" in arguments)
        return 1
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    return 0
