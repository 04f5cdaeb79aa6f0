"""Inventories of any size, the same for the same numbers: for benchmarks and for seeing how tools bear a large site."""

from typing import Any

_MODELS = ("A100-PCIE-40GB", "A100-PCIE-80GB", "L40S", "T4", "H100-PCIE-80GB", "RTX-6000-Ada", "L4", "A30")
_STATES = ("active", "off", "enabled")


def generate_inventory(
    hosts: int = 1000, machines: int = 10_000, *, hosts_per_cluster: int = 25, gpus_per_host: int = 2
) -> dict[str, Any]:
    """The content of an inventory file with so many hosts and virtual machines, spread evenly over clusters.

    Every fourth host has GPUs; half of the machines run.
    """
    clusters: list[dict[str, Any]] = []
    names = []
    for number in range(hosts):
        if number % hosts_per_cluster == 0:
            clusters.append({"name": f"cluster-{len(clusters):03d}", "drs": True, "ha": True, "hosts": []})
        host: dict[str, Any] = {
            "name": f"esx-{number:04d}.example.test",
            "memory_gib": 512,
            "passthrough_needs_reboot": number % 8 == 0,
            "nics": [{"model": "X710", "switch": "DSwitch"}, {"model": "ConnectX-6-Dx", "switch": "DSwitch"}],
        }
        if number % 4 == 0:
            model = _MODELS[number // 4 % len(_MODELS)]
            state = _STATES[number // 4 % len(_STATES)]
            host["gpus"] = [{"model": model, "count": gpus_per_host, "passthrough": state}]
        clusters[-1]["hosts"].append(host)
        names.append(host["name"])
    return {
        "datacenters": [
            {
                "name": "DC0",
                "datastores": [{"name": f"store-{number:02d}", "capacity_gib": 1 << 20} for number in range(8)],
                "networks": ["VM Network"],
                "switches": [{"name": "DSwitch", "portgroups": [{"name": "dv-machines"}, {"name": "dv-pvrdma"}]}],
                "clusters": clusters,
                "virtual_machines": [
                    {
                        "name": f"vm-{number:05d}",
                        "host": names[number % hosts],
                        "datastore": f"store-{number % 8:02d}",
                        "network": "dv-machines",
                        "cpus": 2 + number % 7,
                        "memory_gib": 4 + number % 5,
                        "folder": f"group-{number % 50:02d}",
                        "power": "on" if number % 2 else "off",
                    }
                    for number in range(machines)
                ],
            }
        ]
    }
