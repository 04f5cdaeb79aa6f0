#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""API tokens, and tickets with which machines enrol."""

from __future__ import annotations

DOCUMENTATION = r"""
module: token
short_description: An API token, or a ticket with which one machine enrols
description:
  - Makes and revokes API tokens. The token itself is returned once, by the task that makes it; a token of that name
    and scope which is valid is left as it is, and cannot be read again.
  - With O(enrol), makes a ticket with which one GPU server or one client enrols, once. A ticket is new every time.
  - Register the result, and set C(no_log=true) on tasks that use it.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description:
      - The token's name; several valid tokens of one name are all revoked by O(state=absent).
      - With O(enrol), the name the machine gets, which then may replace the key of an enrolled machine of that name.
    type: str
    required: true
  state:
    description: Whether there is a valid token of this name.
    type: str
    choices: [present, absent]
    default: present
  scope:
    description: What the token allows. A valid token of this name and another scope is revoked and made anew.
    type: str
    choices: [read, client, operator, admin]
  client:
    description: With O(scope=client), the name of the client whose leases the token is about.
    type: str
  valid_s:
    description: Seconds until a new token expires; without it, never. A ticket lives 3600 seconds, at most 604800.
    type: int
  renew_before_s:
    description: A token that expires within so many seconds is made anew, and the old one revoked.
    type: int
    default: 0
  enrol:
    description: Make an enrolment ticket for this kind of machine instead of a token.
    type: str
    choices: [server, client]
  group:
    description: With O(enrol=client), the name of the group which the client joins.
    type: str
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: A token for the dashboard
  gpuferry.pool.token:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ admin_token }}"
    name: grafana
    scope: read
  register: made
  no_log: true

- name: A ticket with which a workstation enrols
  gpuferry.pool.token:
    name: ws-17
    enrol: client
    group: research
  register: enrolment
  no_log: true
"""

RETURN = r"""
token:
  description: The token itself. Only the task that makes it can tell.
  returned: when a token was made
  type: str
  sample: gft_...
ticket:
  description: What C(gpuferry enrol) needs on the machine. It works once.
  returned: with O(enrol)
  type: str
about:
  description: The token without its secret.
  returned: when there is one and O(enrol) is not used
  type: dict
  sample:
    id: token-01jd3x0000000000000000000
    name: grafana
    scope: read
    expires_at: null
"""

from datetime import datetime, timedelta, timezone

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task, chosen

SHOWN = ("name", "scope", "client_id")


def apply(task):
    if task.options["enrol"]:
        make_ticket(task)
    else:
        settle_token(task)


def make_ticket(task):
    options = task.options
    wanted = {"role": options["enrol"], "name": options["name"]}
    if options["group"]:
        wanted["group"] = task.named("/v1/groups", options["group"], "group")["name"]
    if options["valid_s"] is not None:
        wanted["valid_s"] = options["valid_s"]
    ticket = "" if task.dry else task.api.post("/v1/enrolments", wanted).body["ticket"]
    task.module.exit_json(changed=True, ticket=ticket, diff={"before": {}, "after": {"ticket for": options["name"]}})


def settle_token(task):
    options = task.options
    mine = [each for each in task.api.every("/v1/tokens") if each["name"] == options["name"] and still_valid(each)]
    if options["state"] == "absent":
        revoke(task, mine)
        task.done(view(mine), [])
    client = task.named("/v1/clients", options["client"], "client")["id"] if options["client"] else None
    fitting = [
        each
        for each in mine
        if each["scope"] == options["scope"]
        and each["client_id"] == client
        and still_valid(each, options["renew_before_s"])
    ]
    if fitting:
        task.done(view(fitting[:1]), view(fitting[:1]), about=fitting[0])
    wanted = {"name": options["name"], "scope": options["scope"]}
    if client is not None:
        wanted["client"] = client
    if options["valid_s"] is not None:
        wanted["valid_s"] = options["valid_s"]
    about = {"name": options["name"], "scope": options["scope"], "client_id": client}
    facts = {}
    if not task.dry:
        about = task.api.post("/v1/tokens", wanted).body
        facts["token"] = about.pop("token")
        revoke(task, mine)
    after = [dict(each, made="now") for each in view([about])]
    task.done(view(mine), after, about=about, **facts)


def revoke(task, tokens):
    if task.dry:
        return
    for each in tokens:
        try:
            task.api.delete("/v1/tokens/" + each["id"], "*")
        except ApplianceError as error:
            if error.status != 404:
                raise


def still_valid(token, for_s=0):
    """Whether it is neither revoked nor over, now and so many seconds from now."""
    if token["revoked_at"] is not None:
        return False
    if token["expires_at"] is None:
        return True
    end = datetime.strptime(token["expires_at"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return end > datetime.now(timezone.utc) + timedelta(seconds=for_s)


def view(tokens):
    return [chosen(each, SHOWN) for each in tokens]


def main():
    task = Task(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "scope": {"type": "str", "choices": ["read", "client", "operator", "admin"]},
            "client": {"type": "str"},
            "valid_s": {"type": "int"},
            "renew_before_s": {"type": "int", "default": 0},
            "enrol": {"type": "str", "choices": ["server", "client"]},
            "group": {"type": "str"},
        },
        mutually_exclusive=[("scope", "enrol"), ("client", "enrol"), ("scope", "group")],
        required_if=[("state", "present", ("scope", "enrol"), True), ("scope", "client", ("client",))],
    )
    task.subject = "%s %s" % ("ticket for" if task.options["enrol"] else "token", task.options["name"])
    if task.options["enrol"] and task.options["state"] == "absent":
        task.fail(
            "a ticket cannot be taken back: revoke the machine that used it (state=absent of gpu_server or client)."
        )
    task.run(apply)


if __name__ == "__main__":
    main()
