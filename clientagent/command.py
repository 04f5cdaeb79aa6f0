"""The `gpuferry` command: finds the part that owns a subcommand, and says which extra to install when it is missing.

Only the standard library here: this file runs on every client VM.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Subcommand:
    """`module:function` takes the remaining arguments and returns an exit status."""

    target: str
    extra: str
    summary: str


SUBCOMMANDS = {
    "run": Subcommand("clientagent.run:main", "client", "run a program on GPUs of the pool, or of one server"),
    "smi": Subcommand("clientagent.listing:smi", "client", "the pool in the manner of nvidia-smi; or one server"),
    "stats": Subcommand("clientagent.listing:stats", "client", "how your leases are used, or one server"),
    "version": Subcommand("clientagent.show:version", "client", "the versions of this client"),
    "gpuserver": Subcommand("gpuserver.command:main", "gpuserver", "the GPU server daemon"),
    "enrol": Subcommand("clientagent.pool_commands:enrol_main", "client", "make this machine known to the appliance"),
    "agent": Subcommand("clientagent.pool_commands:agent_main", "client", "keep this VM's leases, watch its health"),
    "request": Subcommand("clientagent.pool_commands:request_main", "client", "hold GPUs until they are released"),
    "client": Subcommand("clientagent.pool_commands:client_main", "client", "run a program on the requested GPUs"),
    "release": Subcommand("clientagent.pool_commands:release_main", "client", "give requested GPUs back"),
    "list": Subcommand(
        "clientagent.listing:main", "client", "the pool's GPUs and servers, your leases; or one server's"
    ),
    "health": Subcommand("clientagent.pool_commands:health_main", "client", "how this client and the servers are"),
    "netperf": Subcommand("clientagent.pool_commands:netperf_main", "client", "measure the way to the servers"),
    "appliance": Subcommand("appliance.command:main", "appliance", "the management service of a site"),
    "runs": Subcommand("appliance.runs_command:main", "appliance", "provisioning runs: start, watch, cancel, retry"),
    "console": Subcommand("tui.command:main", "console", "see and run the pool in a terminal"),
    "softgpu": Subcommand("gpuserver.softgpu.command:main", "gpuserver", "run a program on the software GPU"),
    "vcenter": Subcommand("vcenter.command:main", "vcenter", "hosts, GPUs, passthrough and server VMs of a vCenter"),
    "coverage": Subcommand("gpuserver.protocol.coverage:main", "gpuserver", "what is forwarded, function by function"),
}


def usage() -> str:
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:<{width}}  {sub.summary}" for name, sub in sorted(SUBCOMMANDS.items())]
    return "usage: gpuferry SUBCOMMAND ...\n\n" + "\n".join(lines) + "\n\n`gpuferry SUBCOMMAND --help` says more.\n"


def load(name: str) -> Callable[[list[str]], int]:
    """The function behind a subcommand. Raises SystemExit with the remedy when its part is not installed."""
    sub = SUBCOMMANDS[name]
    module, _, function = sub.target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except ModuleNotFoundError as missing:
        raise SystemExit(
            f"gpuferry {name}: the Python package {missing.name!r} is not installed. "
            f"Install the part that has it: pip install 'gpuferry[{sub.extra}]'"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    if arguments[0] not in SUBCOMMANDS:
        sys.stderr.write(f"gpuferry: there is no subcommand {arguments[0]!r}\n\n{usage()}")
        return 2
    return load(arguments[0])(arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())
