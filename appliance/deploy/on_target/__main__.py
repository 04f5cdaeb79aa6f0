"""The installer's command line.

    installer.pyz install        the request as one JSON line on standard input (it may hold a ticket)
    installer.pyz foresee        the same request: what `install` would find wrong, and would change
    installer.pyz uninstall | describe ROLE
    installer.pyz uninstall appliance --with-site    its keys and its database, too
    installer.pyz upgrade ROLE   the order that the service has left, fetched from the appliance
    installer.pyz service start|stop|restart|status|supervise ROLE

Lines before the request are ignored: what sudo did not read of a password is none of ours.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from . import install, services, upgrade
from .foresee import foresee
from .layout import SERVICES, Layout
from .report import Failure, Reporter
from .uninstall import remove_role

MARK = "gpuferry-request "


def read_request() -> dict[str, Any]:
    """The first line of standard input that is a request. Raises Failure."""
    for line in sys.stdin:
        if line.startswith(MARK):
            request = json.loads(line[len(MARK) :])
            if isinstance(request, dict):
                return request
    raise Failure("request", "no request came over the connection", "Deploy again.")


def requested(fields: dict[str, Any]) -> install.Request:
    return install.Request(
        role=str(fields["role"]),
        folder=Path(str(fields["folder"])),
        key=bytes.fromhex(str(fields["key"])),
        config=dict(fields.get("config", {})),
        ticket=str(fields.get("ticket", "")),
        name=str(fields.get("name", "")),
        appliance_key=str(fields.get("appliance_key", "")),
        enrol_again=bool(fields.get("enrol_again")),
        new_key=bool(fields.get("new_key")),
        verify_s=float(fields.get("verify_s", 60.0)),
        parts=tuple(map(str, fields.get("parts", ()))),
        site=dict(fields.get("site", {})),
    )


def control_service(verb: str, layout: Layout) -> int:
    if verb == "supervise":
        return services.supervise(layout)
    if verb in ("start", "restart"):
        services.start(layout)
    elif verb == "stop":
        services.stop(layout)
    return 0 if verb != "status" or services.running(layout) else 3


def main(arguments: list[str]) -> int:
    # The connection may break at any moment; what was begun is finished or put back all the same.
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o022)
    parser = argparse.ArgumentParser(prog="installer.pyz")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("install", "foresee"):
        commands.add_parser(name).add_argument("--root", type=Path, default=Path("/"))
    for name in ("uninstall", "describe", "upgrade"):
        one = commands.add_parser(name)
        one.add_argument("role", choices=sorted(SERVICES))
        one.add_argument("--root", type=Path, default=Path("/"))
        if name == "uninstall":
            one.add_argument("--with-site", action="store_true")
    service = commands.add_parser("service")
    service.add_argument("verb")
    service.add_argument("role", choices=sorted(SERVICES))
    service.add_argument("--root", type=Path, default=Path("/"))
    options = parser.parse_args(arguments)
    report = Reporter()
    try:
        if options.command == "service":
            return control_service(options.verb, Layout(options.role, options.root))
        if options.command == "upgrade":
            return 0 if upgrade.carry_out(Layout(options.role, options.root)) else 1
        if options.command == "install":
            request = requested(read_request())
            layout = Layout(request.role, options.root)
            changed = install.install(layout, request, report)
            report.result(changed=changed, made=report.made, **install.describe(layout))
        elif options.command == "foresee":
            fields = read_request()
            request = requested(fields)
            layout = Layout(request.role, options.root)
            reach, clock = tuple(map(str, fields.get("reach", ()))), float(fields.get("clock", 0.0))
            report.result(before=install.describe(layout), **foresee(layout, request, reach, clock))
        elif options.command == "uninstall":
            kept = options.role == "appliance" and not options.with_site
            report.result(changed=remove_role(Layout(options.role, options.root), keep_identity=kept))
        else:
            report.result(**install.describe(Layout(options.role, options.root)))
    except Failure as failure:
        report.failure(failure)
        return 1
    except Exception as wrong:
        full = isinstance(wrong, OSError) and wrong.errno in (errno.ENOSPC, errno.EDQUOT)
        report.failure(
            Failure("space", f"a disk is full: {wrong}", "Make room.")
            if full
            else Failure("failed", f"{type(wrong).__name__}: {wrong}")
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
