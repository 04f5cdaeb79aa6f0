"""One call of the REST API: what is sent, what is asked before, and the command a person could copy to do the same."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tui.profile import Profile

Document = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """`match`: the ETag of what is changed. `command`: a `gpuferry ...` that does the same, where there is one."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    match: str = ""
    command: str = ""

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")

    def curl(self, profile: Profile) -> str:
        """The same as a command line; the token is read from its file, never shown."""
        url = f"{profile.url.rstrip('/')}{self.path}"
        if self.query:
            url += "?" + urlencode(self.query)
        token = profile.token_file or "TOKEN_FILE"
        parts = ["curl", "--fail-with-body", "-sS"]
        if profile.ca:
            parts += ["--cacert", shlex.quote(profile.ca)]
        parts += ["-H", f'"Authorization: Bearer $(cat {shlex.quote(token)})"']
        if self.method != "GET":
            parts += ["-X", self.method]
        if self.match:
            parts += ["-H", "'If-Match: *'"]
        if self.body is not None:
            body = json.dumps(without_secrets(self.body), ensure_ascii=False)
            parts += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(body)]
        return " ".join([*parts, shlex.quote(url)])

    def commands(self, profile: Profile) -> str:
        """Every command that does the same, one to a line."""
        command = self.command
        if command.startswith("gpuferry runs "):
            token = shlex.quote(profile.token_file or "TOKEN_FILE")
            where = f'GPUFERRY_URL={shlex.quote(profile.url)} GPUFERRY_TOKEN="$(cat {token})"'
            command = f"{where}{f' GPUFERRY_CA={shlex.quote(profile.ca)}' if profile.ca else ''} {command}"
        return "\n".join([command, self.curl(profile)] if command else [self.curl(profile)])


SECRETS = ("password", "sudo_password", "key")


def without_secrets(body: Any) -> Any:
    """What may be shown of a body: passwords and keys are left for the reader to put in."""
    if isinstance(body, dict):
        return {
            name: name.upper() if name in SECRETS and isinstance(value, str) and value else without_secrets(value)
            for name, value in body.items()
        }
    return [without_secrets(each) for each in body] if isinstance(body, list) else body


PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9./_-]*")
"""Texts that YAML takes as they are, but for its words."""
YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
TEXTS = frozenset({"host", "name", "vm", "address", "key", "password"})
"""Parameters that `gpuferry runs start` takes as texts, whatever they look like."""


def start_run(kind: str, parameters: Document) -> Call:
    """Starts a run; the same as `gpuferry runs start KIND NAME=VALUE ...`."""
    words = [shlex.quote(f"{name}={value}") for name, value in flat(without_secrets(parameters))]
    command = " ".join(["gpuferry runs start", kind, *words])
    return Call("POST", "/v1/runs", body={"kind": kind, "parameters": parameters}, command=command)


def flat(parameters: Document, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value in YAML) of every parameter; those within another are `source.template`."""
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, str) and (
            name in TEXTS or (PLAIN.fullmatch(value) and value.casefold() not in YAML_WORDS)
        ):
            yield prefix + name, value
        else:
            yield prefix + name, json.dumps(value, ensure_ascii=False)


def get(path: str, **query: Any) -> Call:
    """A reading call; parameters that are None or empty are left out, lists are repeated."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is not None and each != "":
                pairs.append((name, str(each).lower() if isinstance(each, bool) else str(each)))
    return Call("GET", path, tuple(pairs))


def at(*parts: str) -> str:
    """A path of the API from its parts, each escaped."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def change(document: Document, path: str, body: Document, command: str = "") -> Call:
    """PATCH of a document that was read, refused when somebody changed it meanwhile."""
    return Call("PATCH", path, body=body, match=f'"{document["revision"]}"', command=command)


def remove(document: Document, path: str, command: str = "") -> Call:
    return Call("DELETE", path, match=f'"{document["revision"]}"', command=command)
