#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A client of the pool."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client
short_description: A machine whose programs use the pool, its group and quotas
description:
  - With O(vm) or O(address), the appliance deploys the client to that machine over SSH and enrols it, or takes it away
    again.
  - Without them, is about a client that enrolled by itself or with the role P(gpuferry.pool.client#role).
  - Sets the client's group, quotas and priority.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description: The client's name.
    type: str
    required: true
  state:
    description: V(absent) takes it away; without O(vm) and O(address) its key is revoked, which ends its leases.
    type: str
    choices: [present, absent]
    default: present
  vcenter:
    description: The vCenter of O(vm), by the name the appliance knows it.
    type: str
  vm:
    description: The machine, as the vCenter calls it.
    type: str
  address:
    description: The address of any Linux machine, of a vCenter or not.
    type: str
  host_key:
    description:
      - Fingerprint of the machine's SSH host key, as in V(SHA256:uNiVztksCsDhcc0u9e8BrQYn6b...), when nobody has
        confirmed that key yet. C(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) shows it on the machine.
      - V(accept-new) trusts the key that the machine shows first; a changed key is refused all the same.
      - VMs that say their key in their own record in vCenter need neither.
    type: str
  environment:
    description: Variables of the agent's service.
    type: dict
  redeploy:
    description:
      - V(when_needed) deploys to a machine whose agent is missing or of another version than the appliance.
      - V(always) deploys anew, as after a change of O(environment), and always counts as a change.
    type: str
    choices: [when_needed, always]
    default: when_needed
  group:
    description: The name of its group. A new client without one joins V(default).
    type: str
  max_gpus:
    description: The most GPUs it holds; V(-1) takes the limit off.
    type: int
  max_memory_mib:
    description: The most GPU memory it holds, in MiB; V(-1) takes the limit off.
    type: int
  max_leases:
    description: The most leases it holds; V(-1) takes the limit off.
    type: int
  priority:
    description: Added to the priority of its group.
    type: int
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
  - gpuferry.pool.appliance.waits
  - gpuferry.pool.appliance.ssh
"""

EXAMPLES = r"""
- name: A VM whose programs use the pool
  gpuferry.pool.client:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    name: notebook-1
    vcenter: lab
    vm: notebook-1
    group: research
    max_gpus: 2

- name: A machine of another cloud
  gpuferry.pool.client:
    name: burst-1
    address: 192.0.2.17
    ssh:
      user: ubuntu
      key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519') }}"

- name: Not any more
  gpuferry.pool.client:
    name: notebook-1
    vcenter: lab
    vm: notebook-1
    state: absent
"""

RETURN = r"""
client:
  description: The client as the pool knows it; in check mode as it would be.
  returned: when O(state=present)
  type: dict
  sample:
    id: client-01jd3x0000000000000000000
    name: notebook-1
    group_id: group-01jd3x0000000000000000000
    max_gpus: 2
run:
  description: The run that did it.
  returned: when a run was started
  type: str
steps:
  description: The steps of the run with what they found and did; in check mode, what they would do.
  returned: with O(vm) or O(address)
  type: list
  elements: dict
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError
from ansible_collections.gpuferry.pool.plugins.module_utils.runs import (
    SSH_SPEC,
    UNSEEN,
    WAIT_SPEC,
    given,
    inventory_of,
    only_foreseen,
    settle,
)
from ansible_collections.gpuferry.pool.plugins.module_utils.task import MEETINGS, Task, chosen, differing, limit

LIMITS = ("max_gpus", "max_memory_mib", "max_leases")
SHOWN = ("group", *LIMITS, "priority")
NOTHING = {"changed": False, "before": {}, "after": {}, "run": None, "steps": []}
NEW = {"group": "default", "max_gpus": None, "max_memory_mib": None, "max_leases": None, "priority": 0}


def find(task):
    name = task.options["name"]
    return task.api.named("/v1/clients", name, name=name, revoked="false")


def deployed(task):
    return bool(task.options["vm"] or task.options["address"])


def apply(task):
    options = task.options
    unseen = bool(options["vcenter"]) and only_foreseen(task, options["vcenter"])
    if options["vcenter"] and not unseen:
        inventory_of(task, options["vcenter"])
    if options["state"] == "absent":
        remove(task)
    groups = {each["id"]: each["name"] for each in task.api.every("/v1/groups")}
    if options["group"] and options["group"] not in groups.values():
        missing = "there is no group %r (there are: %s). Make it with gpuferry.pool.group." % (
            options["group"],
            ", ".join(sorted(groups.values())),
        )
        if not task.dry:
            task.fail(missing)
        task.module.warn("client %s: %s" % (options["name"], missing))
    told = UNSEEN if unseen else NOTHING
    if deployed(task) and not unseen:
        names = ("name", "vcenter", "vm", "address", "group", "environment", "ssh")
        again = ("deploy-client", "mark-client")
        told = settle(task, "enable-client", given(options, *names), again, lambda: ready(task), options["host_key"])
    found = find(task)
    if found is None and not told["changed"]:
        missing = (
            "no such client is enrolled. Give `vcenter` and `vm`, or `address`, to deploy to it, or use the role "
            "gpuferry.pool.client on it."
        )
        if not task.dry:
            task.fail(missing)
        task.module.warn("client %s: %s" % (options["name"], missing))
    before, after = dict(told["before"]), dict(told["after"])
    client = quota(task, found, groups, before, after)
    task.done(before, after, client=client, run=told["run"], steps=told["steps"])


def ready(task):
    """Whether it is enrolled in the appliance's version, and vCenter shows it."""
    found = find(task)
    if found is None or found["seen_at"] is None or task.options["redeploy"] == "always":
        return False
    return found["agent_version"] == task.api.get("/v1/appliance").body["version"] and shown_as_client(task)


def shown_as_client(task):
    """Whether its VM bears the tag in vCenter; True for a machine of no vCenter."""
    if not task.options["vm"]:
        return True
    machines = inventory_of(task, task.options["vcenter"])["vms"]
    return any(each["name"] == task.options["vm"] and each["tag"] == "client" for each in machines)


def quota(task, found, groups, before, after):
    """Set group, quotas and priority; notes the difference, returns the client."""
    options = task.options
    wanted = {key: limit(options[key]) for key in LIMITS if options[key] is not None}
    if options["priority"] is not None:
        wanted["priority"] = options["priority"]
    if options["group"]:
        wanted["group"] = options["group"]
    new = bool(before)
    for meeting in range(1, MEETINGS + 1):
        if found is None:
            # It is being deployed: in check mode, or with `wait: false`.
            current, etag = dict(NEW, name=options["name"], group=options["group"] or "default"), None
        else:
            answer = task.api.get("/v1/clients/" + found["id"])
            current, etag = dict(answer.body, group=groups.get(answer.body["group_id"], "")), answer.etag
        change = differing(current, wanted)
        if not change or task.dry or found is None:
            break
        try:
            body = {key: value for key, value in change.items() if key != "group"}
            if "group" in change:
                body["group_id"] = next(id_ for id_, name in groups.items() if name == change["group"])
            task.api.patch("/v1/clients/" + found["id"], body, etag)
            break
        except ApplianceError as error:
            if error.status != 412 or meeting == MEETINGS:
                raise
    if new:
        # One that is new is told whole, so that check mode and the real run tell the same.
        after.update(chosen(dict(current, **change), SHOWN))
    else:
        before.update(chosen(current, sorted(change)))
        after.update(change)
    return dict(current, **change)


def remove(task):
    options = task.options
    if deployed(task):
        parameters = given(options, "vcenter", "vm", "address", "ssh")
        told = settle(
            task,
            "disable-client",
            dict(parameters, client=options["name"]),
            ("unmark-client",),
            lambda: not (options["vm"] and shown_as_client(task)),
        )
        task.done(told["before"], told["after"], run=told["run"], steps=told["steps"])
    found = find(task)
    if found is not None and not task.dry:
        task.api.delete("/v1/clients/" + found["id"], "*")
    task.done(found and {"name": found["name"]}, None)


def main():
    spec = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "vcenter": {"type": "str"},
        "vm": {"type": "str"},
        "address": {"type": "str"},
        "host_key": {"type": "str", "no_log": False},
        "environment": {"type": "dict"},
        "redeploy": {"type": "str", "choices": ["when_needed", "always"], "default": "when_needed"},
        "group": {"type": "str"},
        "priority": {"type": "int"},
        "ssh": SSH_SPEC,
    }
    spec.update({key: {"type": "int"} for key in LIMITS})
    spec.update(WAIT_SPEC)
    task = Task(spec, required_together=[("vcenter", "vm")])
    task.subject = "client %s" % task.options["name"]
    task.run(apply)


if __name__ == "__main__":
    main()
