#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The settings of a site."""

from __future__ import annotations

DOCUMENTATION = r"""
module: settings
short_description: The settings of a site that can change while it runs
description:
  - Changes settings of the appliance. What is not named stays as it is.
  - Times are seconds, memory is MiB.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  heartbeat_s:
    description: How often daemons and agents report.
    type: float
  lost_after_s:
    description: Silence after which a server or the keeper of a lease is lost.
    type: float
  prepare_timeout_s:
    description: A daemon's time to prepare or refuse a lease.
    type: float
  patience_s:
    description: A request that waits longer is not overtaken any more by smaller ones behind it.
    type: float
  default_timeout_s:
    description: How long a request waits that names no time-out; V(0) is until granted.
    type: float
  max_lease_s:
    description: The longest lease; V(0) is no limit.
    type: float
  idle_after_s:
    description: A lease whose programs left its GPUs idle so long is reclaimed; V(0) is never.
    type: float
  idle_notice_s:
    description: How long before that it is announced.
    type: float
  drain_deadline_s:
    description: What the leases of a drained server are given when no deadline is named.
    type: float
  slices_per_gpu:
    description: The most slices of one GPU.
    type: int
  prefer:
    description: What decides first among places that fit; distance, or keeping whole GPUs whole.
    type: str
    choices: [close, packed]
  retention_days:
    description: How long ended leases, events and audit rows are kept.
    type: int
  renew_keys_days:
    description: Days after which a server or client gets a new key; V(0) is only when somebody asks for it.
    type: int
  former_key_s:
    description: How long the former key is still taken after the new one was first used.
    type: float
  max_clock_skew_s:
    description: Above it, a health check warns of the clock.
    type: float
  max_temperature_c:
    description: Above it, a health check warns of a GPU.
    type: int
  max_round_trip_us:
    description: Above it, a health check warns of the path.
    type: float
  runs_per_vcenter:
    description: How many runs work on one vCenter at a time. Taken in when the appliance starts.
    type: int
  server_defaults:
    description: Parameters of the run that a tag on a host starts, as those of M(gpuferry.pool.gpu_server).
    type: dict
  client_defaults:
    description: Parameters of the run that a tag on a VM starts.
    type: dict
  guests_at_once:
    description: How many client machines are worked on at a time. Taken in when the appliance starts.
    type: int
  ssh_user:
    description: Who logs in to servers and clients, where a run does not say otherwise.
    type: str
  ssh_key:
    description: The private key with which the appliance logs in, in OpenSSH's format. It is sealed and never shown.
    type: str
  ssh_password:
    description: The password with which the appliance logs in. It is sealed and never shown.
    type: str
  sudo_password:
    description: What sudo asks for. It is sealed and never shown.
    type: str
  update_secrets:
    description:
      - V(on_create) sends O(ssh_key), O(ssh_password) and O(sudo_password) when the appliance has none.
      - V(always) sends them every time, which always counts as a change.
    type: str
    choices: [on_create, always]
    default: on_create
  defaults:
    description: Names of settings that go back to their defaults.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: Reclaim leases that have been idle for half an hour
  gpuferry.pool.settings:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ admin_token }}"
    idle_after_s: 1800
    defaults: [idle_notice_s]
"""

RETURN = r"""
settings:
  description: All settings as they are now; in check mode as they would be.
  returned: success
  type: dict
  sample:
    heartbeat_s: 2.0
    idle_after_s: 1800.0
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError
from ansible_collections.gpuferry.pool.plugins.module_utils.task import MEETINGS, Task, chosen, differing

FLOATS = (
    "heartbeat_s",
    "lost_after_s",
    "prepare_timeout_s",
    "patience_s",
    "default_timeout_s",
    "max_lease_s",
    "idle_after_s",
    "idle_notice_s",
    "drain_deadline_s",
    "former_key_s",
    "max_clock_skew_s",
    "max_round_trip_us",
)
INTEGERS = (
    "slices_per_gpu",
    "retention_days",
    "renew_keys_days",
    "max_temperature_c",
    "runs_per_vcenter",
    "guests_at_once",
)
SECRETS = ("ssh_key", "ssh_password", "sudo_password")
NAMES = (*FLOATS, *INTEGERS, *SECRETS, "prefer", "ssh_user", "server_defaults", "client_defaults")
SEALED = "sealed"


def apply(task):
    wanted = {key: task.options[key] for key in NAMES if task.options[key] is not None}
    back = task.options["defaults"]
    for meeting in range(1, MEETINGS + 1):
        answer = task.api.get("/v1/settings")
        before = answer.body
        unknown = sorted((set(wanted) | set(back)) - set(before))
        if unknown:
            task.fail("this appliance has no %s. It has: %s." % (", ".join(unknown), ", ".join(sorted(before))))
        if back:
            wanted.update(default_values(task, back))
        always = task.options["update_secrets"] == "always"
        change = differing(before, {key: value for key, value in wanted.items() if key not in SECRETS})
        # What is sealed cannot be compared: it is written where there is none, or always.
        secrets = {key: wanted[key] for key in SECRETS if key in wanted and (always or before[key] != SEALED)}
        shown = dict.fromkeys(secrets, SEALED)
        after = dict(before, **dict(change, **shown))
        try:
            if (change or secrets) and not task.dry:
                given = {key: None if key in back else value for key, value in change.items()}
                given.update(secrets)
                after = task.api.patch("/v1/settings", given, answer.etag).body
            break
        except ApplianceError as error:
            if error.status != 412 or meeting == MEETINGS:
                raise
    keys = sorted([*change, *secrets])
    written = dict.fromkeys(secrets, "written now")
    task.done(chosen(before, keys), dict(chosen(after, keys), **written), settings=after)


def default_values(task, names):
    """The defaults of settings, as the appliance's own description has them."""
    described = task.api.get("/openapi.json").body["components"]["schemas"]["Settings"]["properties"]
    return {name: described[name]["default"] for name in names if "default" in described.get(name, {})}


def main():
    spec = {key: {"type": "float"} for key in FLOATS}
    spec.update({key: {"type": "int"} for key in INTEGERS})
    spec.update({key: {"type": "str", "no_log": True} for key in SECRETS})
    # Times, whatever their names sound like.
    spec.update({key: dict(spec[key], no_log=False) for key in ("former_key_s", "renew_keys_days")})
    spec["ssh_user"] = {"type": "str"}
    spec.update(server_defaults={"type": "dict"}, client_defaults={"type": "dict"})
    spec["update_secrets"] = {
        "type": "str",
        "choices": ["on_create", "always"],
        "default": "on_create",
        "no_log": False,
    }
    spec["prefer"] = {"type": "str", "choices": ["close", "packed"]}
    spec["defaults"] = {"type": "list", "elements": "str", "default": []}
    task = Task(spec)
    task.subject = "settings"
    both = [key for key in task.options["defaults"] if task.options.get(key) is not None]
    if both:
        task.fail("%s: give a value, or name it in defaults, not both." % ", ".join(both))
    task.run(apply)


if __name__ == "__main__":
    main()
