"""Gives a lease back when the ansible-playbook that holds it has ended, however it ended.

A process of its own, started by the action plug-in hold_lease, which tells it on standard input what to watch.
"""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time

LOOK_S = 0.5
LOOK_AT_LEASE_S = 30
TRY_S = 3600


def born(process):
    """What tells a process from a later one of the same number; None when there is none."""
    try:
        with open("/proc/%d/stat" % process) as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return None
    try:
        os.kill(process, 0)
    except OSError:
        return None
    return ""


def keep(api, error, lease, play):
    """Wait for the end of the play, or of the lease; then give the lease back."""
    path, begun, looked = "/v1/leases/" + lease, born(play), time.monotonic()
    while begun is not None and born(play) == begun:
        time.sleep(LOOK_S)
        if time.monotonic() - looked > LOOK_AT_LEASE_S:
            looked = time.monotonic()
            try:
                if api.get(path).body["state"] == "ended":
                    return
            except error as failure:
                if failure.status == 404:
                    return
    end = time.monotonic() + TRY_S
    while time.monotonic() < end:
        try:
            api.delete(path, "*")
            return
        except error as failure:
            if failure.status in (401, 403, 404):
                return
            time.sleep(5)


def main():
    told = json.loads(sys.stdin.read())
    spec = importlib.util.spec_from_file_location("rest", told["rest"])
    rest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rest)
    keep(rest.Appliance.of_options(told["options"]), rest.ApplianceError, told["lease"], told["play"])


if __name__ == "__main__":
    main()
