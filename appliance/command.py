"""`gpuferry appliance init | serve | status | token | backup | restore | support-bundle`;
bundle, deploy, undeploy and check are in `deploy/command.py`."""

from __future__ import annotations

import socket
import ssl
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from appliance import backup as backups
from appliance import certificates, log
from appliance.api.security import Scope, issue
from appliance.deploy import command as deploy_command
from appliance.deploy.errors import DeployError
from appliance.deploy.on_target.manifest import BundleError
from appliance.peers import DEFAULT_GROUP, new_enrolment_token
from appliance.site import Site, SiteConfig, SiteError, make_site
from appliance.state.database import DatabaseGoneError, migrate, open_database, reading, writing
from appliance.state.models import Client, Group, now
from gpuserver.protocol.control.curve import Ticket, write_private

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The management service of a site.")
DEFAULT_FOLDER = Path("/var/lib/gpuferry")
Folder = Annotated[Path, typer.Option("--data", envvar="GPUFERRY_DATA", help="The site's folder")]
LOCAL_TOKEN = "local.token"  # noqa: S105 - a file's name


def local_token(site: Site) -> str:
    return (site.folder / LOCAL_TOKEN).read_text().strip()


@app.command()
def init(
    data: Folder = DEFAULT_FOLDER,
    name: Annotated[str, typer.Option(help="The address under which everybody reaches this appliance")] = "",
    database: Annotated[
        str,
        typer.Option(envvar="GPUFERRY_DATABASE", help="sqlite:///PATH or postgresql://...; default: SQLite"),
    ] = "",
    control_port: int = 4741,
    enrol_port: int = 4742,
    api_port: int = 4743,
    listen: str = "0.0.0.0",  # noqa: S104 - a service for the whole site
    tls: Annotated[bool, typer.Option(help="Encrypt the REST API")] = True,
) -> None:
    """Make a site: keys, a certificate authority, the database, the first admin token."""
    name = name or socket.getfqdn()
    config = SiteConfig(
        name=name,
        database=database or f"sqlite:///{(data / 'appliance.db').absolute()}",
        control_port=control_port,
        enrol_port=enrol_port,
        api_port=api_port,
        listen=listen,
        tls=tls,
    )
    site = make_site(data, config)
    certificates.make_authority(data, name)
    certificates.issue(data, [name, "localhost", "127.0.0.1"])
    migrate(config.database)
    engine = open_database(config.database)
    with writing(engine) as session:
        if session.scalars(select(Group).where(Group.name == DEFAULT_GROUP)).one_or_none() is None:
            session.add(Group(id=f"group-{DEFAULT_GROUP}", name=DEFAULT_GROUP))
    _, token = issue(engine, "first admin", Scope.ADMIN)
    _, own = issue(engine, f"this machine ({socket.gethostname()})", Scope.READ)
    write_private(data / LOCAL_TOKEN, own.encode())
    engine.dispose()
    console = Console(soft_wrap=True)
    console.print(f"The site is in {data}. Start it with: gpuferry appliance serve --data {data}")
    console.print(f"REST API: {site.config.api_url}/docs  (trust {data / 'ca.pem'})")
    console.print("The first admin token, shown only now:")
    sys.stdout.write(token + "\n")


@app.command()
def serve(data: Folder = DEFAULT_FOLDER, log_level: str = "INFO") -> None:
    """Run the appliance until it is stopped."""
    from appliance.service import serve as run

    log.configure(log_level)
    raise typer.Exit(run(Site(data)))


@app.command()
def status(data: Folder = DEFAULT_FOLDER) -> None:
    """Ask the running appliance how it is."""
    site = Site(data)
    try:
        verify = ssl.create_default_context(cafile=data / "ca.pem") if site.config.tls else True
        url = f"{site.config.api_url.replace(site.config.name, '127.0.0.1')}/v1/appliance"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {local_token(site)}"}, verify=verify, timeout=10)
        answer.raise_for_status()
    except (httpx.HTTPError, OSError) as failure:
        raise SiteError(f"the appliance does not answer at {site.config.api_url}: {failure}") from failure
    told = answer.json()
    table = Table("", "", show_header=False, box=None)
    for label, value in (
        ("version", told["version"]),
        ("decides", f"yes, epoch {told['epoch']}" if told["deciding"] else "no, another process does"),
        ("trouble", told["trouble"] or "none"),
        ("processes", ", ".join(each["api_url"] for each in told["instances"])),
        ("servers", told["servers"]),
        ("GPUs", f"{told['gpus']}, {told['reserved_mib']} of {told['memory_mib']} MiB reserved"),
        ("leases", f"{told['leases']}, {told['waiting']} of them waiting"),
        ("certificate", f"{certificates.days_left(data)} days left" if site.config.tls else "TLS is off"),
    ):
        table.add_row(label, str(value))
    Console().print(table)
    raise typer.Exit(1 if told["trouble"] else 0)


