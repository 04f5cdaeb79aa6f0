"""A GPU server's inventory and health through the real NVML of the software GPU, and judged as the appliance does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.health import CHECKS, OK, UNKNOWN, WARNING, judge
from appliance.settings import Settings
from gpuserver.inventory import rdma_state
from gpuserver.native import NativePartMissingError, find_native
from gpuserver.protocol.control.messages import Observation
from gpuserver.xid import XidReader

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import dataclasses, json
from pathlib import Path
from gpuserver.inventory import observe_server, read_inventory
found = read_inventory("s0:4751", "0.1.0")
print(json.dumps({"inventory": dataclasses.asdict(found),
                  "observed": [[each.check, each.value] for each in observe_server(Path("."), {}, {})]}))
"""


def test_what_nvml_says_is_what_is_reported() -> None:
    try:
        library = find_native("gpuserver/softgpu/lib/libnvidia-ml.so.1").parent
    except NativePartMissingError as missing:
        pytest.skip(str(missing))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    gpus = told["inventory"]["gpus"]
    assert gpus
    assert [gpu["ordinal"] for gpu in gpus] == list(range(len(gpus)))
    assert all(gpu["id"].startswith("GPU-") and gpu["memory_mib"] > 0 and gpu["name"] for gpu in gpus)
    assert told["inventory"]["cuda_version"]
    observed = dict(told["observed"])
    assert {"disk.free", "files.limit", "driver.version", "driver.match", "cuda.version", "gpu.xid"} <= set(observed)
    readings = judge("server-x", [Observation(*each) for each in told["observed"]], 0.0, Settings())
    assert UNKNOWN not in {each.state for each in readings}


@pytest.mark.parametrize(
    ("check", "value", "state"),
    [
        ("gpu.temperature", "88", "ok"),
        ("gpu.temperature", "89", "warning"),
        ("gpu.temperature", "hot", "unknown"),
        ("gpu.ecc", "1", "failed"),
        ("gpu.xid", "79", "failed"),
        ("gpu.xid", "13", "warning"),
        ("gpu.xid", "0", "ok"),
        ("cuda.version", "11.8", "warning"),
        ("cuda.version", "13.0", "ok"),
        ("client.files", "256", "warning"),
        ("shim.version", "missing/0.1.0", "failed"),
        ("gpu.throttle", "none", "ok"),
        ("gpu.throttle", "hardware thermal", "warning"),
        ("gpu.pcie", "16/16", "ok"),
        ("gpu.pcie", "4/16", "warning"),
        ("gpu.leaked", "513", "warning"),
        ("driver.version", "470.57", "failed"),
        ("driver.version", "580.65.06", "ok"),
        ("driver.match", "570.1 loaded, 580.2 installed", "failed"),
        ("disk.free", "100", "warning"),
        ("files.limit", "1024", "warning"),
        ("net.mtu", "1400", "warning"),
        ("net.round-trip", "2000", "warning"),
        ("net.bandwidth", "9400", "ok"),
        ("rdma.link", "down", "warning"),
        ("rdma.link", "none", "ok"),
        ("daemon.version", "0.1.0/0.2.0", "warning"),
        ("shim.version", "0.1.0/0.1.0", "ok"),
    ],
)
def test_thresholds(check: str, value: str, state: str) -> None:
    (reading,) = judge("server-x", [Observation(check, value, "GPU-1")], None, Settings())
    assert (reading.subject, reading.state, reading.value) == ("server-x/GPU-1", state, value)
    assert reading.threshold
    assert reading.meaning
    assert reading.remedy


def test_clock_skew_is_measured_by_the_appliance_and_unknown_checks_are_ignored() -> None:
    readings = judge("client-x", [Observation("no.such", "1")], -7.5, Settings())
    assert [(each.check, each.state, each.value) for each in readings] == [("clock.skew", WARNING, "-7.500")]
    assert [each.state for each in judge("client-x", [], 0.5, Settings())] == [OK]
    assert all(check.meaning and check.remedy and check.bound(Settings()) for check in CHECKS.values())


def test_rdma_state_as_the_kernel_says_it(tmp_path: Path) -> None:
    assert rdma_state(tmp_path) == "none"
    port = tmp_path / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text("4: ACTIVE\n")
    assert rdma_state(tmp_path) == "active"
    (port / "state").write_text("1: DOWN\n")
    assert rdma_state(tmp_path) == "down"


def test_xids_of_the_kernel_log(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "6,1201,1,-;usb 1-1: new device\n"
        "4,1202,2,-;NVRM: Xid (PCI:0000:3b:00): 13, pid=77, name=python, Graphics Exception\n"
        "4,1203,3,-;NVRM: Xid (PCI:0000:af:00): 31, pid=78, MMU Fault\n"
    )
    reader = XidReader(log)
    assert reader.last() == {(0, 0x3B, 0): 13, (0, 0xAF, 0): 31}
    with log.open("a") as more:
        more.write("4,1204,4,-;NVRM: Xid (PCI:0000:3b:00.0): 79, GPU has fallen off the bus.\n4,1205,5,-;NVRM: Xi")
    assert reader.last() == {(0, 0x3B, 0): 79, (0, 0xAF, 0): 31}
    with log.open("a") as more:
        more.write("d (PCI:0001:00:1f): 63, Row Remapper\n")
    assert reader.last() == {(0, 0x3B, 0): 79, (0, 0xAF, 0): 31, (1, 0, 0x1F): 63}
    assert XidReader(tmp_path / "none").last() is None, "what cannot be read is not said to be well"


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    import re

    from prometheus_client import generate_latest

    from appliance.metrics import REGISTRY

    known = set(re.findall(r"^# TYPE (\S+)", generate_latest(REGISTRY).decode(), re.MULTILINE))
    dashboard = (ROOT / "appliance" / "dashboard" / "gpuferry.json").read_text()
    asked = set(re.findall(r"gpuferry_[a-z_]+", dashboard))
    assert asked
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= known
