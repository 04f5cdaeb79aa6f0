"""The client's commands against the appliance: enrol, agent, request, client, release, list, health, netperf.

    gpuferry enrol TICKET                     once per client VM (or user)
    gpuferry agent                            the agent: keeps requested leases, watches this VM's health
    gpuferry request -n 1 -m 2048             a lease that stays until `release`, kept by the agent
    gpuferry client -- python3                a program under it
    gpuferry list | health | netperf          what there is, how it is, how far away it is

Python 3.9 with pyzmq alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from clientagent.condition import observe, rdma_state
from clientagent.control import (
    VERSION,
    ApplianceAwayError,
    ClientControl,
    LeaseDeniedError,
    find_identity,
)
from clientagent.keeper import prepare_program
from clientagent.lease_options import add_lease_options, duration, request_from
from clientagent.program import RunError, become, check_program, find_shim, program_environment
from gpuserver.protocol.control import messages, path, upgrading
from gpuserver.protocol.control.codec import build, encode
from gpuserver.protocol.control.curve import IdentityError, TicketError, identity_path, parse_ticket, write_private
from gpuserver.protocol.control.enrolment import EnrolmentError, enrol_into

OBSERVE_EVERY_S = 60.0


def state_folder() -> Path:
    """Where requested leases are noted for `gpuferry client`: `GPUFERRY_STATE`, or beside the identity."""
    folder = os.environ.get("GPUFERRY_STATE")
    return Path(folder) if folder else identity_path(messages.CLIENT).parent


def lease_file() -> Path:
    return state_folder() / "lease.json"


def say(text: str) -> None:
    sys.stderr.write(f"gpuferry: {text}\n")


def table(rows: Sequence[Dict[str, str]], columns: Sequence[str]) -> str:
    """Rows as aligned columns with a head."""
    lines = [[name.upper().replace("_", " ") for name in columns]]
    lines += [[row.get(name, "") for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines)


def connected(instance: str = "") -> ClientControl:
    """A connection that the appliance has welcomed; to be closed. Raises IdentityError, ApplianceAwayError."""
    control = ClientControl(find_identity(), instance)
    control.link.start()
    try:
        control.await_appliance()
    except ApplianceAwayError:
        control.link.stop()
        raise
    return control


def enrol(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry enrol", description="Make this machine known to the appliance.")
    parser.add_argument("ticket", help="from `gpuferry appliance token --enrol client`; - reads it from standard input")
    parser.add_argument("--name", default="", help="the name it gets; default: the host name")
    parser.add_argument("--as", dest="role", choices=(messages.CLIENT, messages.SERVER), default=messages.CLIENT)
    parser.add_argument("--identity", type=Path, default=None, help="where its key is kept")
    options = parser.parse_args(arguments)
    ticket = parse_ticket(sys.stdin.readline() if options.ticket == "-" else options.ticket)
    path = options.identity or identity_path(options.role)
    identity = enrol_into(path, ticket, options.role, options.name, VERSION)
    sys.stdout.write(f"{identity.name} is enrolled as {identity.id}; its key is in {path}\n")
    return 0


def request(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry request", description="Hold GPUs until `gpuferry release`.")
    add_lease_options(parser)
    options = parser.parse_args(arguments)
    if lease_file().exists():
        held = json.loads(lease_file().read_text())["lease"]
        say(f"{held} is held already: give it back with `gpuferry release` first")
        return 1
    control = connected()
    try:
        wanted = request_from(options, control.instance, keeper=messages.AGENT)
        granted = control.acquire(wanted, on_queued=_tell_place, on_trouble=say)
    finally:
        control.link.stop()
    write_private(lease_file(), encode(granted))
    if "GPUFERRY_STATE" in os.environ:
        lease_file().chmod(0o640)  # the folder's group: the agent, and whoever may use this VM's leases
    for grant in granted.grants:
        for each in grant.slices:
            sys.stdout.write(f"GPU {each.ordinal}: {each.memory_mib} MiB of {each.gpu} on {grant.name}\n")
    return 0


def _tell_place(queued: messages.Queued) -> None:
    say(f"waiting, number {queued.position} in the queue: {queued.reason}")


def client(arguments: List[str]) -> int:
    """Run a program under the requested lease, in this process's place."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: gpuferry client -- PROGRAM [ARGUMENT ...]\n\nRun a program under the requested lease.\n"
        )
        return 0 if command else 2
    if not lease_file().exists():
        say("no lease is held: ask for one with `gpuferry request -n 1 -m MIB`")
        return 1
    missing = check_program("client", command)
    if missing:
        return missing
    try:
        found = prepare_program(build(messages.Granted, json.loads(lease_file().read_text())), state_folder())
        environment = program_environment(find_shim(), found["settings"], found["gpus"])
    except RunError as failure:
        say(f"{failure}. If the lease is over, `gpuferry release` forgets it")
        return 1
    return become("client", command, environment)


