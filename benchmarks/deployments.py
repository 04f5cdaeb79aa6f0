"""Many client deployments at once: real sshd, real installers, real agents that enrol at a real appliance.

    python -m benchmarks.deployments [--guests 100] [--at-once 50]

Each target is a sandboxed guest of the simulated vCenter: namespaces of this machine, so root is needed, and all of
them share its cores: the times are upper bounds. Printed: the time of each target, their distribution, the same again
(which changes nothing), and the removal. Exit status 1 when a target failed or something of gpuferry stayed on one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/appliance"), str(ROOT / "tests/appliance/deploy")]

from deploy_site import DeploySite, guests_of  # noqa: E402
from service_site import ServiceSite  # noqa: E402

from appliance.deploy.building import build_bundle  # noqa: E402
from appliance.deploy.deployment import deploy, uninstall  # noqa: E402
from appliance.deploy.fleet import Outcome, for_each  # noqa: E402
from appliance.deploy.ssh import Target  # noqa: E402


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def timed(title: str, targets: Sequence[Target], work: Callable[..., Any], at_once: int) -> list[Outcome[Any]]:
    started = time.monotonic()
    outcomes = list(for_each(targets, work, at_once=at_once))
    whole = time.monotonic() - started
    times = sorted(each.seconds for each in outcomes)
    failed = [each for each in outcomes if each.error is not None]
    span = f"{times[0]:.1f} to {times[-1]:.1f} s, median {statistics.median(times):.1f} s"
    say(
        f"{title}: {len(outcomes) - len(failed)} of {len(outcomes)} in {whole:.1f} s "
        f"({whole / len(outcomes):.2f} s a target); one took {span}"
    )
    for each in failed:
        say(f"  failed: {each.error}")
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--guests", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuferry-benchmark-") as name:
        folder = Path(name)
        with guests_of(folder, options.guests) as guests:
            service = ServiceSite(folder / "site", f"sqlite:///{folder / 'appliance.db'}", guests.gateway)
            try:
                service.serve()
                bundle = build_bundle(service.folder, installed=True)
                service.await_up(120)
                site = DeploySite(service, bundle, guests)
                say(f"switching {options.guests} guests on (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
                with ThreadPoolExecutor(8) as pool:
                    made = list(pool.map(lambda _: guests.new(), range(options.guests)))
                targets = [each.target for each in made]
                # All of them start at once on these few cores: an agent's welcome is waited for as long as that takes.
                settings = replace(site.settings, verify_s=600.0)

                def put(target: Target, on_progress: Callable[..., None]) -> object:
                    return deploy(target, bundle, "client", settings, site.ticket, on_progress)

                first = timed("deployed", targets, put, options.at_once)
                for each in sorted(first, key=lambda outcome: outcome.seconds):
                    say(f"  {each.target.address:<16} {each.seconds:6.1f} s")
                seen = {each["hostname"] for each in site.clients()}
                say(f"the appliance knows {len(seen)} clients")
                again = timed("repeated", targets, put, options.at_once)
                unchanged = sum(each.result is not None and not each.result.changed for each in again)
                say(f"  {unchanged} were unchanged")
                gone = timed("removed", targets, lambda target, _: uninstall(target, "client"), options.at_once)
                left = [each.address for each in made if any("/opt/gpuferry" in path for path in each.files())]
                say(f"left on {len(left)} targets: {', '.join(left) or 'nothing'}")
                failed = any(each.error for each in (*first, *again, *gone))
                return 1 if failed or left or len(seen) != options.guests or unchanged != options.guests else 0
            finally:
                service.close()


if __name__ == "__main__":
    raise SystemExit(main())