@app.command()
def token(
    data: Folder = DEFAULT_FOLDER,
    scope: Annotated[Scope, typer.Option(help="What an API token may do")] = Scope.READ,
    client: Annotated[str, typer.Option(help="With scope client: the client's name")] = "",
    enrol: Annotated[str, typer.Option(help="Make an enrolment ticket instead: server or client")] = "",
    name: Annotated[str, typer.Option(help="The token's name, or the machine's that enrols")] = "",
    group: Annotated[str, typer.Option(help="The group a client enrols into")] = "",
    valid: Annotated[float, typer.Option(help="Valid for so many hours; 0: for ever (tickets: 1)")] = 0.0,
) -> None:
    """Make an API token or an enrolment ticket; it is shown once."""
    site = Site(data)
    engine = open_database(site.config.database)
    if enrol:
        if enrol not in ("server", "client"):
            raise SiteError(f"--enrol {enrol}: a server or a client can be enrolled")
        secret = new_enrolment_token(engine, enrol, name=name, group=group, valid_s=(valid or 1.0) * 3600)
        sys.stdout.write(f"{Ticket(site.config.enrol_endpoint, site.curve_public, secret)}\n")
        return
    client_id = None
    if (scope is Scope.CLIENT) != bool(client):
        raise SiteError("--client: a token of scope client names its client, others do not")
    if client:
        with reading(engine) as session:
            found = session.scalars(select(Client).where(Client.name == client)).one_or_none()
        if found is None:
            raise SiteError(f"there is no client {client!r}")
        client_id = found.id
    expires_at = now() + timedelta(hours=valid) if valid else None
    _, made = issue(engine, name or f"{scope} token", scope, client=client_id, expires_at=expires_at)
    sys.stdout.write(made + "\n")


@app.command()
def backup(path: Path, data: Folder = DEFAULT_FOLDER) -> None:
    """Write everything the appliance knows, its keys included, into one file."""
    site = Site(data)
    counts = backups.write_backup(site, open_database(site.config.database), path)
    Console().print(f"{path}: {sum(counts.values())} rows of {len(counts)} tables, and the site's keys. Keep it safe.")


@app.command()
def restore(
    path: Path,
    data: Folder = DEFAULT_FOLDER,
    database: Annotated[str, typer.Option(help="Restore into this database instead of the backup's own")] = "",
) -> None:
    """Make a site of a backup, in an empty folder and an empty database."""
    url = database or (f"sqlite:///{(data / 'appliance.db').absolute()}" if backups.is_embedded(path) else None)
    counts = backups.restore_backup(path, data, url)
    Console().print(f"{data}: {sum(counts.values())} rows restored")


@app.command("support-bundle")
def support_bundle(
    path: Path,
    data: Folder = DEFAULT_FOLDER,
    logs: Annotated[list[Path] | None, typer.Option("--log", help="A log file to put in")] = None,
) -> None:
    """Write what a helper needs to know, without secrets."""
    site = Site(data)
    parts = backups.write_support_bundle(site, open_database(site.config.database), path, logs or [])
    Console().print(f"{path}: {', '.join(parts)}")


deploy_command.add_to(app)


def main(arguments: list[str]) -> int:
    """Run a subcommand; errors a person can mend are told in one line."""
    try:
        status = app(arguments, prog_name="gpuferry appliance", standalone_mode=False)
    except typer.Exit as over:
        return int(over.exit_code)
    except (SiteError, BundleError, DeployError, backups.BackupError, DatabaseGoneError, ValueError) as failure:
        sys.stderr.write(f"gpuferry appliance: {failure}\n")
        return 1
    except typer.Abort:
        return 130
    except Exception as failure:
        if hasattr(failure, "format_message"):
            sys.stderr.write(f"gpuferry appliance: {failure.format_message()}\n")
            return 2
        raise
    # `typer.Exit` comes back as the status when it is not standalone.
    return status if isinstance(status, int) else 0
