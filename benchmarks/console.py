"""How fast the console answers keys on a large pool: 1,000 servers × 8 GPUs, 20,000 leases, a live appliance.

    python benchmarks/console.py [--servers 1000] [--gpus 8] [--leases 20000] [--presses 100]

The appliance is a process of its own with every GPU server on its control bus (as in lease_decisions.py). Reported, as
JSON: milliseconds from a key's press to the first picture after it (p50, p95, max) for each kind of key, how long the
first picture of the pool took, how many requests the console sent, its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from appliance.api.security import Scope, issue
from appliance.certificates import issue as issue_certificate
from appliance.certificates import make_authority
from appliance.site import SiteConfig, make_site
from appliance.state.database import migrate, open_database
from benchmarks.lease_decisions import fill, free_port, make_pool, play_servers
from tui.app import ConsoleApp
from tui.pool_map import PoolMap
from tui.profile import Profile

KEYS = {
    "pool: next line": ("1", "down"),
    "pool: next page": ("1", "pagedown"),
    "pool: zoom": ("1", "z"),
    "leases: next line": ("4", "down"),
    "leases: next page": ("4", "pagedown"),
    "health: next line": ("5", "down"),
}


class TimedApp(ConsoleApp):
    """Notes when a picture was given to the terminal, and how many requests were sent."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.painted: list[float] = []
        self.requests = 0

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)
        self.painted.append(time.perf_counter())

    async def press(self, pilot: Any, key: str) -> float:
        """Milliseconds from a key to the first picture after it."""
        begin = time.perf_counter()
        await pilot.press(key)
        while not self.painted or self.painted[-1] < begin:
            if time.perf_counter() - begin > 5:
                return 5000.0
            await asyncio.sleep(0.001)
        return next(each for each in self.painted if each >= begin) * 1000 - begin * 1000


def summary(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        name: round(times[min(len(times) - 1, int(len(times) * part))], 1)
        for name, part in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


async def measure(profile: Profile, presses: int) -> dict[str, Any]:
    app = TimedApp(profile)
    begin = time.perf_counter()
    async with app.run_test(size=(160, 50)) as pilot:

        async def counted(request: Any) -> None:
            app.requests += 1

        while not app.ready:
            await asyncio.sleep(0.01)
        app.appliance.http.event_hooks["request"].append(counted)
        pool = app.query_one(PoolMap)
        while not pool.details:
            await pilot.pause(0.01)
        result: dict[str, Any] = {"first_picture_of_the_pool_s": round(time.perf_counter() - begin, 2)}
        times: dict[str, list[float]] = {name: [] for name in KEYS}
        for name, (tab, key) in KEYS.items():
            await pilot.press(tab)
            for _ in range(100):
                await pilot.pause(0.02)
                if app.current_pane is not None and app.current_pane.loads:
                    break
            for _ in range(presses):
                app.painted.clear()
                times[name].append(await app.press(pilot, key))
        every = [each for those in times.values() for each in those]
        result["key_to_picture_ms"] = {name: summary(those) for name, those in times.items()} | {"all": summary(every)}
        result["requests"] = app.requests
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--leases", type=int, default=20_000)
    parser.add_argument("--presses", type=int, default=100)
    args = parser.parse_args()
    args.database = ""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="gpuferry-console-") as name:
        folder = Path(name)
        os.environ["XDG_CONFIG_HOME"] = name
        config = SiteConfig(
            "127.0.0.1", f"sqlite:///{folder}/appliance.db", *(free_port() for _ in range(3)), listen="127.0.0.1"
        )
        site = make_site(folder / "site", config)
        make_authority(site.folder, "bench")
        issue_certificate(site.folder, ["127.0.0.1"])
        migrate(config.database)
        servers, _, _, held = fill(site, make_pool(args), args)
        engine = open_database(config.database)
        _, token = issue(engine, "bench", Scope.ADMIN)
        engine.dispose()
        (folder / "token").write_text(token)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        command = [sys.executable, "-m", "clientagent.command", "appliance", "serve", "--data", str(site.folder)]
        with (folder / "log").open("w") as log:
            appliance = subprocess.Popen([*command, "--log-level", "WARNING"], env=environment, stdout=log, stderr=log)
        here, there = multiprocessing.Pipe()
        arguments = (config.control_endpoint, site.curve_public, servers, args.gpus, (held, there))
        daemons = multiprocessing.Process(target=play_servers, args=arguments, daemon=True)
        daemons.start()
        try:
            if not here.poll(300):
                raise SystemExit(f"the servers were not welcomed: {(folder / 'log').read_text()[-2000:]}")
            profile = Profile(config.api_url, str(folder / "token"), str(site.folder / "ca.pem"))
            result = asyncio.run(measure(profile, args.presses))
            result |= {
                "servers": args.servers,
                "gpus": args.servers * args.gpus,
                "leases": args.leases,
                "console_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "load_average": os.getloadavg()[0],
            }
            sys.stdout.write(json.dumps(result, indent=1) + "\n")
            here.send("stop")
        finally:
            appliance.terminate()
            appliance.wait(30)
            daemons.kill()


if __name__ == "__main__":
    main()
