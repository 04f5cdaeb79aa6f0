"""`gpuferry runs list | show | start | watch | cancel | retry | roll-back | host-keys | confirm-key`, over REST."""

from __future__ import annotations

import json
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.site import Site, SiteError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Provisioning runs.")
OVER = ("succeeded", "failed", "cancelled", "rolled-back")
MARKS = {
    "pending": ("·", "dim"),
    "running": ("▸", "bold cyan"),
    "done": ("✓", "green"),
    "skipped": ("–", "green"),
    "failed": ("✗", "bold red"),
    "undone": ("↺", "yellow"),
}
LOOK_S = 0.5
AWAY_S = 120.0
"""How long `watch` waits for an appliance that does not answer (it restarts, another takes over)."""


class RunsError(Exception):
    """What was asked is not possible; the text says why and what to do."""


Url = Annotated[str, typer.Option("--url", envvar="GPUFERRY_URL", help="https://appliance:4743")]
Token = Annotated[
    str, typer.Option("--token", envvar="GPUFERRY_TOKEN", help="A token of scope operator (read to look)")
]
Ca = Annotated[Path | None, typer.Option("--ca", envvar="GPUFERRY_CA", help="The appliance's ca.pem")]
Data = Annotated[
    Path | None, typer.Option("--data", envvar="GPUFERRY_DATA", help="On the appliance: the site's folder")
]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on standard output")]