def release(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry release", description="Give requested GPUs back.")
    parser.add_argument("lease", nargs="?", help="default: the one that `gpuferry request` noted")
    options = parser.parse_args(arguments)
    lease: Optional[str] = options.lease
    if lease is None:
        if not lease_file().exists():
            say("no lease is held")
            return 1
        lease = str(json.loads(lease_file().read_text())["lease"])
    control = connected()
    try:
        control.release(lease, "gpuferry release")
        # The answer to a later question shows that the release has arrived; it may still be under way.
        left = len({row["lease"] for row in control.ask("leases")} - {lease})
    finally:
        control.link.stop()
    if lease_file().exists() and json.loads(lease_file().read_text())["lease"] == lease:
        lease_file().unlink()
    others = f"; {left} other {'leases are' if left > 1 else 'lease is'} held" if left else ""
    sys.stdout.write(f"{lease} was given back{others}\n")
    return 0


def list_(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry list", description="The pool's GPUs, servers, and your leases.")
    parser.add_argument("what", nargs="?", choices=("gpus", "servers", "leases"), default="gpus")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    columns = {
        "gpus": ("server", "gpu", "name", "memory_mib", "free_mib", "state"),
        "servers": ("server", "address", "state", "rdma", "cuda", "driver"),
        "leases": ("lease", "state", "gpus", "position", "since", "slices", "reason"),
    }[options.what]
    control = connected()
    try:
        rows = control.ask(options.what)
    finally:
        control.link.stop()
    sys.stdout.write((json.dumps(rows, indent=1) if options.json else table(rows, columns)) + "\n")
    return 0


def health(arguments: List[str]) -> int:
    """Measure this VM, and show its readings and whatever is not well on the servers; status 1 when anything is."""
    parser = argparse.ArgumentParser(prog="gpuferry health", description="How this client and the servers are.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    control = connected()
    try:
        control.link.send(messages.Observations(control.instance, observe()))
        threading.Event().wait(1.5)
        rows = control.ask("health")
    finally:
        control.link.stop()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write(table(rows, ("state", "subject", "check", "value", "threshold")) + "\n")
        for row in rows:
            if row["state"] != "ok":
                sys.stdout.write(f"\n{row['check']}: {row['meaning']}\n  {row['remedy']}\n")
    return 1 if any(row["state"] in ("warning", "failed") for row in rows) else 0


def measure_paths(arguments: List[str]) -> int:
    """Measure the way to the pool's servers and tell the appliance, which prefers close ones."""
    parser = argparse.ArgumentParser(prog="gpuferry netperf", description="Round trip, bandwidth and MTU to servers.")
    parser.add_argument("server", nargs="*", help="names; default: every active server")
    parser.add_argument("--port", type=int, default=path.PORT, help=f"of the servers' responders ({path.PORT})")
    parser.add_argument("--time-limit", type=duration, default=5.0, help="for connecting (5s)")
    options = parser.parse_args(arguments)
    control = connected()
    shown: List[Dict[str, str]] = []
    failed = 0
    try:
        for row in control.ask("servers"):
            if (options.server and row["server"] not in options.server) or (
                not options.server and row["state"] != "active"
            ):
                continue
            host = row["address"].rpartition(":")[0]
            try:
                found = path.measure(host.strip("[]"), options.port, options.time_limit)
            except (OSError, ValueError) as failure:
                failed += 1
                shown.append({"server": row["server"], "round_trip": f"not reached: {failure}"})
                continue
            rdma = row["rdma"] == "yes" and rdma_state() == "active"
            control.link.send(messages.Measured(row["id"], found.round_trip_us, found.bandwidth_mbps, found.mtu, rdma))
            shown.append(
                {
                    "server": row["server"],
                    "round_trip": f"{found.round_trip_us:.0f} µs",
                    "bandwidth": f"{found.bandwidth_mbps:.0f} Mbit/s",
                    "mtu": str(found.mtu or "unknown"),
                }
            )
        control.ask("leases")
    finally:
        control.link.stop()
    sys.stdout.write(table(shown, ("server", "round_trip", "bandwidth", "mtu")) + "\n")
    return 1 if failed else 0


def agent(arguments: List[str]) -> int:
    """The client VM's agent: its heartbeats keep requested leases; it reports this VM's health. Ends on SIGTERM.

    Where the installer restarts it, it ends without a word: the one that is started after it keeps the leases, in its
    next version perhaps.
    """
    parser = argparse.ArgumentParser(prog="gpuferry agent", description="Keep this VM's leases and watch its health.")
    parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    upgrading.note_start()
    control = ClientControl(find_identity(), messages.AGENT)
    control.observe = observe
    control.upgrade = lambda order: upgrading.carry_out(order, control.link.send, stop)
    control.link.start()
    reporter = threading.Thread(target=_report_health, args=(control, stop), daemon=True)
    reporter.start()
    while not stop.wait(0.2):
        while not control.events.empty():
            event = control.events.get()
            if isinstance(event, messages.Notice):
                say(f"{event.lease}: {event.text}")
            else:
                say(f"{event.lease} ended: {event.reason}")
                _forget(event.lease)
        upgrading.say_result(control.link.send)
    if upgrading.is_followed():
        control.link.die()
    else:
        control.link.stop("the agent stops")
    return 0


def _forget(lease: str) -> None:
    """The note of a lease that is over goes, where this process may take it away."""
    try:
        if json.loads(lease_file().read_text())["lease"] == lease:
            lease_file().unlink()
    except (OSError, ValueError, KeyError):
        pass  # there is none, or it is another user's own


def _report_health(control: ClientControl, stop: threading.Event) -> None:
    while not stop.is_set():
        if control.link.connected.wait(1.0):
            control.link.send(messages.Observations(control.instance, observe()))
            stop.wait(OBSERVE_EVERY_S)


def guarded(command: Callable[[List[str]], int]) -> Callable[[List[str]], int]:
    """Errors that a person can mend are told in one line."""

    def run(arguments: List[str]) -> int:
        try:
            return command(arguments)
        except LeaseDeniedError as denied:
            say(f"{denied.reason}")
            return 1
        except (IdentityError, TicketError, EnrolmentError, ApplianceAwayError, OSError) as failure:
            say(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130

    return run


enrol_main = guarded(enrol)
agent_main = guarded(agent)
request_main = guarded(request)
client_main = guarded(client)
release_main = guarded(release)
list_main = guarded(list_)
health_main = guarded(health)
netperf_main = guarded(measure_paths)
