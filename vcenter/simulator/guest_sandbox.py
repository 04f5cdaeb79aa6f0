"""Guests one can log in to: each a set of Linux namespaces with a copy-on-write root and a real sshd.

A guest has its own network (one end of a veth pair on the simulation's bridge), processes, host name and mounts; its
disks are the upper halves of overlays over this machine's directories and live as long as the virtual machine. All of
a guest hangs on one process whose parent-death signal is SIGKILL: when the simulator dies in any way, the kernel takes
processes, mounts and network along. What can stay behind after a SIGKILL, the bridge and the overlays' files, is
removed by the next simulator that starts (``Leftovers``).
"""

import contextlib
import fcntl
import ipaddress
import itertools
import json
import logging
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .api import vim
from .guest_cloud_init import FirstBoot, GuestinfoError, first_boot
from .values import build, vary
from .virtual_machine_spec import merge_extra

if TYPE_CHECKING:
    from .world import World

_log = logging.getLogger(__name__)

# Directories of this machine that a guest sees copy-on-write, and those that are links there.
_OVERLAID = ("usr", "etc", "var", "opt", "home", "root", "srv")
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_CONNECT_SECONDS = 60.0
_SLOW_SECONDS = 60.0
_LOOK_SECONDS = 0.3
# The kernel kills what starts with this when the thread that started it ends.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

_INIT = """#!/bin/sh
# The first process of a guest: mounts, network, first boot, sshd.
set -e
S="$1"; ROOT="$S/mnt"
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$ROOT"
for d in {overlaid}; do
  [ -d "/$d" ] || continue
  mkdir -p "$ROOT/$d" "$S/upper/$d" "$S/work/$d"
  mount -t overlay overlay -o "lowerdir=/$d,upperdir=$S/upper/$d,workdir=$S/work/$d" "$ROOT/$d"
done
for l in {linked}; do [ -L "/$l" ] && cp -a "/$l" "$ROOT/$l" || true; done
mkdir -p "$ROOT/proc" "$ROOT/sys" "$ROOT/dev" "$ROOT/run" "$ROOT/tmp" "$ROOT/mnt" "$ROOT/run/guestinfo"
mount -t proc proc "$ROOT/proc"
mount -t sysfs -o ro sysfs "$ROOT/sys" 2>/dev/null || true
mount -t tmpfs -o mode=755 dev "$ROOT/dev"
for n in null zero full random urandom tty; do touch "$ROOT/dev/$n"; mount --bind "/dev/$n" "$ROOT/dev/$n"; done
mkdir -p "$ROOT/dev/pts" "$ROOT/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$ROOT/dev/pts"; ln -s pts/ptmx "$ROOT/dev/ptmx"
ln -s /proc/self/fd "$ROOT/dev/fd"
mount -t tmpfs -o mode=1777 shm "$ROOT/dev/shm"
mount -t tmpfs -o mode=755 run "$ROOT/run"; mkdir -p "$ROOT/run/sshd" "$ROOT/run/lock" "$ROOT/run/guestinfo"
mount -t tmpfs -o mode=1777 tmp "$ROOT/tmp"
while IFS= read -r b; do
  mkdir -p "$ROOT$b"; mount --bind "$b" "$ROOT$b"; mount -o remount,bind,ro "$ROOT$b"
done < "$S/bundles"
cp "$S"/guestinfo/* "$ROOT/run/guestinfo/" 2>/dev/null || true
cp "$S/boot.sh" "$ROOT/run/boot.sh"
ip link set lo up
while ! ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip addr add "$2" dev eth0; ip link set eth0 up; ip route add default via "$3" || true
hostname "$4"
exec chroot "$ROOT" /bin/sh /run/boot.sh
"""

