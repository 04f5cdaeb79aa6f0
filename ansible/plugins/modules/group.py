#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A group of clients: quotas, weight and priority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: group
short_description: A group of clients, its quotas, weight and priority
description:
  - Makes, changes and removes groups. Clients of a group share its quotas.
  - Leases that are held already stay when a quota becomes smaller.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description: The group's name.
    type: str
    required: true
  state:
    description: Whether it exists. A group that still has clients, and the group V(default), cannot be removed.
    type: str
    choices: [present, absent]
    default: present
  weight:
    description: Its share of the pool when the queue is long. V(1) for a new group.
    type: float
  priority:
    description: Requests of a higher priority are served first. V(0) for a new group.
    type: int
  max_gpus:
    description: The most GPUs its clients hold together; V(-1) takes the limit off.
    type: int
  max_memory_mib:
    description: The most GPU memory its clients hold together, in MiB; V(-1) takes the limit off.
    type: int
  max_leases:
    description: The most leases its clients hold together; V(-1) takes the limit off.
    type: int
  max_lease_s:
    description: The longest lease in seconds; V(-1) takes the limit off.
    type: int
  idle_after_s:
    description: Seconds after which a lease with idle GPUs is reclaimed; V(-1) for never.
    type: int
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: The research group holds at most eight GPUs
  gpuferry.pool.group:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    appliance_ca_path: /etc/gpuferry/ca.pem
    name: research
    max_gpus: 8
    weight: 2

- name: No limit any more
  gpuferry.pool.group:
    name: research
    max_gpus: -1
"""

RETURN = r"""
group:
  description: The group as it is now; in check mode as it would be.
  returned: when O(state=present)
  type: dict
  sample:
    id: group-01jd3x0000000000000000000
    name: research
    weight: 2.0
    priority: 0
    max_gpus: 8
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.resource import Resource
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task, limit

LIMITS = ("max_gpus", "max_memory_mib", "max_leases", "max_lease_s", "idle_after_s")
SHOWN = ("name", "weight", "priority", *LIMITS)


def apply(task):
    options = task.options
    resource = Resource(task, "/v1/groups", SHOWN)
    if options["state"] == "absent":
        refuse_what_stays(task, resource)
        task.done(resource.view(resource.remove(options["name"])), None)
    wanted = {key: options[key] for key in ("weight", "priority") if options[key] is not None}
    wanted.update({key: limit(options[key]) for key in LIMITS if options[key] is not None})
    defaults = {"weight": 1.0, "priority": 0}
    before, after, _written = resource.ensure(
        options["name"], wanted, {k: v for k, v in defaults.items() if k not in wanted}
    )
    task.done(resource.view(before), resource.view(after), group=after)


def refuse_what_stays(task, resource):
    """In check mode, refuse what the appliance would refuse."""
    before, _etag = resource.find(task.options["name"])
    if task.dry and before is not None:
        members = task.api.get("/v1/clients", group=before["id"], limit=4).body["items"]
        if members:
            names = ", ".join(each["name"] for each in members)
            task.fail("it still has clients (%s): move them first." % names)
        if before["name"] == "default":
            task.fail("the default group stays: new clients enrol into it.")


def main():
    spec = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "weight": {"type": "float"},
        "priority": {"type": "int"},
    }
    spec.update({key: {"type": "int"} for key in LIMITS})
    task = Task(spec)
    task.subject = "group %s" % task.options["name"]
    task.run(apply)


if __name__ == "__main__":
    main()
