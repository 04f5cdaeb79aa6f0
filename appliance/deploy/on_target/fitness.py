"""Is this machine fit for a role? What is looked at, and all that is wrong, at once.

The appliance sends the script over SSH before anything is copied; the installer runs it where it was started by others.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .manifest import RoleNeeds

PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9")
PATH = "/usr/bin:/usr/local/bin:/bin:/usr/libexec:/usr/sbin:/sbin:/usr/local/sbin"
REACH_S = 5
MAX_SKEW_S = 300.0
"""Certificates and one-time tickets are good for long enough to bear that much."""

# What is looked at, as a script of plain `sh`: on a machine that is not fit, Python may be what is missing.
PROBE = r"""
PATH={path}; export PATH LC_ALL=C
. /etc/os-release 2>/dev/null
echo "distribution=$PRETTY_NAME"
echo "machine=$(uname -m)"
echo "kernel=$(uname -s)"
echo "glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)"
echo "now=$(date +%s)"
echo "uid=$(id -u)"
[ -d /run/systemd/system ] && echo systemd=yes
d=/opt; while [ ! -d "$d" ]; do d=$(dirname "$d"); done
echo "free_kib=$(df -Pk "$d" | awk 'NR==2{{print $4}}')"
echo "home_free_kib=$(df -Pk "$HOME" 2>/dev/null | awk 'NR==2{{print $4}}')"
version='import sys,zlib,hashlib;print("python=%d.%d %s" % (sys.version_info[:2] + (sys.argv[1],)))'
dial='import socket,sys;socket.create_connection((sys.argv[1],int(sys.argv[2])),{reach_s}).close()'
for p in python3 {pythons}; do
  v=$(command -v "$p") && "$v" -I -c "$version" "$v" 2>/dev/null
done
command -v useradd >/dev/null && echo useradd=yes
for l in {libraries}; do
  {{ ldconfig -p 2>/dev/null | grep -q "^[[:space:]]*$l "; }} && echo "library=$l"
