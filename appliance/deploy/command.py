"""`gpuferry appliance bundle | deploy | undeploy | check`: deployment by hand, many machines at a time."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display
from rich.table import Table
from sqlalchemy import Engine

from appliance.deploy import deployment, known_hosts
from appliance.deploy.building import build_bundle
from appliance.deploy.bundle import SUFFIX, Bundle, latest_bundle, open_bundle
from appliance.deploy.check import check as check_target
from appliance.deploy.deployment import DeploySettings, Progress, needs_of
from appliance.deploy.fleet import AT_ONCE, Outcome, for_each
from appliance.deploy.on_target.manifest import fingerprint
from appliance.deploy.ssh import Target, learn_host_key
from appliance.peers import new_enrolment_token
from appliance.site import Site
from appliance.state.database import open_database
from gpuserver.protocol.control.curve import Ticket
from gpuserver.protocol.version import own_version

bundle_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Signed bundles: what is sent to machines.")
DEFAULT_FOLDER = Path("/var/lib/gpuferry")
UNCONFIRMED = 3
"""Exit status: there are host keys that nobody has confirmed."""
T = TypeVar("T")

Folder = Annotated[Path, typer.Option("--data", envvar="GPUFERRY_DATA", help="The site's folder")]
Hosts = Annotated[list[str], typer.Argument(help="[USER@]HOST[:PORT] …")]
Role = Annotated[str, typer.Option(help="client or server")]
User = Annotated[str, typer.Option(help="Who logs in where a host names nobody")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="The private SSH key")]
AskPassword = Annotated[bool, typer.Option("--ask-password", help="Ask for the password to log in with")]
AskSudo = Annotated[bool, typer.Option("--ask-sudo-password", help="Ask for the password that sudo wants")]
Jump = Annotated[str, typer.Option(help="[USER@]HOST[:PORT] to go through")]
Accept = Annotated[
    list[str] | None, typer.Option("--accept", help="A host key's fingerprint (SHA256:…) that was compared")
]
AtOnce = Annotated[int, typer.Option(min=1, max=500, help="Machines at a time")]


@bundle_app.command("build")
def build(
    data: Folder = DEFAULT_FOLDER,
    out: Annotated[Path | None, typer.Option(help="Default: bundles/gpuferry-VERSION.gpuferry of the site")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Pack the packages of this Python, fetch nothing: for targets with it")
    ] = False,
    cupy: Annotated[bool, typer.Option("--with-cupy", help="Bring CuPy for the acceptance test (large)")] = False,
    appliance: Annotated[
        bool,
        typer.Option("--appliance", help="Pack an appliance, to set others up; needs no site: --data holds the key"),
    ] = False,
) -> None:
    """Make a signed bundle of this gpuferry, for all Pythons that it supports."""
    console = Console(stderr=True)
    if appliance:
        data.mkdir(parents=True, exist_ok=True)
        out = out or data / f"gpuferry-appliance-{own_version()}{SUFFIX}"
        made = build_bundle(data, out, roles=("appliance",), installed=installed, on_step=console.print)
        # Whoever installs from the file knows by this that it is the one that was made here.
        out.with_name(out.name + ".key").write_text(f"{made.key.hex()}\n")
    else:
        made = build_bundle(Site(data).folder, out, installed=installed, cupy=cupy, on_step=console.print)
    _show(made)


@bundle_app.command("show")
def show(
    path: Annotated[Path | None, typer.Argument(help="Default: the site's newest")] = None,
    data: Folder = DEFAULT_FOLDER,
) -> None:
    """Check a bundle's signature and say what is in it."""
    folder = Site(data).folder
    _show(open_bundle(path, folder) if path else latest_bundle(folder))


def _show(bundle: Bundle) -> None:
    console = Console(soft_wrap=True)
    console.print(f"{bundle.path}: version {bundle.version}, signed by {fingerprint(bundle.key)}, signature right")
    table = Table("role", "Python", "glibc", "architecture", "disk", "files", "MiB", box=None)
    for role, needs in bundle.manifest.roles.items():
        files = [each for each in bundle.manifest.files if role in each.roles]
        size = sum(each.size for each in files) >> 20
        pythons, disk = ", ".join(needs.python), f"{needs.disk_mib} MiB"
        table.add_row(role, pythons, needs.glibc, needs.architecture, disk, str(len(files)), str(size))
    console.print(table)


def parse_host(text: str, user: str, port: int = 22) -> tuple[str, str, int]:
    """User, address and port of `[USER@]HOST[:PORT]`; an IPv6 address with a port is in brackets. Raises ValueError."""
    name, _, place = text.rpartition("@")
    if place.startswith("["):
        address, _, rest = place[1:].partition("]")
        number = rest.removeprefix(":")
    else:
        address, _, number = place.partition(":") if place.count(":") == 1 else (place, "", "")
    if not address or (number and not number.isdigit()):
        raise ValueError(f"{text!r} is no [USER@]HOST[:PORT]")
    return name or user, address, int(number or port)


