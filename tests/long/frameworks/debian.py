"""A Debian tree beside this system, whatever its release: made by debootstrap, its programs run by chroot. Needs root.

The mirror is the one of this machine's own apt sources.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.long.frameworks.framework import ROOT

COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
# In a mount namespace of its own, so that nothing stays mounted. $0 is the tree, $1 the repository.
ENTER = """
set -e
for folder in /proc /dev /sys /tmp "$1"; do
    mkdir -p "$0$folder"
    mount --rbind "$folder" "$0$folder"
done
repository=$1; shift
exec chroot "$0" /bin/sh -c 'cd "$0" && exec "$@"' "$repository" "$@"
"""


def mirror() -> str:
    """The address of the first repository that apt knows on this machine."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    return targets.stdout.split()[0]


def in_tree(tree: Path, program: Sequence[str]) -> list[str]:
    """The command line that runs a program of the tree. The repository lies in it where it lies here."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, str(tree), str(ROOT), *program]


def run_in_tree(tree: Path, *program: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(in_tree(tree, program), env=environment, check=True)


def make_stand_in(tree: Path, name: str, version: str) -> str:
    """An empty package that others' dependencies on `name` are content with; its file's path in the tree."""
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: gpuferry <tests@localhost>\n"
            "Description: empty, stands in for a package that is not wanted here\n"
        )
        target = f"/var/cache/{name}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, f"{tree}{target}"], check=True)
    return target


def make_tree(tree: Path, suite: str, packages: Sequence[str], stand_ins: Mapping[str, str]) -> None:
    """A tree of this Debian suite with `packages`, and empty ones (`stand_ins`: name → version). Safe to repeat."""
    tree = tree.resolve()
    address = mirror()
    if not (tree / "etc" / "debian_version").exists() or (tree / "debootstrap").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--components={','.join(COMPONENTS)}", suite, str(tree), address],
            check=True,
        )
    (tree / "etc/apt/sources.list").write_text(f"deb {address} {suite} {' '.join(COMPONENTS)}\n")
    files = [make_stand_in(tree, name, version) for name, version in stand_ins.items()]
    # A mirror that stands still for some weeks serves as well.
    run_in_tree(tree, "apt-get", "update", "-q", "-o", "Acquire::Check-Valid-Until=false")
    run_in_tree(tree, "apt-get", "install", "-q", "-y", "--no-install-recommends", *files, *packages)
    run_in_tree(tree, "apt-get", "clean")
