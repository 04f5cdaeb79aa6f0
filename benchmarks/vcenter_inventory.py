"""Loading a vCenter's inventory: one traversal against asking object by object. Calls, time, processor time, memory.

    python benchmarks/vcenter_inventory.py                          up to 1,000 hosts and 10,000 VMs
    python benchmarks/vcenter_inventory.py --size 10x100 --json out.json

The simulated vCenter runs in a process of its own, and so does every way of loading, so that processor time and peak
memory are the client's alone. Times depend on the machine and on the simulator's speed; the number of calls does not.
Asking object by object is run up to `--per-object-up-to` objects only (it takes minutes beyond); both ways must find
the same.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

WAYS = ("one traversal", "one traversal, pages of 500", "live, until the first whole inventory", "object by object")


@dataclass(frozen=True)
class Measurement:
    way: str
    hosts: int
    vms: int
    gpus: int
    calls: int
    seconds: float
    cpu_seconds: float
    peak_mib: int


def site(hosts: int, vms: int, every: int = 10, gpus: int = 4) -> dict[str, Any]:
    """A data centre: of `every` so many hosts one has GPUs and an RDMA NIC."""

    def host(number: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": f"esx-{number:04}", "nics": [{"model": "X710", "switch": "DSwitch"}]}
        if number % every == 0:
            entry["gpus"] = [{"model": "A100-PCIE-40GB", "count": gpus, "passthrough": "active"}]
            entry["nics"].append({"model": "ConnectX-6-Dx", "switch": "DSwitch-RDMA"})
        return entry

    clusters = [
        {
            "name": f"cluster-{first // 50:02}",
            "drs": True,
            "hosts": [host(n) for n in range(first, min(first + 50, hosts))],
        }
        for first in range(0, hosts, 50)
    ]
    machines = [
        {
            "name": f"vm-{number:05}",
            "host": f"esx-{number % hosts:04}",
            "datastore": "vsan",
            "network": "dv-lan",
            "cpus": 2,
            "memory_gib": 4,
            "disk_gib": 10,
        }
        for number in range(vms)
    ]
    return {
        "datacenters": [
            {
                "name": "DC",
                "datastores": [{"name": "vsan", "capacity_gib": 1_000_000}],
                "networks": ["VM Network"],
                "switches": [
                    {"name": "DSwitch", "portgroups": [{"name": "dv-lan"}]},
                    {"name": "DSwitch-RDMA", "portgroups": [{"name": "dv-rdma"}]},
                ],
                "clusters": clusters,
                "virtual_machines": machines,
            }
        ]
    }


def serve(hosts: int, vms: int, pipe: Connection, every: int = 10, gpus: int = 4) -> None:
    """Child process: a simulated vCenter until the pipe says stop."""
    from vcenter.simulator import start

    with start(site(hosts, vms, every, gpus)) as simulation:
        pipe.send((simulation.port, simulation.user, simulation.password, simulation.thumbprint))
        pipe.recv()


def object_by_object(session: Any) -> tuple[int, int, int]:
    """The usual script: walk the attributes of each object. Asks for what our inventory shows, and no more."""
    from pyVmomi import vim

    from vcenter import pci

    gpus = 0
    content = session.content
    hosts = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True).view
    for host in hosts:
        _ = (host.name, host.parent, host.runtime, host.summary, host.datastore, host.network)
        gpus += sum(pci.is_gpu(device.vendorId, device.classId) for device in host.hardware.pciDevice)
        config = host.config
        _ = (config.pciPassthruInfo, config.graphicsInfo, config.network.rdmaDevice, config.assignableHardwareBinding)
    machines = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True).view
    for machine in machines:
        _ = (machine.name, machine.parent, machine.resourcePool, machine.runtime, machine.config, machine.guest)
    for kind in (vim.ClusterComputeResource, vim.DistributedVirtualSwitch, vim.Datastore, vim.Network):
        for thing in content.viewManager.CreateContainerView(content.rootFolder, [kind], True).view:
            _ = (thing.name, thing.summary)
    return len(hosts), len(machines), gpus


def measure(way: str, port: int, user: str, password: str, thumbprint: str) -> Measurement:
    from vcenter.certificate import Trust
    from vcenter.live import LiveInventory
    from vcenter.reading import load
    from vcenter.session import Endpoint, Session

    with Session(Endpoint("127.0.0.1", user, port, Trust(thumbprint=thumbprint)), password) as session:
        calls = 0
        before, began, cpu = session.calls.total(), time.perf_counter(), time.process_time()
        if way == "object by object":
            hosts, vms, gpus = object_by_object(session)
        elif way.startswith("live"):
            with LiveInventory(session) as live:
                inventory = live.snapshot()
                calls = session.calls.total() - before
            hosts, vms, gpus = len(inventory.hosts), len(inventory.vms), len(inventory.gpus())
        else:
            inventory = load(session, page=500 if "pages" in way else None)
            hosts, vms, gpus = len(inventory.hosts), len(inventory.vms), len(inventory.gpus())
        return Measurement(
            way=way,
            hosts=hosts,
            vms=vms,
            gpus=gpus,
            calls=calls if way.startswith("live") else session.calls.total() - before,
            seconds=round(time.perf_counter() - began, 3),
            cpu_seconds=round(time.process_time() - cpu, 3),
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )


def run(hosts: int, vms: int, ways: list[str]) -> list[Measurement]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(hosts, vms, theirs), daemon=True)
    server.start()
    where = ours.recv()
    found = []
    for way in ways:
        child = subprocess.run(
            [sys.executable, __file__, "--measure", way, *map(str, where)], capture_output=True, text=True, check=True
        )
        found.append(Measurement(**json.loads(child.stdout)))
    ours.send("stop")
    server.join(timeout=30)
    seen = {(one.hosts, one.vms, one.gpus) for one in found}
    if len(seen) != 1:
        raise SystemExit(f"the ways do not agree: {seen}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", action="append", help="HOSTSxVMS; may be repeated (default 10x100 100x1000 1000x10000)"
    )
    parser.add_argument("--per-object-up-to", type=int, default=1100, help="objects (default 1100)")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, port, user, password, thumbprint = options.measure
        print(json.dumps(asdict(measure(way, int(port), user, password, thumbprint))))
        return
    results: list[Measurement] = []
    for size in options.size or ["10x100", "100x1000", "1000x10000"]:
        hosts, vms = (int(part) for part in size.split("x"))
        ways = [way for way in WAYS if way != "object by object" or hosts + vms <= options.per_object_up_to]
        results += run(hosts, vms, ways)
    table = Table(title="Loading a vCenter's inventory", title_justify="left")
    for column in ("hosts", "VMs", "GPUs", "way", "SOAP calls", "seconds", "CPU seconds", "peak MiB"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in results:
        table.add_row(
            str(one.hosts), str(one.vms), str(one.gpus), one.way, str(one.calls), f"{one.seconds:.2f}",
            f"{one.cpu_seconds:.2f}", str(one.peak_mib),
        )  # fmt: skip
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")


if __name__ == "__main__":
    main()
