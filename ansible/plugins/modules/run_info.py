#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Provisioning runs: what they do and did."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_info
short_description: Provisioning runs, and waiting for them
description:
  - Reads runs with their steps, and waits for those that have not ended, if asked to.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  ids:
    description: These runs.
    type: list
    elements: str
  kind:
    description: Runs of this kind.
    type: str
  states:
    description: Runs in one of these states.
    type: list
    elements: str
    choices: [queued, running, succeeded, failed, cancelling, cancelled, rolling-back, rolled-back]
  subject:
    description: Runs about this, or whose subject contains this.
    type: str
  limit:
    description: The most runs, newest first, when O(ids) is not given.
    type: int
    default: 100
  wait:
    description: Whether to wait until they have ended.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 3600
  require_success:
    description: Whether the task fails when one of them has not succeeded.
    type: bool
    default: false
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.reads
"""

EXAMPLES = r"""
- name: Begin with all of them
  gpuferry.pool.client:
    name: "{{ item }}"
    vcenter: lab
    vm: "{{ item }}"
    wait: false
  loop: "{{ notebooks }}"
  register: begun

- name: And wait for all of them
  gpuferry.pool.run_info:
    ids: "{{ begun.results | map(attribute='run') | select | list }}"
    wait: true
    require_success: true
"""

RETURN = r"""
runs:
  description: The runs with their steps.
  returned: success
  type: list
  elements: dict
  sample:
    - id: run-01jd3x0000000000000000000
      kind: enable-client
      subject: notebook-1
      state: succeeded
"""

import time

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import quoted
from ansible_collections.gpuferry.pool.plugins.module_utils.runs import MOVING, follow
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task

STATES = ["queued", "running", "succeeded", "failed", "cancelling", "cancelled", "rolling-back", "rolled-back"]


def apply(task):
    options = task.options
    if options["ids"] is not None:
        runs = [task.api.get("/v1/runs/" + quoted(each)).body for each in options["ids"]]
    else:
        query = {"kind": options["kind"], "state": options["states"], "subject": options["subject"]}
        runs, cursor = [], None
        while len(runs) < options["limit"]:
            size = min(options["limit"] - len(runs), 500)
            page = task.api.get("/v1/runs", limit=size, cursor=cursor, **query).body
            runs += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
    if options["wait"] and not task.dry:
        end = time.monotonic() + options["wait_timeout"]
        runs = [follow(task, each, end) for each in runs]
    if options["require_success"]:
        bad = [each for each in runs if each["state"] != "succeeded" and not (task.dry and each["state"] in MOVING)]
        if bad:
            told = "; ".join(
                "%s of %s %s: %s %s" % (r["id"], r["subject"], r["state"], r["error"], r["remedy"]) for r in bad[:5]
            )
            task.fail("%d of %d did not succeed. %s" % (len(bad), len(runs), told), runs=runs)
    task.module.exit_json(changed=False, runs=runs)


def main():
    task = Task(
        {
            "ids": {"type": "list", "elements": "str"},
            "kind": {"type": "str"},
            "states": {"type": "list", "elements": "str", "choices": STATES},
            "subject": {"type": "str"},
            "limit": {"type": "int", "default": 100},
            "wait": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 3600},
            "require_success": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("ids", "kind"), ("ids", "states"), ("ids", "subject")],
    )
    task.subject = "runs"
    task.run(apply)


if __name__ == "__main__":
    main()
