"""`gpuferry console`: which appliance, in the terminal or in a browser."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tui.profile import Profile, ProfileError, recall

app = typer.Typer(add_completion=False, help="Run the pool from a terminal.")


@app.command()
def console(
    url: Annotated[str, typer.Option(envvar="GPUFERRY_URL", help="The REST API, https://NAME:4743")] = "",
    token_file: Annotated[str, typer.Option(envvar="GPUFERRY_TOKEN_FILE", help="The file that holds the token")] = "",
    ca: Annotated[str, typer.Option(envvar="GPUFERRY_CA", help="The site's ca.pem")] = "",
    theme: Annotated[str, typer.Option(help="gpuferry-night, -day, -colour-blind, -no-colour, or Textual's")] = "",
    remember: Annotated[bool, typer.Option(help="Remember these for the next time")] = True,
    web: Annotated[bool, typer.Option("--web", help="Serve the console to browsers instead")] = False,
    listen: Annotated[str, typer.Option(help="With --web: HOST:PORT")] = "127.0.0.1:4744",
) -> None:
    """Show and run the pool of an appliance. What is left out is taken from the last time."""
    known = recall()
    if url and url.rstrip("/") != known.url:
        known = Profile(theme=known.theme)
    profile = replace(
        known,
        url=(url or known.url).rstrip("/"),
        token_file=absolute(token_file) or known.token_file,
        ca=absolute(ca) or known.ca,
        theme=theme or known.theme,
    )
    if profile.url and not profile.url.startswith(("https://", "http://")):
        raise ProfileError(f"--url {profile.url}: it begins with https://")
    if web:
        raise typer.Exit(serve(profile, listen))
    from tui.app import ConsoleApp

    if sys.stdout.isatty():
        # Exported by some shells and programs that start us, these would hold the console at the size of that moment.
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)
    raise typer.Exit(ConsoleApp(profile, remember_profile=remember, own_process=True).run() or 0)


def absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def serve(profile: Profile, listen: str) -> int:
    """Serve the console with textual-serve: one process of it for each browser tab."""
    try:
        from textual_serve.server import Server
    except ModuleNotFoundError:
        raise ProfileError("--web needs textual-serve: pip install 'gpuferry[console]'") from None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ProfileError(f"--listen {listen}: say HOST:PORT, e.g. 127.0.0.1:4744")
    if not profile.complete:
        raise ProfileError("--web: name --url and --token-file; everybody who reaches the address acts with that token")
    profile.token()
    own = [sys.executable, "-m", "clientagent.command", "console", "--no-remember"]
    for name, value in (("url", profile.url), ("token-file", profile.token_file), ("ca", profile.ca)):
        if value:
            own += [f"--{name}", value]
    if profile.theme:
        own += ["--theme", profile.theme]
    if host not in ("127.0.0.1", "localhost", "::1"):
        sys.stderr.write(f"Everybody who reaches {listen} acts with the token in {profile.token_file}.\n")
    Server(shlex.join(own), host=host, port=int(port), title="gpuferry").serve()
    return 0


def main(arguments: list[str]) -> int:
    """Run the subcommand; errors a person can mend are told in one line."""
    try:
        app(arguments, prog_name="gpuferry console", standalone_mode=False)
    except typer.Exit as over:
        return int(over.exit_code)
    except (ProfileError, OSError) as failure:
        sys.stderr.write(f"gpuferry console: {failure}\n")
        return 1
    except typer.Abort:
        return 130
    except Exception as failure:
        if hasattr(failure, "format_message"):
            sys.stderr.write(f"gpuferry console: {failure.format_message()}\n")
            return 2
        raise
    return 0
