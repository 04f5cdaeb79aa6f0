"""Is a machine fit? One look at it over SSH, then all that is wrong at once."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.deploy.errors import DeployError, Finding, SudoRefusedError
from appliance.deploy.on_target.manifest import RoleNeeds
from appliance.deploy.ssh import Machine, Target, connect

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


def look(machine: Machine, needs: Needs) -> Facts:
    """Look at a machine. Raises BrokenOffError."""
    script = PROBE.format(
        path=PATH,
        pythons=" ".join(f"python{each}" for each in PYTHONS),
        reach=" ".join(shlex.quote(each) for each in needs.reach),
        libraries=" ".join(shlex.quote(each) for each in needs.libraries),
        reach_s=REACH_S,
    )
    before = time.time()
    # The clock is read first thing in the answer; what is between is the network's way there.
    clock: list[float] = []

    def note(line: str) -> None:
        if line.startswith("now="):
            clock.append(time.time())

    answer = machine.run("sh -s", script.encode(), note)
    found: dict[str, list[str]] = {}
    for line in answer.output.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)

    def one(name: str) -> str:
        return found.get(name, [""])[0]

    pythons: dict[str, str] = {}
    for each in found.get("python", []):
        version, _, path = each.partition(" ")
        pythons.setdefault(version, path)
    told = float(one("now") or 0)
    heard = clock[0] if clock else time.time()
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


def check(target: Target, needs: Needs) -> tuple[Finding, ...]:
    """All that is wrong with a target, at once; nothing when it is fit.

    What keeps us from looking is a finding, too, except for a host key that nobody has confirmed.
    Raises HostKeyUnknownError, HostKeyChangedError, UnreachableError, LoginRefusedError.
    """
    with connect(target) as machine:
        return tuple(check_machine(machine, needs)[1])


def check_machine(machine: Machine, needs: Needs) -> tuple[Facts, list[Finding]]:
    """The same over an open connection, with what was seen."""
    facts = look(machine, needs)
    findings = judge(facts, needs)
    try:
        machine.run_as_root(["true"])
    except SudoRefusedError as refused:
        findings.append(Finding("root", refused.what, f"sudo for {machine.target.user}", refused.remedy))
    except DeployError as broken:
        findings.append(Finding("root", broken.what, "an SSH session", broken.remedy))
    return facts, findings


def without_network(needs: Needs) -> Needs:
    """The same needs without addresses to reach."""
    return replace(needs, reach=())
