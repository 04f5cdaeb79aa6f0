#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A lease of GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: A lease of GPUs for a client
description:
  - Asks for a lease and waits until it is granted, or gives it back.
  - It stays until it is given back; M(gpuferry.pool.hold_lease) gives it back when the play ends, whatever happens.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  state:
    description: Whether it is held.
    type: str
    choices: [present, absent]
    default: present
  access:
    description:
      - Whether the addresses of the GPUs and the secrets that open them are returned.
      - Set C(no_log=true) on the task then.
    type: bool
    default: false
extends_documentation_fragment:
  - gpuferry.pool.lease
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: Two slices for tonight
  gpuferry.pool.lease:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    client: notebook-1
    name: nightly
    gpus: 2
    memory_mib: 8192

- name: Give them back
  gpuferry.pool.lease:
    client: notebook-1
    name: nightly
    state: absent
"""

RETURN = r"""
lease:
  description: The lease; in check mode what it would be.
  returned: when O(state=present), and when one was given back
  type: dict
  sample:
    id: lease-01jd3x0000000000000000000
    state: active
    gpus: 2
    memory_mib: 8192
slices:
  description: Its slices.
  returned: when it is active
  type: list
  elements: dict
access:
  description: Addresses and secrets by server.
  returned: with O(access=true)
  type: list
  elements: dict
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.leases import (
    LEASE_SPEC,
    SHAPE,
    LeaseError,
    ask,
    await_end,
    client_named,
    contradiction,
    held,
    release,
    settled,
)
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task, chosen

SHOWN = ("client", "name", *SHAPE)


def apply(task):
    try:
        settle(task)
    except LeaseError as error:
        task.fail(str(error))


def settle(task):
    options, api = task.options, task.api
    client = client_named(api, options["client"])["id"]
    lease = held(api, client, options["name"])
    shown = chosen(options, SHOWN)
    if options["state"] == "absent":
        if lease is not None and not task.dry:
            release(api, lease["id"])
            lease = await_end(api, lease["id"])
        before = None if lease is None else dict(chosen(lease, SHAPE), **chosen(options, ("client", "name")))
        task.done(before, None, **({"lease": lease} if lease else {}))
    before = None
    if lease is not None:
        wrong = contradiction(lease, options)
        if wrong:
            task.fail("%s is held and cannot be changed: %s. Give it back first (state=absent)." % (lease["id"], wrong))
        before = shown
        if not task.dry:
            lease = settled(api, lease, options["timeout_s"])
    elif not task.dry:
        lease = ask(api, client, options)
    facts = {"lease": lease or dict(shown, state="active")}
    if lease is not None and lease["state"] == "active":
        facts["slices"] = [each for each in api.every("/v1/slices", lease=lease["id"]) if each["state"] == "prepared"]
        if options["access"]:
            facts["access"] = api.get("/v1/leases/%s/access" % lease["id"]).body
    task.done(before, shown, **facts)


def main():
    spec = dict(LEASE_SPEC)
    spec["state"] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    spec["access"] = {"type": "bool", "default": False}
    task = Task(spec, mutually_exclusive=[("memory_mib", "fraction")])
    task.subject = "lease %s of %s" % (task.options["name"], task.options["client"])
    task.run(apply)


if __name__ == "__main__":
    main()
