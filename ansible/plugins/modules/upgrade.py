#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rolling upgrades of servers and clients."""

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade
short_description: Bring GPU servers or clients to the appliance's version, so many at a time
description:
  - Servers are drained before they are upgraded, and take leases again afterwards.
  - What is of that version already is left alone; when all are, no run is started.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  kind:
    description: What is upgraded.
    type: str
    required: true
    choices: [servers, clients]
  names:
    description: Which ones; without it, all.
    type: list
    elements: str
  at_once:
    description: How many at a time. V(1) server or V(10) clients without it.
    type: int
  deadline_s:
    description: Seconds that the leases of a server are given when it is drained; V(3600) without it.
    type: int
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
  - gpuferry.pool.appliance.waits
  - gpuferry.pool.appliance.ssh
"""

EXAMPLES = r"""
- name: One server after the other, with an hour for the programs on it
  gpuferry.pool.upgrade:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    kind: servers
    deadline_s: 3600
"""

RETURN = r"""
run:
  description: The run that did it.
  returned: when a run was started
  type: str
steps:
  description: The steps of the run with what they found and did; in check mode, what they would do.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.runs import SSH_SPEC, WAIT_SPEC, given, settle
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task


def apply(task):
    options = task.options
    parameters = given(options, "at_once", "ssh")
    if options["names"] is not None:
        parameters[options["kind"]] = options["names"]
    if options["kind"] == "servers" and options["deadline_s"] is not None:
        parameters["deadline_s"] = options["deadline_s"]
    # Draining is for the upgrade's sake: alone it is no reason for a run.
    told = settle(task, "upgrade-" + options["kind"], parameters, ("drain-batch",), lambda: True)
    task.done(told["before"], told["after"], run=told["run"], steps=told["steps"])


def main():
    spec = {
        "kind": {"type": "str", "required": True, "choices": ["servers", "clients"]},
        "names": {"type": "list", "elements": "str"},
        "at_once": {"type": "int"},
        "deadline_s": {"type": "int"},
        "ssh": SSH_SPEC,
    }
    spec.update(WAIT_SPEC)
    task = Task(spec)
    task.subject = "upgrade of %s" % (", ".join(task.options["names"] or []) or "all " + task.options["kind"])
    task.run(apply)


if __name__ == "__main__":
    main()