_BOOT = """#!/bin/sh
# Inside the guest: cloud-init's work once for each instance, then sshd for good.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
umask 022
mkdir -p /var/lib/cloud /var/log
if [ ! -e /var/lib/cloud/sandbox ]; then
  touch /var/lib/cloud/sandbox
  rm -rf "$HOME/.ssh" /etc/ssh/ssh_host_* /etc/sudoers.d/90-cloud-init-users
  for h in /home/*; do [ -d "$h" ] && rm -rf "$h/.ssh"; done
  passwd -d root >/dev/null 2>&1 || true
  mkdir -p -m 700 /var/lib/guestinfo-set
  printf '%s\\n' '#!/bin/sh' 'case "$1" in "info-get "*) cat "/run/guestinfo/${1#info-get }" 2>/dev/null ||' \\
    '{ echo "No value found"; exit 1; };;' \\
    '"info-set guestinfo."*) s="${1#info-set }"; k="${s%% *}"; t="/var/lib/guestinfo-set/.new.$$"' \\
    'printf %s "${s#* }" > "$t" && mv "$t" "/var/lib/guestinfo-set/$k";; esac' > /usr/bin/vmware-rpctool
  chmod 755 /usr/bin/vmware-rpctool
fi
printf '127.0.0.1 localhost\\n%s %s\\n' "$GUEST_ADDRESS" "$(hostname)" > /etc/hosts; hostname > /etc/hostname
[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
FIRST=
if [ "$(cat /var/lib/cloud/instance-id 2>/dev/null)" != "$INSTANCE_ID" ]; then
  FIRST=1
  LOG=/var/log/cloud-init-output.log
  ( sh -e /run/guestinfo/.setup ) >> $LOG 2>&1 || echo "setup failed: $?" >> $LOG
  echo "$INSTANCE_ID" > /var/lib/cloud/instance-id
fi
if [ -n "$FIRST" ]; then
  ( sh /run/guestinfo/.final >> /var/log/cloud-init-output.log 2>&1; touch /run/cloud-init-finished ) &
else
  touch /run/cloud-init-finished
fi
unset INSTANCE_ID
# No init runs here: services that were deployed into the guest are started as one would start them.
for s in /etc/init.d/gpuferry-*; do [ -x "$s" ] && "$s" start; done
exec /usr/sbin/sshd -D -e -o HostKey=/etc/ssh/ssh_host_ed25519_key -o PidFile=/run/sshd.pid -o UsePAM=no \\
  -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no -o StrictModes=no 2>> /var/log/sshd.log
"""


class SandboxError(Exception):
    """This machine cannot run sandboxes; the text says what is missing."""


def demand_possible() -> None:
    """Raises SandboxError unless this process may make namespaces and the programs are there."""
    if os.geteuid() != 0:
        raise SandboxError("sandbox guests need root (network namespaces, overlay mounts); use --guests plain")
    missing = [each for each in ("ip", "unshare", "setpriv", "chroot", "ssh-keygen") if shutil.which(each) is None]
    if not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    if missing:
        raise SandboxError(f"sandbox guests need {', '.join(missing)} (Debian: openssh-server, iproute2, util-linux)")


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")


