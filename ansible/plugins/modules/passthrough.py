#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Passthrough of the GPUs of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: passthrough
short_description: Passthrough (DirectPath I/O) of the GPUs of a host
description:
  - Turns passthrough on or off for GPUs of an ESXi host, at once where the host can, else through maintenance mode and
    a reboot.
  - Running machines are moved away or, where that is not possible, the run waits for them as maintenance mode does.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  vcenter:
    description: The vCenter, by the name the appliance knows it.
    type: str
    required: true
  host:
    description: The ESXi host, as vCenter calls it.
    type: str
    required: true
  gpus:
    description: PCI addresses, as in V(0000:3b:00.0). Without them, all GPUs of the host.
    type: list
    elements: str
  state:
    description: Whether passthrough is on.
    type: str
    choices: [enabled, disabled]
    default: enabled
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
  - gpuferry.pool.appliance.waits
"""

EXAMPLES = r"""
- name: All GPUs of a host can be passed through
  gpuferry.pool.passthrough:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ operator_token }}"
    vcenter: lab
    host: esx-1.lab
"""

RETURN = r"""
run:
  description: The run that did it.
  returned: when a run was started
  type: str
  sample: run-01jd3x0000000000000000000
steps:
  description: The steps with what they found and did; in check mode, what they would do.
  returned: success
  type: list
  elements: dict
  sample:
    - name: passthrough
      title: Turn passthrough on
      state: done
      found: "esx-1.lab is connected: 2 x A100 off"
      did: "passthrough on for 0000:3b:00.0; esx-1.lab was rebooted"
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.runs import (
    UNSEEN,
    WAIT_SPEC,
    given,
    inventory_of,
    only_foreseen,
    settle,
)
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task


def apply(task):
    options = task.options
    if only_foreseen(task, options["vcenter"]):
        task.done(UNSEEN["before"], UNSEEN["after"], steps=[])
    inventory_of(task, options["vcenter"])
    parameters = given(options, "vcenter", "host", "gpus")
    parameters["on"] = options["state"] == "enabled"
    told = settle(task, "passthrough", parameters)
    task.done(told["before"], told["after"], run=told["run"], steps=told["steps"])


def main():
    spec = {
        "vcenter": {"type": "str", "required": True},
        "host": {"type": "str", "required": True},
        "gpus": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": ["enabled", "disabled"], "default": "enabled"},
    }
    spec.update(WAIT_SPEC)
    task = Task(spec)
    task.subject = "passthrough of %s" % task.options["host"]
    task.run(apply)


if __name__ == "__main__":
    main()