def make_targets(
    hosts: Sequence[str], user: str, key: Path | None, *, ask_password: bool, ask_sudo: bool, jump: str
) -> list[Target]:
    """The machines that a command line names. Raises ValueError, OSError."""
    text = key.read_text() if key else None
    password = typer.prompt("Password", hide_input=True, err=True) if ask_password else None
    sudo = typer.prompt("sudo password", hide_input=True, err=True) if ask_sudo else None
    through = None
    if jump:
        name, address, port = parse_host(jump, user)
        through = Target(address, port, name, text, password)
    targets = []
    for host in dict.fromkeys(hosts):
        name, address, port = parse_host(host, user)
        targets.append(Target(address, port, name, text, password, sudo, through))
    return targets


def confirm_host_keys(engine: Engine, targets: Sequence[Target], accepted: Sequence[str], at_once: int) -> list[Target]:
    """The targets with known keys. Those of others are shown; a person, or `accepted`, confirms them.

    Raises typer.Exit when some stay unconfirmed.
    """
    console = Console(stderr=True)
    jumps = {each.jump.address: each.jump for each in targets if each.jump}
    for jump in jumps.values():
        _confirm(engine, [jump], accepted, at_once, console)
    known = [known_hosts.with_known_key(engine, each) for each in targets]
    _confirm(engine, known, accepted, at_once, console)
    return [known_hosts.with_known_key(engine, each) for each in targets]


def _confirm(
    engine: Engine, targets: Sequence[Target], accepted: Sequence[str], at_once: int, console: Console
) -> None:
    unknown = [each for each in (known_hosts.with_known_key(engine, one) for one in targets) if each.host_key is None]
    if not unknown:
        return
    left = []
    for outcome in for_each(unknown, lambda target, on_progress: learn_host_key(target), at_once=at_once):
        if outcome.result is None:
            console.print(f"[red]{outcome.error}")
            continue
        line, shown = outcome.result
        compared = shown in accepted
        if not compared and sys.stdin.isatty():
            compared = typer.confirm(f"{outcome.target.shown} shows {shown}. Is that its key?", err=True)
        if compared:
            known_hosts.confirm(engine, outcome.target, line, shown)
        else:
            left.append((outcome.target, shown))
    if left:
        console.print("Nobody has confirmed these host keys. Compare them, then repeat with:")
        for target, shown in left:
            console.print(f"  --accept {shown}    # {target.shown}", soft_wrap=True)
        raise typer.Exit(UNCONFIRMED)


def run_on_all(
    title: str, targets: Sequence[Target], work: Callable[[Target, Callable[[Progress], None]], T], at_once: int
) -> list[Outcome[T]]:
    """Do it everywhere, with a display of how far each is."""
    console = Console(stderr=True)
    outcomes = []
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Display(*columns, MofNCompleteColumn(), console=console, transient=True) as display:
        whole = display.add_task(title, total=len(targets), text="")
        rows = {each: display.add_task(each.shown, total=None, text="waits", visible=False) for each in targets}

        def note(target: Target, progress: Progress) -> None:
            display.update(rows[target], total=1.0, completed=progress.done, text=progress.text[:40], visible=True)

        for outcome in for_each(targets, work, note, at_once):
            outcomes.append(outcome)
            display.update(rows[outcome.target], visible=False)
            display.advance(whole)
    return outcomes


def _report(outcomes: Sequence[Outcome[T]], say: Callable[[T], str]) -> int:
    console = Console(soft_wrap=True)
    for each in sorted(outcomes, key=lambda outcome: outcome.target.shown):
        if each.error is not None:
            console.print(f"[red]failed[/]  {each.error}  ({each.seconds:.1f} s)")
        elif each.result is not None:
            console.print(f"[green]done[/]    {each.target.shown}: {say(each.result)}  ({each.seconds:.1f} s)")
    failed = sum(each.error is not None for each in outcomes)
    console.print(f"{len(outcomes) - failed} of {len(outcomes)} machines are as they should be")
    return 1 if failed else 0


@dataclass(frozen=True)
class Machines:
    """What every command names machines with. `role` is what is on them, or is to be."""

    hosts: list[str]
    role: str
    site: Site
    targets: list[Target]
    at_once: int
    accepted: tuple[str, ...]

    def confirmed(self, engine: Engine) -> list[Target]:
        """Them, each with a host key that somebody has confirmed. Raises typer.Exit."""
        return confirm_host_keys(engine, self.targets, self.accepted, self.at_once)

    @property
    def reach(self) -> tuple[str, ...]:
        """`host:port` that they must reach."""
        config = self.site.config
        return tuple(f"{config.name}:{port}" for port in (config.control_port, config.enrol_port))


