"""How fast the console answers keys on a large site: 1,000 servers × 8 GPUs, 20,000 leases, a busy appliance.

    python benchmarks/console.py [FOLDER] [--servers 1000] [--gpus 8] [--leases 20000] [--vms 10000] [--presses 100]

The console runs in a terminal (a pty of 160×50) as `gpuferry console` does; its keys are pressed and its pictures read
at the other end. The appliance is a process of its own with every GPU server on its control bus (lease_decisions.py);
clients take and release leases all the while, so events come without an end. Its vCenter is a simulated one of as many
hosts (vcenter_inventory.py). All of that shares what is left of the machine when the console has a core, as if it ran
on its user's machine; what else runs here slows both, so the load is told with the figures.

Measured, for every screen:
- key to paint: from a key's press, in a moment of quiet, to the end of the next picture on the terminal
- open: from a tab's key to the first picture that has its content
- rows: how many there are, how many the console has read, how many it has ever drawn
- idle: what the console takes of a core and writes to the terminal, per second, while only events come

Prints tables; writes console.json and, where matplotlib is installed (dependency group `benchmarks`), console.png to
FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from appliance.api.security import Scope, issue
from appliance.certificates import issue as issue_certificate
from appliance.certificates import make_authority
from appliance.site import SiteConfig, make_site
from appliance.state import models
from appliance.state.database import migrate, open_database, writing
from benchmarks.lease_decisions import CHUNK, cpu_seconds, fill, free_port, make_pool, play_clients, play_servers
from benchmarks.vcenter_inventory import serve

ROOT = Path(__file__).resolve().parent.parent
SIZE = (160, 50)
QUIET_S = 0.02
"""A key is pressed when the console has painted nothing for so long."""
PATIENCE_S = 30.0
END_OF_PICTURE = b"\x1b[?2026l"
"""Textual ends every picture so in terminals that can synchronize."""
TARGET_MS = 50.0
KEYS = {
    "down": b"\x1b[B", "up": b"\x1b[A", "left": b"\x1b[D", "right": b"\x1b[C", "page down": b"\x1b[6~",
    "page up": b"\x1b[5~", "a letter of the filter": b"e",
}  # fmt: skip
# Each screen: its key, what stands on it when it has its content, and the keys that are measured there, with how each
# is undone so that there always is something to paint.
SCREENS: dict[str, tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]] = {
    "Pool": (b"1", b"server-00000", (("down", b""), ("page down", b""), ("z", b""))),
    "vCenter": (b"2", b"esx-0000", (("down", b""), ("page down", KEYS["page up"]), ("left", KEYS["right"]))),
    "Runs": (b"3", b"run-0", (("down", b""), ("page down", b""))),
    "Leases": (b"4", b"client-0", (("down", b""), ("page down", b""), ("a letter of the filter", b"\x7f"))),
    "Health": (b"5", b"daemon.version", (("down", b""), ("page down", b""))),
    "Events": (b"6", b"lease.", (("down", b""), ("page down", b""))),
    "Settings": (b"7", b"idle", (("down", KEYS["up"]),)),
}


class Terminal:
    """The console in a pty, seen from the other end."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.end, there = pty.openpty()
        termios.tcsetwinsize(there, (SIZE[1], SIZE[0]))
        self.painted = 0
        self.last = b""
        self.process = subprocess.Popen(
            command, stdin=there, stdout=there, stderr=there, env=environment, start_new_session=True
        )
        os.close(there)

    def read(self, seconds: float) -> bytes:
        """What is written within a time; nothing when it is quiet for so long."""
        if not select.select([self.end], [], [], seconds)[0]:
            return b""
        told = os.read(self.end, 1 << 16)
        self.painted += len(told)
        self.last = (self.last + told)[-20_000:]
        if b"\x1b[?2026$p" in told:
            os.write(self.end, b"\x1b[?2026;2$y")  # "I can synchronize"
        return told

    def settle(self) -> None:
        """Wait for a moment of quiet."""
        begin = time.monotonic()
        while self.read(QUIET_S) and time.monotonic() - begin < PATIENCE_S:
            pass

    def press(self, key: bytes, what: bytes = END_OF_PICTURE, patience: float = 5.0) -> float | None:
        """Milliseconds from a key to the end of the next picture (with `what` in one); None when none comes."""
        self.settle()
        begin = time.perf_counter()
        os.write(self.end, key)
        seen = b""
        while (left := begin + patience - time.perf_counter()) > 0:
            seen += self.read(left)
            if what in seen and END_OF_PICTURE in seen[seen.index(what) :]:
                return (time.perf_counter() - begin) * 1000
        return None

    def idle(self, seconds: float) -> dict[str, float]:
        """What it takes while nobody presses anything."""
        begin, cpu, painted = time.monotonic(), cpu_seconds(self.process.pid), self.painted
        while (left := begin + seconds - time.monotonic()) > 0:
            self.read(left)
        took = time.monotonic() - begin
        return {
            "cores": round((cpu_seconds(self.process.pid) - cpu) / took, 3),
            "bytes_s": round((self.painted - painted) / took),
        }

    def memory_mib(self) -> int:
        line = next(
            each for each in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if "VmHWM" in each
        )
        return int(line.split()[1]) // 1024


