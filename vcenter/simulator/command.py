"""``gpuferry vcenter simulate``: a simulated vCenter in the foreground, until it is interrupted."""

import json
import secrets
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import GuestKind, Simulation, start
from .control_http import TOKEN_HEADER
from .generate import generate_inventory
from .guest_sandbox import SandboxGuests
from .inventory import InventoryError


def simulate(
    inventory: Annotated[
        Path | None, typer.Argument(help="Inventory file (YAML, JSON or TOML); default: 3 hosts with 6 GPUs.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8989,
    api_version: Annotated[str, typer.Option(help="vSphere API version to announce.")] = "8.0.3.0",
    pace: Annotated[float, typer.Option(help="Seconds that one step of a task takes.")] = 0.2,
    hosts: Annotated[int, typer.Option(help="Generate so many hosts instead of reading a file.")] = 0,
    machines: Annotated[int, typer.Option(help="With --hosts: so many virtual machines.")] = 0,
    guests: Annotated[GuestKind, typer.Option(help="What runs in virtual machines that are on.")] = GuestKind.PAPER,
    guest_bundle: Annotated[
        list[Path] | None, typer.Option(help="Directories that sandbox guests see, read-only, at the same path.")
    ] = None,
    control_token: Annotated[
        str | None, typer.Option(help="Secret for /simulator/control; default: a new one.")
    ] = None,
    certificate_out: Annotated[Path | None, typer.Option(help="Write the server's certificate here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it is as one line of JSON.")] = False,
) -> None:
    """Run a simulated vCenter: pyVmomi, the Automation SDK and other vSphere tools can use it unmodified."""
    content: dict[str, Any] | Path | None = inventory
    if hosts:
        content = generate_inventory(hosts, machines)
    token = control_token or secrets.token_urlsafe(24)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with start(
            content,
            host=host,
            port=port,
            api_version=api_version,
            pace=pace,
            guests=guests,
            guest_bundles=guest_bundle or [],
            control_token=token,
        ) as simulation:
            if certificate_out is not None:
                certificate_out.write_bytes(simulation.certificate_file.read_bytes())
            _tell(simulation, token, as_json=as_json)
            ended.wait()
    except (InventoryError, ValueError, OSError, RuntimeError) as error:
        typer.echo(f"gpuferry: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(simulation: Simulation, token: str, *, as_json: bool) -> None:
    facts = {
        "url": simulation.url,
        "user": simulation.user,
        "password": simulation.password,
        "thumbprint": simulation.thumbprint,
        "certificate": str(simulation.certificate_file),
        "control": f"{simulation.url}/simulator/control",
        "control_token": token,
    }
    guests = simulation.world.guests
    if isinstance(guests, SandboxGuests):
        facts["gateway"] = guests.gateway
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table(title="Simulated vCenter", show_header=False)
    for name, value in facts.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print(f"Control: POST JSON with the header {TOKEN_HEADER}. Stop: Ctrl-C.")