class Appliance:
    """The REST API of an appliance."""

    def __init__(self, url: str, token: str, ca: Path | None, data: Path | None) -> None:
        if data is not None:
            site = Site(data)
            url = url or site.config.api_url
            ca = ca or data / "ca.pem"
            token = token or (data / "local.token").read_text().strip()
        if not url or not token:
            raise RunsError(
                "say where the appliance is and who you are: --url and --token, or GPUFERRY_URL and GPUFERRY_TOKEN"
            )
        verify: Any = ssl.create_default_context(cafile=ca) if url.startswith("https") else True
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, verify=verify, timeout=30)

    def call(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self.http.request(method, path, **more)
        except httpx.HTTPError as failure:
            raise RunsError(f"the appliance does not answer at {self.http.base_url}: {failure}") from failure
        if answer.status_code >= 400:
            try:
                problem = answer.json()
                raise RunsError(f"{problem['title']}: {problem['detail']}")
            except (ValueError, KeyError):
                raise RunsError(f"status {answer.status_code}: {answer.text[:300]}") from None
        return answer.json() if answer.content else None

    def run(self, id_: str) -> Any:
        return self.call("GET", f"/v1/runs/{id_}")


def duration(run_or_step: Any) -> str:
    """How long it took, or has taken until now."""
    if not run_or_step["started_at"]:
        return ""
    start = datetime.fromisoformat(run_or_step["started_at"])
    end = datetime.fromisoformat(run_or_step["ended_at"]) if run_or_step["ended_at"] else datetime.now(UTC)
    return f"{max(0.0, (end - start).total_seconds()):.1f} s"


def drawn(run: Any) -> Group:
    """A run with its steps."""
    colour = {"succeeded": "green", "failed": "red", "rolled-back": "yellow", "cancelled": "yellow"}.get(
        run["state"], "cyan"
    )
    head = Text.assemble(
        (run["id"], "dim"),
        " ",
        (run["kind"], "bold"),
        f" {run['subject']}: ",
        (run["state"], colour),
        f" {duration(run)}",
    )
    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(4):
        table.add_column()
    for step in run["steps"]:
        mark, style = MARKS[step["state"]]
        if step["state"] == "running" and step["progress"] is not None:
            said: Any = ProgressBar(total=1.0, completed=step["progress"], width=30)
        elif step["state"] == "running":
            said = Text(step["log"][-1] if step["log"] else step["found"], overflow="ellipsis", no_wrap=True)
        else:
            said = Text(step["did"] or step["found"], overflow="ellipsis", no_wrap=True)
        table.add_row(Text(mark, style), step["title"], Text(duration(step), "dim"), said)
    parts: list[Any] = [head, table]
    if run["error"]:
        parts.append(Text(f"  {run['error']}", "red"))
        parts.append(Text(f"  {run['remedy']}"))
    return Group(*parts)


def tell(run: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(run) + "\n")
    else:
        Console().print(drawn(run))


def follow(appliance: Appliance, id_: str, as_json: bool) -> None:
    """Show a run until it is over; exit status 0 when it succeeded or was rolled back."""
    console, away_since = Console(stderr=as_json), None
    run = appliance.run(id_)
    with Live(drawn(run), console=console, refresh_per_second=4, transient=as_json) as live:
        while run["state"] not in OVER:
            time.sleep(LOOK_S)
            try:
                run, away_since = appliance.run(id_), None
            except RunsError:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_S:
                    raise
            live.update(drawn(run))
    if as_json:
        tell(run, as_json)
    raise typer.Exit(0 if run["state"] in ("succeeded", "rolled-back") else 1)


@app.command("list")
def list_(
    url: Url = "",
    token: Token = "",
    ca: Ca = None,
    data: Data = None,
    state: Annotated[list[str] | None, typer.Option(help="Only these states")] = None,
    kind: str = "",
    subject: str = "",
    limit: int = 50,
    as_json: Json = False,
) -> None:
    """Runs, newest first."""
    query: dict[str, Any] = {"limit": limit}
    query |= {name: value for name, value in (("state", state), ("kind", kind), ("subject", subject)) if value}
    found = Appliance(url, token, ca, data).call("GET", "/v1/runs", params=query)["items"]
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    table = Table("id", "kind", "subject", "state", "by", "took", "now at", box=None)
    for run in found:
        at = next((step["title"] for step in run["steps"] if step["state"] in ("running", "failed")), "")
        table.add_row(*(run[name] for name in ("id", "kind", "subject", "state", "actor")), duration(run), at)
    Console().print(table)


@app.command()
def show(run: str, url: Url = "", token: Token = "", ca: Ca = None, data: Data = None, as_json: Json = False) -> None:
    """One run with its steps."""
    tell(Appliance(url, token, ca, data).run(run), as_json)


def given(parameters: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as parameters: values are YAML (`gpu_count=2`, `source.template=gold`, `gpus=[0000:3b:00.0]`)."""
    made: dict[str, Any] = {}
    for each in parameters:
        name, equals, value = each.partition("=")
        if not equals:
            raise RunsError(f"{each!r}: parameters are NAME=VALUE, or --file FILE")
        place = made
        *outer, last = name.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value if last in ("host", "name", "vm", "address", "key", "password") else yaml.safe_load(value)
    return made


@app.command()
def start(
    kind: str,
    parameters: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE ...")] = None,
    url: Url = "",
    token: Token = "",
    ca: Ca = None,
    data: Data = None,
    file: Annotated[Path | None, typer.Option(help="Parameters from a YAML or JSON file")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look, and say what would be done")] = False,
    watch: Annotated[bool, typer.Option(help="Show it until it is over")] = True,
    as_json: Json = False,
) -> None:
    """Start a run, e.g. `gpuferry runs start passthrough vcenter=lab host=esx-03.example.org`."""
    wanted = {**(yaml.safe_load(file.read_text()) if file else {}), **given(parameters or [])}
    appliance = Appliance(url, token, ca, data)
    run = appliance.call("POST", "/v1/runs", json={"kind": kind, "parameters": wanted, "dry_run": dry_run})
    if dry_run or not watch:
        tell(run, as_json)
        raise typer.Exit(1 if dry_run and run["error"] else 0)
    follow(appliance, run["id"], as_json)


@app.command()
def watch(run: str, url: Url = "", token: Token = "", ca: Ca = None, data: Data = None, as_json: Json = False) -> None:
    """Show a run until it is over, through restarts of the appliance."""
    follow(Appliance(url, token, ca, data), run, as_json)


def _ask(verb: str, run: str, appliance: Appliance, watch: bool, as_json: bool) -> None:
    answer = appliance.call("POST", f"/v1/runs/{run}/{verb}")
    if watch and answer["state"] not in OVER:
        follow(appliance, run, as_json)
    tell(answer, as_json)


def _add_verb(verb: str, meaning: str, *, watched: bool) -> None:
    """A subcommand that asks something of a run; `watched`: the run is followed, unless told not to."""

    def command(
        run: str,
        url: Url = "",
        token: Token = "",
        ca: Ca = None,
        data: Data = None,
        watch: bool = watched,
        as_json: Json = False,
    ) -> None:
        _ask(verb, run, Appliance(url, token, ca, data), watch, as_json)

    app.command(verb, help=meaning)(command)


_add_verb("cancel", "Stop a run at its next safe place.", watched=False)
_add_verb("retry", "Carry a run out again; what is done already is not done again.", watched=True)
_add_verb("roll-back", "Take back what a run did.", watched=True)


@app.command("host-keys")
def host_keys(url: Url = "", token: Token = "", ca: Ca = None, data: Data = None, as_json: Json = False) -> None:
    """SSH host keys of the machines that runs deploy to, those first that wait for somebody to confirm them."""
    found = Appliance(url, token, ca, data).call("GET", "/v1/host-keys", params={"limit": 500})["items"]
    found.sort(key=lambda key: key["confirmed_at"] or "")
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    table = Table("id", "machine", "fingerprint", "confirmed by", box=None)
    for key in found:
        table.add_row(key["id"], key["target"], key["fingerprint"], key["confirmed_by"] or Text("nobody yet", "bold"))
    Console().print(table)


@app.command("confirm-key")
def confirm_key(
    key: str,
    url: Url = "",
    token: Token = "",
    ca: Ca = None,
    data: Data = None,
    fingerprint: Annotated[str, typer.Option(help="What the machine itself shows; asked for when left out")] = "",
) -> None:
    """Trust a machine's SSH host key; runs that waited for it go on."""
    appliance = Appliance(url, token, ca, data)
    if not fingerprint:
        if not sys.stdin.isatty():
            raise RunsError("there is no terminal to ask at: give the machine's --fingerprint")
        fingerprint = typer.prompt("The fingerprint that the machine itself shows (SHA256:...)")
    row = appliance.call("POST", f"/v1/host-keys/{key}/confirm", json={"fingerprint": fingerprint})
    Console().print(f"{row['target']} is trusted by {row['fingerprint']}")


def main(arguments: list[str]) -> int:
    """Run a subcommand; errors a person can mend are told in one line."""
    try:
        status = app(arguments, prog_name="gpuferry runs", standalone_mode=False)
    except typer.Exit as over:
        return int(over.exit_code)
    except (RunsError, SiteError, OSError, yaml.YAMLError) as failure:
        sys.stderr.write(f"gpuferry runs: {failure}\n")
        return 1
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as failure:
        if hasattr(failure, "format_message"):
            sys.stderr.write(f"gpuferry runs: {failure.format_message()}\n")
            return 2
        raise
    # Without its own handling, Click answers with the status of a typer.Exit instead of raising it.
    return status if isinstance(status, int) else 0
