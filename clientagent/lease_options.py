"""The options of requests for GPUs, of `gpuferry run` and `gpuferry request` alike: -n, -m, -p, --filter, --timeout."""

from __future__ import annotations

import argparse
import re
import secrets

from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.messages import RequestLease

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """`90`, `90s`, `30m`, `2h` or `1d` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m, 2h or 1d")
    return float(found[1]) * UNITS[found[2]]


def percentage(text: str) -> int:
    """A share of the multiprocessors in percent, in thousandths."""
    try:
        thousandths = round(float(text.rstrip("%")) * 10)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage") from None
    if not 1 <= thousandths <= 1000:
        raise argparse.ArgumentTypeError(f"{text}: a compute share is above 0 and at most 100 percent")
    return thousandths


def add_lease_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which GPUs are wanted."""
    parser.add_argument("-n", "--num-gpus", "--num_gpus", dest="gpus", type=int, default=1, help="how many GPUs (1)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("-m", "--gpu-memory", "--gpu_memory", dest="memory_mib", type=int, help="MiB of each GPU")
    size.add_argument("-p", "--partial", dest="fraction", type=float, help="fraction of each GPU's memory, in (0, 1]")
    parser.add_argument("--compute", type=percentage, help="percent of each GPU's multiprocessors, reserved")
    parser.add_argument(
        "--filter", dest="filters", action="append", default=[], help="e.g. device.name~=A100; several are ANDed"
    )
    parser.add_argument("--timeout", type=duration, default=0.0, help="how long to wait in the queue (e.g. 30m)")
    parser.add_argument("--for", dest="duration", type=duration, default=0.0, help="the longest the lease may last")


def request_from(options: argparse.Namespace, instance: str, *, keeper: str = "", program: str = "") -> RequestLease:
    """The request that the options describe, under a fresh name."""
    return RequestLease(
        request=secrets.token_hex(12),
        gpus=options.gpus,
        instance=instance,
        memory_mib=options.memory_mib,
        fraction=options.fraction,
        compute=options.compute,
        filters=tuple(map(printable, options.filters)),
        timeout_s=options.timeout,
        duration_s=options.duration,
        program=printable(program)[:500],
        trace=secrets.token_hex(8),
        keeper=keeper,
    )
