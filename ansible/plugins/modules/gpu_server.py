#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A GPU server, from a bare host to the pool and back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_server
short_description: A GPU server of the pool
description:
  - With O(vcenter), makes the server's VM on a host with GPUs, deploys gpuferry to it, tests it and takes it into the
    pool, or takes all that back. What is there already is left as it is.
  - Without O(vcenter), is about a server that enrolled by itself or with the role P(gpuferry.pool.gpu_server#role).
  - Takes a server out of service for maintenance, and back.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description: The server's name, which is also the name of its VM.
    type: str
    required: true
  state:
    description:
      - V(present) makes it where O(vcenter) says where. Without O(vcenter) it must be enrolled.
      - V(absent) drains it, gives its GPUs back to the host and deletes the VM; without O(vcenter) its key is revoked,
        which ends its leases at once.
    type: str
    choices: [present, absent]
    default: present
  service:
    description:
      - V(active) takes new leases.
      - V(draining) takes none; those there have until O(deadline_s). The task does not wait.
      - V(maintenance) is the same, and the task waits until no lease is left.
    type: str
    choices: [active, draining, maintenance]
  deadline_s:
    description:
      - Seconds that the leases of a server are given when it is drained.
      - Without it, the site's setting C(drain_deadline_s).
    type: int
  vcenter:
    description: The vCenter, by the name the appliance knows it.
    type: str
  host:
    description: The ESXi host whose GPUs it gets.
    type: str
  gpus:
    description: PCI addresses of its GPUs. Without them, O(gpu_count) free ones are chosen.
    type: list
    elements: str
  gpu_count:
    description: How many GPUs it gets. V(1) without it and without O(gpus).
    type: int
  cpus:
    description: Virtual CPUs of its VM.
    type: int
  memory_mib:
    description: Memory of its VM; V(0) or nothing for 1.5 times the memory of its GPUs.
    type: int
  source:
    description: What its VM is made from; one of the three.
    type: dict
    suboptions:
      template:
        description: A template or VM of the vCenter.
        type: str
      library_item:
        description: An item of a content library, as LIBRARY/ITEM.
        type: str
      ova:
        description: A file on the appliance.
        type: str
  network:
    description: The network of its VM.
    type: str
  rdma_network:
    description: The distributed port group of its PVRDMA adapter.
    type: str
  datastore:
    description: The datastore of its VM.
    type: str
  driver:
    description: V(softgpu) serves GPUs in software, for trying the pool out.
    type: str
    choices: [nvidia, softgpu]
  environment:
    description: Variables of the daemon's service.
    type: dict
  python_path:
    description: Folders of the server in which Python finds what the appliance's bundle does not bring along, as CuPy.
    type: list
    elements: str
  redeploy:
    description:
      - V(when_needed) deploys to a server that is missing, not connected, or of another version than the appliance.
      - V(always) deploys anew, as after a change of O(environment), and always counts as a change.
    type: str
    choices: [when_needed, always]
    default: when_needed
  accept:
    description: Whether it must pass the acceptance test before it joins the pool.
    type: bool
  delete_vm:
    description: With O(state=absent), whether its VM is deleted.
    type: bool
    default: true
  passthrough_off:
    description: With O(state=absent), whether passthrough of its GPUs is turned off.
    type: bool
    default: false
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
  - gpuferry.pool.appliance.waits
  - gpuferry.pool.appliance.ssh
"""

EXAMPLES = r"""
- name: A server with two GPUs
  gpuferry.pool.gpu_server:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    name: gpu-1
    vcenter: lab
    host: esx-1.lab
    gpu_count: 2
    source:
      template: ubuntu-24.04
    network: VM Network
    rdma_network: rdma

- name: Nobody uses it now
  gpuferry.pool.gpu_server:
    name: gpu-1
    service: maintenance
    deadline_s: 1800

- name: Back to the host
  gpuferry.pool.gpu_server:
    name: gpu-1
    vcenter: lab
    state: absent
    passthrough_off: true
"""

RETURN = r"""
server:
  description: The server as the pool knows it; in check mode as it would be.
  returned: when it is in the pool
  type: dict
  sample:
    id: server-01jd3x0000000000000000000
    name: gpu-1
    state: active
    address: 10.1.2.3:9797
run:
  description: The run that did it.
  returned: when a run was started
  type: str
steps:
  description: The steps of the run with what they found and did; in check mode, what they would do.
  returned: with O(vcenter)
  type: list
  elements: dict
"""

import time

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
from ansible_collections.gpuferry.pool.plugins.module_utils.task import MEETINGS, Task, chosen

SHOWN = ("name", "state")
LOOK_S = 0.5
NOTHING = {"changed": False, "before": {}, "after": {}, "run": None, "steps": []}


def find(task):
    found = task.api.named("/v1/servers", task.options["name"], name=task.options["name"])
    return None if found is None or found["state"] == "revoked" else found


def apply(task):
    if task.options["state"] == "absent":
        remove(task)
    told = provision(task) if task.options["vcenter"] else NOTHING
    found = find(task)
    if found is None and not told["changed"]:
        missing = (
            "there is no such server. Give `vcenter`, `host`, `source` and `network` to make one, or enrol a machine "
            "with the role gpuferry.pool.gpu_server."
        )
        if not task.dry:
            task.fail(missing)
        task.module.warn("GPU server %s: %s" % (task.options["name"], missing))
    before, after, server = dict(told["before"]), dict(told["after"]), found
    if task.options["service"]:
        server = serve(task, found, before, after)
    task.done(before, after, server=server, run=told["run"], steps=told["steps"])


def provision(task):
    """Make the server where it is missing."""
    options = task.options
    missing = [name for name in ("host", "source", "network") if not options[name]]
    if missing:
        task.fail("give %s as well, to make it in vCenter %s." % (", ".join(missing), options["vcenter"]))
    if only_foreseen(task, options["vcenter"]):
        return UNSEEN
    inventory_of(task, options["vcenter"])
    names = ("vcenter", "host", "name", "gpus", "gpu_count", "cpus", "memory_mib", "network", "rdma_network")
    parameters = given(options, *names, "datastore", "driver", "environment", "python_path", "accept", "ssh")
    parameters["source"] = {key: value for key, value in options["source"].items() if value is not None}
    if options["gpus"] and options["gpu_count"] is None:
        parameters["gpu_count"] = len(options["gpus"])

    def finished():
        found = find(task)
        if found is None or not found["connected"] or options["redeploy"] == "always":
            return False
        gpus = [each for each in task.api.every("/v1/gpus", server=found["id"]) if each["state"] != "missing"]
        wanted = parameters.get("gpu_count", 1)
        return len(gpus) == wanted and found["daemon_version"] == task.api.get("/v1/appliance").body["version"]

    return settle(task, "provision-server", parameters, ("deploy-server", "accept", "join-pool"), finished)


def serve(task, found, before, after):
    """Take it in or out of service; notes the difference, returns the server."""
    wanted = task.options["service"]
    state = found["state"] if found else "active"
    reached = {"active": ("active",), "draining": ("draining", "maintenance"), "maintenance": ("maintenance",)}
    if state in reached[wanted]:
        return found
    before["state"], after["state"] = state, wanted
    if task.dry:
        return dict(found or {"name": task.options["name"]}, state=wanted)
    server = found if wanted == "maintenance" and state == "draining" else change_state(task, found["id"], wanted)
    return await_maintenance(task, server) if wanted == "maintenance" else server


def change_state(task, id_, wanted):
    change = {"state": "active" if wanted == "active" else "draining"}
    if wanted != "active" and task.options["deadline_s"] is not None:
        change["drain_deadline_s"] = task.options["deadline_s"]
    for meeting in range(1, MEETINGS + 1):
        etag = task.api.get("/v1/servers/" + id_).etag
        try:
            return task.api.patch("/v1/servers/" + id_, change, etag).body
        except ApplianceError as error:
            if error.status != 412 or meeting == MEETINGS:
                raise
    raise AssertionError("unreachable")


def await_maintenance(task, server):
    """Wait until its leases are over."""
    end = time.monotonic() + task.options["wait_timeout"]
    while server["state"] == "draining" and task.options["wait"]:
        if time.monotonic() > end:
            task.fail(
                "it is still draining after %d seconds, its leases have until %s. Run the task again to wait on, or "
                "give a shorter `deadline_s`." % (task.options["wait_timeout"], server["drain_deadline"])
            )
        time.sleep(LOOK_S)
        server = task.api.get("/v1/servers/" + server["id"]).body
    return server


def remove(task):
    """Out of the pool and, with a vCenter, out of it as well."""
    options = task.options
    if options["vcenter"]:
        machines = {each["name"] for each in inventory_of(task, options["vcenter"])["vms"] if not each["template"]}
        if options["name"] not in machines and find(task) is None:
            task.done(None, None)
        parameters = given(options, "vcenter", "name", "deadline_s", "delete_vm", "passthrough_off", "ssh")
        told = settle(task, "decommission-server", parameters, ("unmark",), lambda: find(task) is None)
        task.done(told["before"], told["after"], run=told["run"], steps=told["steps"])
    found = find(task)
    if found is not None and not task.dry:
        task.api.delete("/v1/servers/" + found["id"], "*")
    task.done(found and chosen(found, SHOWN), None)


def main():
    spec = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "service": {"type": "str", "choices": ["active", "draining", "maintenance"]},
        "deadline_s": {"type": "int"},
        "vcenter": {"type": "str"},
        "host": {"type": "str"},
        "gpus": {"type": "list", "elements": "str"},
        "gpu_count": {"type": "int"},
        "cpus": {"type": "int"},
        "memory_mib": {"type": "int"},
        "source": {
            "type": "dict",
            "options": {"template": {"type": "str"}, "library_item": {"type": "str"}, "ova": {"type": "str"}},
            "mutually_exclusive": [("template", "library_item", "ova")],
            "required_one_of": [("template", "library_item", "ova")],
        },
        "network": {"type": "str"},
        "rdma_network": {"type": "str"},
        "datastore": {"type": "str"},
        "driver": {"type": "str", "choices": ["nvidia", "softgpu"]},
        "environment": {"type": "dict"},
        "python_path": {"type": "list", "elements": "str"},
        "redeploy": {"type": "str", "choices": ["when_needed", "always"], "default": "when_needed"},
        "accept": {"type": "bool"},
        "delete_vm": {"type": "bool", "default": True},
        "passthrough_off": {"type": "bool", "default": False},
        "ssh": SSH_SPEC,
    }
    spec.update(WAIT_SPEC)
    task = Task(spec, required_by={"host": ("vcenter",), "source": ("vcenter",)})
    task.subject = "GPU server %s" % task.options["name"]
    task.run(apply)


if __name__ == "__main__":
    main()