def summary(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        name: round(times[min(len(times) - 1, int(len(times) * part))], 1)
        for name, part in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    } | {"presses": len(times)}


def measure(terminal: Terminal, presses: int, idle_s: float) -> dict[str, Any]:
    opened: dict[str, float] = {}
    times: dict[str, dict[str, list[float]]] = {}
    idle: dict[str, dict[str, float]] = {}
    begin = time.monotonic()
    shown = b""
    while b"server-00000" not in shown:
        shown += terminal.read(PATIENCE_S)
        if time.monotonic() - begin > PATIENCE_S:
            raise SystemExit(f"the console showed no pool: {shown[-4000:].decode(errors='replace')!r}")
    first_s = time.monotonic() - begin
    for screen, (key, content, keys) in SCREENS.items():
        if screen != "Pool":
            took = terminal.press(key, content, PATIENCE_S)
            if took is None:
                seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.last.decode(errors="replace"))
                raise SystemExit(f"{seen}\nthe tab {screen} did not show {content!r} within {PATIENCE_S:g} s")
            opened[screen] = round(took, 1)
        time.sleep(1.0)
        idle[screen] = terminal.idle(idle_s)
        times[screen] = {}
        for name, undo in keys:
            found: list[float] = []
            if name.startswith("a letter"):
                terminal.press(b"/")
            for number in range(presses):
                took = terminal.press(undo if undo and number % 2 else KEYS.get(name, name.encode()))
                if took is None:
                    break  # the end of a list: nothing moves any more
                found.append(took)
            if name.startswith("a letter"):
                os.write(terminal.end, b"\x1b")
                time.sleep(0.5)  # alone it is Escape; with a key at its heels it would be Alt and that key
            if len(found) < min(presses, 5):
                raise SystemExit(f"{screen}: {name} painted only {len(found)} times")
            times[screen][name] = found
    every = [each for keys_ in times.values() for those in keys_.values() for each in those]
    return {
        "key_to_paint_ms": {
            screen: {name: summary(those) for name, those in keys_.items()} for screen, keys_ in times.items()
        },
        "all": summary(every),
        "first_picture_of_the_pool_s": round(first_s, 2),
        "open_ms": opened,
        "idle": idle,
        "console_mib": terminal.memory_mib(),
    }


# The console that is measured: the product, which also counts the rows it draws.


def be_console(url: str, token: str, ca: str, counts: str) -> None:
    """Run it; on SIGUSR1 it writes how many rows it has read and drawn to the file `counts`."""
    from textual.widgets import Tree

    from tui.app import ConsoleApp
    from tui.listing import Listing
    from tui.pane import Pane
    from tui.pool_map import PoolMap
    from tui.profile import Profile
    from tui.rows import Rows

    drawn: dict[str, set[object]] = {}

    def pane_of(widget: Any) -> str:
        return next((each.TITLE for each in widget.ancestors if isinstance(each, Pane)), "dialogs")

    def counted(kind: Any, method: str) -> None:
        plain = getattr(kind, method)

        def draw(self: Any, line: object, *more: Any, **named: Any) -> Any:
            drawn.setdefault(pane_of(self), set()).add((str(self.id or self.parent.id), line))
            return plain(self, line, *more, **named)

        setattr(kind, method, draw)

    counted(PoolMap, "_draw")
    counted(Rows, "_cells_of")
    counted(Tree, "_render_line")
    app = ConsoleApp(Profile(url, token, ca), own_process=True)

    def tell(*_: object) -> None:
        read = {
            pane.TITLE: sum(len(each.documents) for each in pane.query(Listing))
            + sum(each._starts[-1] for each in pane.query(PoolMap))
            + sum(each.last_line + 1 for each in pane.query(Tree))
            for pane in app.panes
        }
        rows = {name: {"read": count, "drawn": len(drawn.get(name, ()))} for name, count in read.items()}
        Path(counts).write_text(json.dumps(rows))

    signal.signal(signal.SIGUSR1, tell)
    app.run()


# The site.


