"""Asking for a lease, waiting for it, giving it back."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import random
import time

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError, quoted

HELD = ("queued", "granted", "active")
SHAPE = ("gpus", "memory_mib", "fraction", "compute")
WAIT_AT_ONCE_S = 20

LEASE_SPEC = {
    "client": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "gpus": {"type": "int", "default": 1},
    "memory_mib": {"type": "int"},
    "fraction": {"type": "float"},
    "compute": {"type": "int"},
    "filters": {"type": "list", "elements": "str", "default": []},
    "priority": {"type": "int", "default": 0},
    "timeout_s": {"type": "int", "default": 600},
    "duration_s": {"type": "int", "default": 0},
    "program": {"type": "str", "default": "ansible"},
}


class LeaseError(Exception):
    """It cannot be had; the text says why and what to do."""


def client_named(api, name):
    """The client, or a LeaseError that names those there are."""
    found = api.named("/v1/clients", name, name=name, revoked="false")
    if found is None:
        known = sorted(each["name"] for each in api.every("/v1/clients", revoked="false"))
        there = "There are: %s." % ", ".join(known[:10]) if known else "There is none yet: enable one."
        raise LeaseError("there is no client '%s'. %s" % (name, there))
    return found


def held(api, client_id, name):
    """The lease of this name that the client holds or waits for; None without one.

    A request's name is used once: the lease is asked for as NAME~NUMBER, so that it can be had again when it has ended.
    """
    for each in api.every("/v1/leases", client=client_id, state=list(HELD)):
        if each["request"] == name or each["request"].startswith(name + "~"):
            return each
    return None


def contradiction(lease, options):
    """What of a held lease is not as it is wanted, in words; empty when all is."""
    return ", ".join(
        "%s is %s, not %s" % (key, lease[key], options[key])
        for key in SHAPE
        if lease[key] != options[key] and not (key == "fraction" and None in (lease[key], options[key]))
    )


def ask(api, client_id, options):
    """Ask for a lease and wait until it is active. Raises LeaseError."""
    body = {key: options[key] for key in (*SHAPE, "filters", "priority", "timeout_s", "duration_s", "program")}
    body = {key: value for key, value in body.items() if value is not None}
    number = "%012x" % random.SystemRandom().getrandbits(48)
    body.update(client=client_id, request="%s~%s" % (options["name"], number))
    wait_s = min(WAIT_AT_ONCE_S, max(api.timeout - 5, 1))
    return settled(api, api.post("/v1/leases", body, wait_s=wait_s).body, options["timeout_s"])


def settled(api, lease, timeout_s):
    """Wait until it is active. Raises LeaseError when it ends instead, or when that takes too long."""
    end = time.monotonic() + timeout_s + 30 if timeout_s else None
    while lease["state"] in ("queued", "granted"):
        if end is not None and time.monotonic() > end:
            release(api, lease["id"])
            raise LeaseError(
                "%s was given up after %d seconds in the queue: %s. Ask for less, or set `timeout_s`."
                % (lease["id"], timeout_s, lease["reason"])
            )
        time.sleep(0.5)
        lease = api.get("/v1/leases/" + quoted(lease["id"])).body
    if lease["state"] != "active":
        raise LeaseError(
            "it was not granted: %s. Ask for less, or see what is free with gpuferry.pool.pool_info." % lease["reason"]
        )
    return lease


def release(api, lease_id):
    """End it; one that has ended or was forgotten stays as it is."""
    try:
        api.delete("/v1/leases/" + quoted(lease_id), "*")
    except ApplianceError as error:
        if error.status != 404:
            raise


def await_end(api, lease_id, seconds=60):
    """Wait until it has ended; its memory is free then, or is when its servers have said so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lease = api.get("/v1/leases/" + quoted(lease_id)).body
        if lease["state"] == "ended":
            return lease
        time.sleep(0.2)
    raise LeaseError(
        "%s was released and has not ended after %d seconds. See the appliance's log." % (lease_id, seconds)
    )