def _machines(
    hosts: Hosts,
    role: Role = "client",
    data: Folder = DEFAULT_FOLDER,
    user: User = "root",
    key: KeyFile = None,
    ask_password: AskPassword = False,
    ask_sudo: AskSudo = False,
    jump: Jump = "",
    accept: Accept = None,
    at_once: AtOnce = AT_ONCE,
) -> Machines:
    if role not in ("client", "server"):
        raise ValueError(f"--role {role}: there are the roles client and server")
    targets = make_targets(hosts, user, key, ask_password=ask_password, ask_sudo=ask_sudo, jump=jump)
    return Machines(hosts, role, Site(data), targets, at_once, tuple(accept or ()))


def on_machines(command: Callable[..., None]) -> Callable[..., None]:
    """A subcommand of what takes Machines and its own options: it has those that name machines, and its own."""
    named = inspect.signature(_machines, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(_machines(**{name: given.pop(name) for name in named}), **given)

    together = [*named.values(), *own]
    run.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in together}
    return run


@on_machines
def deploy(
    machines: Machines,
    group: Annotated[str, typer.Option(help="The group that clients enrol into")] = "",
    name: Annotated[str, typer.Option(help="The machine's name at the appliance (one machine)")] = "",
    driver: Annotated[str, typer.Option(help="Of a server: the CUDA driver's library, or softgpu")] = "libcuda.so.1",
    listen: Annotated[str, typer.Option(help="Of a server: where its data plane listens")] = "0.0.0.0:9797",
    replace_appliance: Annotated[
        bool, typer.Option("--replace-appliance", help="Take over machines that belong to another appliance")
    ] = False,
) -> None:
    """Install or upgrade the client agent or the GPU server daemon on machines, over SSH."""
    if name and len(machines.hosts) != 1:
        raise ValueError("--name names one machine")
    site, role = machines.site, machines.role
    engine = open_database(site.config.database)
    bundle = latest_bundle(site.folder)
    targets = machines.confirmed(engine)
    settings = DeploySettings(
        name=name, appliance_key=site.curve_public, reach=machines.reach, listen=listen, driver=driver,
        replace_appliance=replace_appliance,
    )  # fmt: skip

    one_at_a_time = threading.Lock()

    def ticket() -> str:
        # So many writers at once would only wait for each other in an embedded database.
        with one_at_a_time:
            token = new_enrolment_token(engine, role, name=name, group=group)
        return str(Ticket(site.config.enrol_endpoint, site.curve_public, token))

    def work(target: Target, on_progress: Callable[[Progress], None]) -> deployment.Deployed:
        address = f"{target.address}:{listen.rpartition(':')[2]}" if role == "server" else ""
        return deployment.deploy(target, bundle, role, replace(settings, address=address), ticket, on_progress)

    outcomes = run_on_all(f"deploying {bundle.version}", targets, work, machines.at_once)
    status = _report(
        outcomes, lambda done: f"{done.version}, {'changed' if done.changed else 'unchanged'}, {done.peer}"
    )
    raise typer.Exit(status)


@on_machines
def undeploy(machines: Machines) -> None:
    """Take the client agent or the GPU server daemon off machines; nothing of it stays."""
    targets = machines.confirmed(open_database(machines.site.config.database))
    outcomes = run_on_all(
        "removing",
        targets,
        lambda target, on_progress: deployment.uninstall(target, machines.role, on_progress),
        machines.at_once,
    )
    raise typer.Exit(_report(outcomes, lambda removed: "removed" if removed else "there was nothing"))


@on_machines
def check(machines: Machines) -> None:
    """Look whether machines are fit, and say all that is wrong; nothing is changed on them."""
    needs = replace(needs_of(latest_bundle(machines.site.folder), machines.role), reach=machines.reach)
    targets = machines.confirmed(open_database(machines.site.config.database))
    console = Console(soft_wrap=True)
    wrong = 0
    looked = run_on_all("checking", targets, lambda target, on_progress: check_target(target, needs), machines.at_once)
    for outcome in looked:
        findings = outcome.result or ()
        wrong += bool(findings) or outcome.error is not None
        console.print(f"{outcome.target.shown}: {outcome.error or ('not fit' if findings else 'fit')}")
        for finding in findings:
            console.print(f"  {finding}")
    raise typer.Exit(1 if wrong else 0)


def add_to(app: typer.Typer) -> None:
    """Make them subcommands of `gpuferry appliance`."""
    app.add_typer(bundle_app, name="bundle")
    for command in (deploy, undeploy, check):
        app.command()(command)