def furnish(database: str, servers: int, gpus: int) -> dict[str, int]:
    """Runs, health readings, events and audit records, as a site has after some months. Says how many rows."""
    at = models.now()
    runs = [
        {
            "id": f"run-{i:05}", "kind": "provision-server", "subject": f"gpu{i:05}", "vcenter": "lab", "key": f"k{i}",
            "state": "succeeded", "parameters": {}, "facts": {}, "created_at": at, "started_at": at, "ended_at": at,
        }
        for i in range(servers)
    ]  # fmt: skip
    steps = [
        {
            "run_id": run["id"], "ordinal": j, "name": f"step-{j}", "title": f"The step number {j}", "state": "done",
            "found": "it was not there", "did": "it was made", "targets": [], "log": ["one line", "another line"],
            "attempts": 1, "started_at": at, "ended_at": at,
        }
        for run in runs
        for j in range(9)
    ]  # fmt: skip
    subjects = [(f"server-{i:05}", ("disk.free", "files.limit", "driver.version")) for i in range(servers)]
    checks = ("gpu.temperature", "gpu.utilisation", "gpu.power", "gpu.ecc", "gpu.throttle")
    subjects += [(f"server-{i:05}/GPU-{i:05}-{j}", checks) for i in range(servers) for j in range(gpus)]
    readings = [
        {
            "subject": subject, "check_name": check, "state": "ok" if number % 97 else "warning", "value": str(number),
            "threshold": "below 85", "meaning": "It is what it is.", "remedy": "Look at the fans.", "measured_at": at,
        }
        for number, (subject, those) in enumerate(subjects)
        for check in those
    ]  # fmt: skip
    events = [{"kind": "lease.granted", "subject": f"lease-{i:08}", "text": "a slice", "at": at} for i in range(20_000)]
    audit = [{"actor": "ada", "action": "lease made", "subject": f"lease-{i:08}", "status": 201} for i in range(5000)]
    engine = open_database(database)
    with writing(engine) as session:
        for table, rows in (
            (models.Run, runs), (models.RunStep, steps), (models.Reading, readings), (models.Event, events),
            (models.Audit, audit),
        ):  # fmt: skip
            for start in range(0, len(rows), CHUNK):
                session.connection().execute(insert(table), rows[start : start + CHUNK])
    engine.dispose()
    return {"Runs": len(runs), "Health": len(readings), "Events": len(events)}


@contextlib.contextmanager
def busy_site(args: argparse.Namespace, folder: Path) -> Iterator[tuple[list[str], dict[str, int], int]]:
    """A running appliance of that size: its url and the files of token and ca, every screen's rows, its process."""
    config = SiteConfig(
        "127.0.0.1", f"sqlite:///{folder}/appliance.db", *(free_port() for _ in range(3)), listen="127.0.0.1"
    )
    site = make_site(folder / "site", config)
    make_authority(site.folder, "bench")
    issue_certificate(site.folder, ["127.0.0.1"])
    migrate(config.database)
    servers, clients, owned, held = fill(site, make_pool(args), args)
    there = furnish(config.database, args.servers, args.gpus)
    there |= {"Leases": args.leases, "Pool": args.servers * (args.gpus + 1)}
    engine = open_database(config.database)
    _, token = issue(engine, "bench", Scope.ADMIN)
    engine.dispose()
    (folder / "token").write_text(token)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "clientagent.command", "appliance", "serve", "--data", str(site.folder)]
    with (folder / "log").open("w") as log:
        appliance = subprocess.Popen([*command, "--log-level", "WARNING"], env=environment, stdout=log, stderr=log)
    near, far = multiprocessing.Pipe()
    near_vcenter, far_vcenter = multiprocessing.Pipe()
    address, key = config.control_endpoint, site.curve_public
    bus = (address, key, servers, args.gpus, (held, far))
    busy = argparse.Namespace(rate=args.rate, seconds=3600.0)
    children = [
        multiprocessing.Process(target=play_servers, args=bus, daemon=True),
        multiprocessing.Process(target=serve, args=(args.servers, args.vms, far_vcenter, 1, args.gpus), daemon=True),
        multiprocessing.Process(target=play_clients, args=(address, key, clients, owned, busy), daemon=True),
    ]
    try:
        for child in children[:2]:
            child.start()
        if not near.poll(300):
            raise SystemExit(f"the servers were not welcomed: {(folder / 'log').read_text()[-2000:]}")
        port, user, password, fingerprint = near_vcenter.recv()
        with httpx.Client(
            base_url=config.api_url,
            headers={"Authorization": f"Bearer {token}"},
            verify=str(site.folder / "ca.pem"),
            timeout=60,
        ) as api:
            wanted = {"username": user, "password": password, "fingerprint": fingerprint}
            wanted |= {"name": "lab", "address": f"127.0.0.1:{port}"}
            made = api.post("/v1/vcenters", json=wanted).raise_for_status().json()
            deadline = time.monotonic() + 300
            while (answer := api.get(f"/v1/vcenters/{made['id']}/inventory")).status_code != 200:
                if time.monotonic() > deadline:
                    raise SystemExit(f"there is no inventory: {answer.text}")
                time.sleep(1)
            inventory = answer.json()
            there["vCenter"] = len(inventory["vms"]) + sum(1 + len(each["gpus"]) for each in inventory["hosts"])
        children[2].start()
        yield [config.api_url, str(folder / "token"), str(site.folder / "ca.pem")], there, appliance.pid
    finally:
        appliance.terminate()
        appliance.wait(30)
        for child in children:
            if child.pid is not None:
                child.kill()