class Leftovers:
    """The directory of one simulation's guests, and the removal of those whose simulator is gone.

    A simulator holds a lock on its directory as long as it lives; the kernel lets go of it however the process ends.
    """

    def __init__(self) -> None:
        self.base = Path(tempfile.gettempdir()) / f"gpuferry-guests-{os.geteuid()}"
        self.base.mkdir(mode=0o700, exist_ok=True)
        with (self.base / "lock").open("w") as one_at_a_time:
            # Between the making of a directory and its lock another simulator would take it for a dead one's.
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            self.clear()
            self.directory = Path(tempfile.mkdtemp(prefix="sim-", dir=self.base))
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def clear(self) -> None:
        """Removes what dead simulators left."""
        for directory in self.base.glob("sim-*"):
            with contextlib.suppress(OSError), (directory / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove(directory)

    @staticmethod
    def _remove(directory: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            bridge = json.loads((directory / "network.json").read_text())["bridge"]
            _run("ip", "link", "delete", bridge, check=False)
        shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> None:
        """Removes this simulation's directory."""
        self._remove(self.directory)
        self._lock.close()


class _Bridge:
    """A bridge of this machine with a /24 of its own; the machine has the first address, guests the others."""

    def __init__(self, directory: Path) -> None:
        taken = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
        routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
        for number in itertools.count(os.getpid() % 200):
            octet = number % 250
            net = f"10.213.{octet}"
            name = f"gfsim{octet}"
            if f"{net}." in taken + routes:
                continue
            done = subprocess.run(
                ["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
            if "exists" not in done.stderr:
                raise SandboxError(f"no bridge can be made: {done.stderr.strip()}")
        self.name, self.gateway = name, f"{net}.1"
        (directory / "network.json").write_text(json.dumps({"bridge": name}))
        self._free = [str(each) for each in ipaddress.ip_network(f"{net}.0/24").hosts()][1:]
        _run("ip", "addr", "add", f"{self.gateway}/24", "dev", name)
        _run("ip", "link", "set", name, "up")

    def take(self) -> str:
        """A free address. Raises SandboxError when all are taken."""
        if not self._free:
            raise SandboxError("all addresses of the guests' network are taken")
        return self._free.pop(0)

    def give(self, address: str) -> None:
        """Gives an address back."""
        self._free.append(address)

    def close(self) -> None:
        """Removes the bridge."""
        _run("ip", "link", "delete", self.name, check=False)


class _Guest:
    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.address = address
        self.process: subprocess.Popen[bytes] | None = None

    def said(self) -> str:
        """The end of what the guest's first process and its sshd wrote: why it does not come up."""
        texts = []
        for log in ("console.log", "upper/var/log/sshd.log"):
            with contextlib.suppress(OSError):
                texts.append((self.directory / log).read_text(errors="replace")[-2000:])
        return "\n".join(texts)


class SandboxGuests:
    """The guests of a simulation. All work is done by one thread, which lives as long as the simulation does."""

    def __init__(self, bundles: list[Path] | None = None) -> None:
        demand_possible()
        self._bundles = [each.resolve() for each in bundles or ()]
        self._leftovers = Leftovers()
        self._bridge = _Bridge(self._leftovers.directory)
        self._guests: dict[str, _Guest] = {}
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="simulator-guests", daemon=True)
        self._thread.start()

    @property
    def traces(self) -> tuple[Path, str]:
        """What this simulation has on the machine while it lives: its directory, and the name of its bridge."""
        return self._leftovers.directory, self._bridge.name

    @property
    def gateway(self) -> str:
        """This machine's address on the guests' network."""
        return self._bridge.gateway

    def _run(self) -> None:
        while True:
            action = self._work.get()
            if action is None:
                return
            try:
                action()
            except (OSError, SandboxError, subprocess.SubprocessError) as failure:
                _log.warning("a guest of the simulated vCenter: %s", failure)

    # What the simulator tells.

    def start(self, machine: Any) -> None:
        """Boots a guest."""
        extra = {each.key: str(each.value) for each in machine.config.extraConfig}
        boot, name, moid, world = machine.boots, machine.name, machine.moid, machine.world
        cards = [
            each
            for each in machine.config.hardware.device
            if isinstance(each, vim.vm.device.VirtualEthernetCard)
            and (each.connectable is None or each.connectable.startConnected)
        ]
        self._work.put(lambda: self._boot(world, machine, boot, name, moid, extra, networked=bool(cards)))

    def stop(self, machine: Any) -> None:
        """Kills a guest; its disks stay."""
        moid = machine.moid
        self._work.put(lambda: self._kill(moid))

    def discard(self, machine: Any) -> None:
        """Kills a guest and removes its disks."""
        moid = machine.moid
        self._work.put(lambda: self._discard(moid))

    def close(self) -> None:
        """Ends all guests and leaves nothing behind."""
        self._work.put(self._close)
        self._work.put(None)
        self._thread.join(timeout=60)

    # What the thread does.

    def _boot(
        self, world: "World", machine: Any, boot: int, name: str, moid: str, extra: dict[str, str], *, networked: bool
    ) -> None:
        self._kill(moid)
        guest = self._guests.get(moid)
        if guest is None:
            directory = self._leftovers.directory / moid
            (directory / "mnt").mkdir(parents=True)
            guest = self._guests[moid] = _Guest(directory, self._bridge.take())
        try:
            wanted = first_boot(extra, name)
        except GuestinfoError as error:
            wanted = FirstBoot("broken", name, f"echo {error!s:.200}\n".replace("'", ""), "")
        self._write(guest, wanted, extra)
        if not networked:
            return
        guest.process = self._spawn(guest, wanted.hostname)
        self._connect(guest)
        threading.Thread(
            target=_report, args=(world, machine, boot, guest, wanted.hostname, guest.process), daemon=True
        ).start()

    def _write(self, guest: _Guest, wanted: FirstBoot, extra: dict[str, str]) -> None:
        info = guest.directory / "guestinfo"
        shutil.rmtree(info, ignore_errors=True)
        info.mkdir(mode=0o700)
        for key, value in extra.items():
            if key.startswith("guestinfo.") and "/" not in key:
                (info / key).write_text(value)
        (info / ".setup").write_text(wanted.setup)
        (info / ".final").write_text(wanted.final)
        environment = f"INSTANCE_ID={_quoted(wanted.instance_id)}\nGUEST_ADDRESS={guest.address}\n"
        (guest.directory / "boot.sh").write_text(environment + _BOOT)
        (guest.directory / "bundles").write_text("".join(f"{each}\n" for each in self._bundles))
        init = _INIT.format(overlaid=" ".join(_OVERLAID), linked=" ".join(_LINKED)).replace(
            'cp "$S"/guestinfo/*', 'cp "$S"/guestinfo/.setup "$S"/guestinfo/.final "$S"/guestinfo/*'
        )
        (guest.directory / "init.sh").write_text(init)

    def _spawn(self, guest: _Guest, hostname: str) -> "subprocess.Popen[bytes]":
        log = (guest.directory / "console.log").open("ab")
        with log:
            return subprocess.Popen(
                [
                    *DIE_WITH_PARENT,
                    "unshare",
                    "--kill-child=KILL",
                    "--mount",
                    "--uts",
                    "--ipc",
                    "--net",
                    "--pid",
                    "--fork",
                    "/bin/sh",
                    str(guest.directory / "init.sh"),
                    str(guest.directory),
                    f"{guest.address}/24",
                    self._bridge.gateway,
                    hostname,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _connect(self, guest: _Guest) -> None:
        """Puts one end of a veth pair on the bridge, the other into the guest."""
        assert guest.process is not None  # noqa: S101
        # Names that nobody had: the kernel takes its time over a dead guest's.
        outside, inside = (f"gf{end}{secrets.token_hex(5)}" for end in ("out", "in"))
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        _run("ip", "link", "set", outside, "master", self._bridge.name, "up")
        deadline = time.monotonic() + _CONNECT_SECONDS
        own = os.readlink("/proc/self/ns/net")
        while time.monotonic() < deadline and guest.process.poll() is None:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{guest.process.pid}/ns/net") != own:
                    _run("ip", "link", "set", inside, "netns", str(guest.process.pid), "name", "eth0")
                    return
            time.sleep(0.01)
        _run("ip", "link", "delete", outside, check=False)
        raise SandboxError(f"{guest.address} got no network: {guest.said()}")

    def _kill(self, moid: str) -> None:
        guest = self._guests.get(moid)
        if guest is None or guest.process is None:
            return
        # unshare dies with SIGKILL, and takes the guest's first process and so all others along.
        if guest.process.poll() is None:  # once it has ended, its number may be another process's
            with contextlib.suppress(ProcessLookupError):
                for child in _children(guest.process.pid):
                    os.kill(child, signal.SIGKILL)
            guest.process.kill()
        guest.process.wait()
        guest.process = None

    def _discard(self, moid: str) -> None:
        self._kill(moid)
        guest = self._guests.pop(moid, None)
        if guest is not None:
            shutil.rmtree(guest.directory, ignore_errors=True)
            self._bridge.give(guest.address)

    def _close(self) -> None:
        for moid in list(self._guests):
            self._discard(moid)
        self._bridge.close()
        self._leftovers.close()


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _report(
    world: "World", machine: Any, boot: int, guest: _Guest, hostname: str, process: "subprocess.Popen[bytes]"
) -> None:
    """Tells the machine that its guest is up once sshd answers, and what the guest sets of guestinfo."""
    address, told = guest.address, guest.directory / "upper/var/lib/guestinfo-set"
    slow = time.monotonic() + _SLOW_SECONDS
    while process.poll() is None:
        try:
            with socket.create_connection((address, 22), timeout=1) as connection:
                connection.settimeout(2)
                ready = connection.recv(4) == b"SSH-"
        except OSError:
            ready = False
        if ready:
            with world.lock:
                if machine.power_state == "poweredOn" and machine.boots == boot:
                    machine.guest_is_up(address, hostname)
            break
        if time.monotonic() > slow:
            slow += _SLOW_SECONDS
            _log.warning("%s (%s) is not up yet: %s", hostname, address, guest.said())
        time.sleep(0.05)
    else:
        if guest.process is process:  # and nobody switched it off
            _log.warning("%s (%s) died before it was up: %s", hostname, address, guest.said())
    known: dict[str, str] = {}
    while process.poll() is None:
        with contextlib.suppress(OSError):
            fresh = {each.name: each.read_text() for each in told.iterdir() if each.name.startswith("guestinfo.")}
            if fresh != known:
                known = fresh
                with world.lock:
                    if machine.power_state == "poweredOn" and machine.boots == boot:
                        values = [build(vim.option.OptionValue, key=key, value=text) for key, text in fresh.items()]
                        config = machine.config
                        machine.set("config", vary(config, extraConfig=merge_extra(config.extraConfig, values)))
        time.sleep(_LOOK_SECONDS)