done
for a in {reach}; do
  h=${{a%:*}}; p=${{a##*:}}
  if command -v python3 >/dev/null; then
    python3 -I -c "$dial" "$h" "$p" 2>/dev/null && echo "reached=$a"
  else
    timeout {reach_s} bash -c "exec 3<>/dev/tcp/$h/$p" 2>/dev/null && echo "reached=$a"
  fi
done
echo end=yes
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a target: what was looked at, what was found, what is needed, and what to do."""

    what: str
    measured: str
    wanted: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.measured}; needed: {self.wanted}. {self.remedy}"


@dataclass(frozen=True)
class Needs:
    """What a deployment needs of a machine. `reach` are `host:port` that it must get a TCP connection to."""

    python: tuple[str, ...]
    glibc: str = "2.28"
    architecture: str = "x86_64"
    disk_mib: int = 100
    reach: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @classmethod
    def of(cls, needs: RoleNeeds, reach: Sequence[str] = ()) -> Needs:
        """What a bundle's role needs."""
        return cls(needs.python, needs.glibc, needs.architecture, needs.disk_mib, tuple(reach), needs.libraries)


@dataclass(frozen=True)
class Facts:
    """What the look brought. `pythons`: version → path, the distribution's own first. `skew_s`: its clock less ours."""

    distribution: str
    machine: str
    kernel: str
    glibc: str
    skew_s: float
    root: bool
    systemd: bool
    free_mib: int
    home_free_mib: int
    pythons: dict[str, str]
    useradd: bool
    libraries: frozenset[str]
    reached: frozenset[str]


def script_of(needs: Needs) -> str:
    """The look, for `sh -s`."""
    return PROBE.format(
        path=PATH,
        pythons=" ".join(f"python{each}" for each in PYTHONS),
        reach=" ".join(shlex.quote(each) for each in needs.reach),
        libraries=" ".join(shlex.quote(each) for each in needs.libraries),
        reach_s=REACH_S,
    )


def facts_of(output: str, before: float, heard: float) -> Facts:
    """What the script's output says. It was started at `before`, and what it says of its clock was heard at `heard`."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)

    def one(name: str) -> str:
        return found.get(name, [""])[0]

    pythons: dict[str, str] = {}
    for each in found.get("python", []):
        version, _, path = each.partition(" ")
        pythons.setdefault(version, path)
    told = float(one("now") or 0)
    # `date` gives whole seconds, and the answer was on its way somewhere between `before` and `heard`.
    skew = told - heard if told > heard else min(0.0, told + 1 - before)
    return Facts(
        distribution=one("distribution"),
        machine=one("machine"),
        kernel=one("kernel"),
        glibc=one("glibc"),
        skew_s=skew,
        root=one("uid") == "0",
        systemd=one("systemd") == "yes",
        free_mib=int(one("free_kib") or 0) >> 10,
        home_free_mib=int(one("home_free_kib") or 0) >> 10,
        pythons=pythons,
        useradd=one("useradd") == "yes",
        libraries=frozenset(found.get("library", [])),
        reached=frozenset(found.get("reached", [])),
    )


def look_here(needs: Needs, clock: float) -> Facts:
    """Look at this very machine. `clock` is the time that whoever asks had a moment ago, 0 when it did not say."""
    began = time.time()
    done = subprocess.run(["sh", "-s"], input=script_of(needs), capture_output=True, text=True, check=False)
    # This machine's own clock says how long the look took; only the other's says whether it is right.
    now = time.time() if not clock else clock + (time.time() - began)
    return facts_of(done.stdout, clock or began, now)


def version_of(text: str) -> tuple[int, ...]:
    """`2.28` as numbers; nothing for what is no version."""
    return tuple(int(each) for each in text.split(".") if each.isdigit())


def choose_python(facts: Facts, needs: Needs) -> str | None:
    """The path of the Python to use: the distribution's own where it is supported, else the newest that is."""
    for version, path in facts.pythons.items():
        if version in needs.python:
            return path
    return None


def judge(facts: Facts, needs: Needs) -> list[Finding]:
    """All that is wrong, the worst first."""
    wrong = []
    if facts.kernel != "Linux":
        wrong.append(Finding("operating system", facts.kernel or "unknown", "Linux", "Deploy to a Linux machine."))
    if facts.machine != needs.architecture:
        wrong.append(
            Finding("architecture", facts.machine, needs.architecture, "Build a bundle for that architecture.")
        )
    if not facts.glibc or version_of(facts.glibc) < version_of(needs.glibc):
        wrong.append(
            Finding(
                "glibc",
                f"{facts.glibc or 'none'} ({facts.distribution or 'unknown distribution'})",
                f"{needs.glibc} or newer",
                "Use a newer distribution, or a bundle whose native parts were built on an older one.",
            )
        )
    if choose_python(facts, needs) is None:
        wrong.append(
            Finding(
                "Python",
                ", ".join(facts.pythons) or "none",
                f"one of {', '.join(needs.python)}",
                "Install a supported python3 from the distribution's packages.",
            )
        )
    if facts.free_mib < needs.disk_mib:
        wrong.append(Finding("disk of /opt", f"{facts.free_mib} MiB free", f"{needs.disk_mib} MiB", "Make room."))
    missing = [each for each in needs.libraries if each not in facts.libraries]
    if missing:
        wrong.append(
            Finding(
                "libraries", f"{', '.join(missing)} not found", "them", "Install the distribution's packages with them."
            )
        )
    if not facts.useradd:
        wrong.append(Finding("useradd", "not found", "it", "Install the package `passwd` (or `shadow-utils`)."))
    if abs(facts.skew_s) > MAX_SKEW_S:
        wrong.append(
            Finding(
                "clock",
                f"{abs(facts.skew_s):.0f} s {'ahead of' if facts.skew_s > 0 else 'behind'} the appliance's",
                f"within {MAX_SKEW_S:.0f} s",
                "Set the clock; have NTP keep it.",
            )
        )
    for address in needs.reach:
        if address not in facts.reached:
            wrong.append(
                Finding(
                    "network",
                    f"{address} not reached",
                    "a TCP connection",
                    "Check routes, names and firewalls on the way.",
                )
            )
    return wrong