# What is told of it.


def show(result: dict[str, Any]) -> None:
    keys = Table("screen", "key", "p50, ms", "p95, ms", "max, ms", "presses", title="Key to paint")
    for screen, those in (*result["key_to_paint_ms"].items(), ("all", {"": result["all"]})):
        for name, each in those.items():
            keys.add_row(screen, name, *(f"{each[part]:.1f}" for part in ("p50", "p95", "max")), str(each["presses"]))
    screens = Table("screen", "opens in, ms", "rows", "read", "drawn", "drawn, %", "idle, cores", "idle, bytes/s")
    screens.title = "Screens"
    for screen, rows in result["rows"].items():
        there = rows["there"]
        screens.add_row(
            screen,
            f"{result['open_ms'].get(screen, result['first_picture_of_the_pool_s'] * 1000):,.0f}",
            f"{there:,}" if there else "–",
            f"{rows['read']:,}",
            f"{rows['drawn']:,}",
            f"{rows['drawn'] / there:.1%}" if there else "–",
            f"{result['idle'][screen]['cores']:.2f}",
            f"{result['idle'][screen]['bytes_s']:,}",
        )
    console = Console(width=120)
    console.print(keys, screens)
    p95 = result["all"]["p95"]
    console.print(
        f"p95 of all keys {p95} ms (≤ {TARGET_MS:g} ms: {'met' if p95 <= TARGET_MS else 'MISSED'}), "
        f"{result['console_mib']} MiB, load {result['load_before']:.1f} before, {result['load_after']:.1f} after"
    )


def plot(result: dict[str, Any], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        sys.stderr.write("no plot: matplotlib is not installed\n")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [(f"{s}: {k}", each) for s, those in result["key_to_paint_ms"].items() for k, each in those.items()]
    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
    places = range(len(rows))
    axes.barh(places, [each["p95"] for _, each in rows], label="p95")
    axes.barh(places, [each["p50"] for _, each in rows], label="p50")
    axes.set_yticks(places, [name for name, _ in rows])
    axes.invert_yaxis()
    axes.axvline(TARGET_MS, color="grey", linestyle="--", label=f"{TARGET_MS:g} ms")
    axes.set_xlabel(f"key to paint, ms; {result['gpus']} GPUs, {result['leases']} leases")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    if sys.argv[1:2] == ["--console"]:
        be_console(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, nargs="?", default=ROOT / "build" / "benchmarks")
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--leases", type=int, default=20_000)
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--presses", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5.0, help="leases taken, and given back, per second")
    parser.add_argument("--idle", type=float, default=6.0, help="seconds of watching each screen")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    with tempfile.TemporaryDirectory(prefix="gpuferry-console-") as name:
        folder, load = Path(name), os.getloadavg()[0]
        with busy_site(args, folder) as (profile, there, appliance):
            surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": name, "TERM": "xterm-256color"}
            surroundings.pop("NO_COLOR", None)
            command = [sys.executable, str(Path(__file__).resolve()), "--console", *profile, f"{name}/counts"]
            busy = cpu_seconds(appliance)
            begin = time.monotonic()
            terminal = Terminal(command, surroundings)
            os.sched_setaffinity(terminal.process.pid, cores[:1])
            try:
                result = measure(terminal, args.presses, args.idle)
                terminal.process.send_signal(signal.SIGUSR1)
                terminal.idle(2.0)
                counts = json.loads((folder / "counts").read_text())
            finally:
                terminal.process.kill()
                terminal.process.wait()
            result["rows"] = {screen: {"there": there.get(screen, 0), **rows} for screen, rows in counts.items()}
            took = time.monotonic() - begin
            result |= {
                "servers": args.servers,
                "gpus": args.servers * args.gpus,
                "leases": args.leases,
                "leases_per_second": args.rate,
                "appliance_cores": round((cpu_seconds(appliance) - busy) / took, 2),
                "seconds": round(took),
                "load_before": load,
                "load_after": os.getloadavg()[0],
            }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "console.json").write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    plot(result, args.output / "console.png")


if __name__ == "__main__":
    main()
