"""`gpuferry softgpu`: run a program on the software GPU, and say what devices it would see."""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuserver.native import NativePartMissingError, find_native

LIBRARY = "gpuserver/softgpu/lib/libcuda.so.1"
SETTING = "GPUFERRY_SOFTGPU_"
# Option of the command line → environment variable that the library reads (softgpu/config.h).
OPTIONS = {
    "devices": "DEVICES",
    "memory": "MEMORY_MIB",
    "name": "NAME",
    "compute_capability": "COMPUTE_CAPABILITY",
    "multiprocessors": "MULTIPROCESSORS",
    "config": "CONFIG",
}
# The software GPU executes PTX, not machine code. These make the toolkits hand over PTX; a program's own settings win.
HAND_OVER_PTX = {
    # CuPy compiles for the newest architecture it knows, whatever the device says, unless told to keep to PTX.
    "CUPY_COMPILE_WITH_PTX": "1",
}


@dataclass(frozen=True)
class DeviceReport:
    """One device as the driver API describes it."""

    ordinal: int
    name: str
    uuid: str
    pci_bus_id: str
    memory_mib: int
    compute_capability: str
    multiprocessors: int


def program_environment(library_folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """`inherited` with the software GPU first on the library path and the toolkits told to keep to PTX."""
    environment = HAND_OVER_PTX | dict(inherited)
    before = inherited.get("LD_LIBRARY_PATH", "")
    environment["LD_LIBRARY_PATH"] = f"{library_folder}:{before}" if before else str(library_folder)
    # Triton asks ldconfig for libcuda unless it is told.
    environment["TRITON_LIBCUDA_PATH"] = str(library_folder)
    return environment


def option_variables(options: argparse.Namespace) -> dict[str, str]:
    """The library's settings that the command line names."""
    given = {SETTING + variable: getattr(options, option) for option, variable in OPTIONS.items()}
    variables = {name: str(value) for name, value in given.items() if value is not None}
    if config := variables.get(SETTING + "CONFIG"):
        variables[SETTING + "CONFIG"] = str(Path(config).resolve())
    if options.trace:
        variables[SETTING + "TRACE"] = "1"
    return variables


def execute(program: list[str], environment: dict[str, str]) -> int:
    """Becomes `program`: exit status and signals are its own. Returns only when it cannot be started."""
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606
    except FileNotFoundError:
        sys.stderr.write(f"gpuferry softgpu: {program[0]}: no such program\n")
        return 127
    except OSError as error:
        sys.stderr.write(f"gpuferry softgpu: {program[0]}: {error.strerror}\n")
        return 126


def read_devices(library: Path) -> tuple[int, list[DeviceReport]]:
    """The driver version (13050 for 13.5) and the devices, asked of the library itself. Raises OSError."""
    cuda = ctypes.CDLL(str(library))

    def call(function: str, *arguments: object) -> int:
        return int(getattr(cuda, function)(*arguments))

    version, count = ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    if call("cuInit", 0):
        return version.value, []
    call("cuDeviceGetCount", ctypes.byref(count))
    devices = []
    for ordinal in range(count.value):
        name, pci = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
        uuid, memory = (ctypes.c_ubyte * 16)(), ctypes.c_size_t()
        call("cuDeviceGetName", name, len(name), ordinal)
        call("cuDeviceGetUuid_v2", uuid, ordinal)
        call("cuDeviceGetPCIBusId", pci, len(pci), ordinal)
        call("cuDeviceTotalMem_v2", ctypes.byref(memory), ordinal)
        attributes = []
        for attribute in (75, 76, 16):  # compute capability major, minor; multiprocessors
            value = ctypes.c_int()
            call("cuDeviceGetAttribute", ctypes.byref(value), attribute, ordinal)
            attributes.append(value.value)
        digits = bytes(uuid).hex()
        dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        devices.append(
            DeviceReport(
                ordinal,
                name.value.decode(errors="replace"),
                f"GPU-{dashed}",
                pci.value.decode(),
                memory.value >> 20,
                f"{attributes[0]}.{attributes[1]}",
                attributes[2],
            )
        )
    return version.value, devices


def show_info(library: Path, variables: dict[str, str]) -> int:
    os.environ.update(variables)
    version, devices = read_devices(library)
    sys.stdout.write(f"library   {library}\nCUDA      {version // 1000}.{version % 1000 // 10}\n")
    for device in devices:
        sys.stdout.write(
            f"device {device.ordinal}  {device.name}, {device.memory_mib} MiB, "
            f"compute capability {device.compute_capability}, {device.multiprocessors} multiprocessors, "
            f"{device.pci_bus_id}, {device.uuid}\n"
        )
    if not devices:
        sys.stdout.write("no device\n")
    return 0 if devices else 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuferry softgpu", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    settings = argparse.ArgumentParser(add_help=False)
    settings.add_argument("--devices", type=int, metavar="N", help="number of devices")
    settings.add_argument("--memory", metavar="MIB", help="memory of each device; a comma-separated list, one each")
    settings.add_argument("--name", help="name of the devices, or a comma-separated list")
    settings.add_argument("--compute-capability", metavar="X.Y", help="default: 12.1, and 99.0 for runtimes")
    settings.add_argument("--multiprocessors", metavar="N", help="default: this machine's processors")
    settings.add_argument("--config", metavar="FILE", help="settings file; see docs/softgpu.md")
    settings.add_argument("--trace", action="store_true", help="one line on stderr for each driver call")
    run = actions.add_parser("exec", parents=[settings], help="run a program on the software GPU")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- program [argument ...]")
    actions.add_parser("info", parents=[settings], help="the devices that a program would see")
    return parser


def main(arguments: list[str]) -> int:
    """Runs the subcommand with its arguments; returns an exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        library = find_native(LIBRARY)
    except NativePartMissingError as missing:
        sys.stderr.write(f"gpuferry softgpu: {missing}\n")
        return 1
    variables = option_variables(options)
    if options.action == "info":
        return show_info(library, variables)
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        parser.error("exec: name a program, e.g. gpuferry softgpu exec -- ./program")
    return execute(program, program_environment(library.parent, {**os.environ, **variables}))
