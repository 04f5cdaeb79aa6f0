#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A vCenter that the appliance works with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vcenter
short_description: A vCenter that the appliance works with
description:
  - Tells the appliance a vCenter, its account and the certificate it must show; changes or removes what it knows of it.
  - Nothing in the vCenter itself is changed.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description: The name by which runs and other modules call this vCenter.
    type: str
    required: true
  state:
    description: Whether the appliance knows it.
    type: str
    choices: [present, absent]
    default: present
  address:
    description: Its address, with C(:port) when that is not 443. Required for a new one.
    type: str
  username:
    description: The account the appliance signs in with. Required for a new one.
    type: str
  password:
    description: That account's password. The appliance seals it and never shows it. Required for a new one.
    type: str
  update_password:
    description:
      - V(on_create) sends the password for a new vCenter, and when the address or the username changes.
      - V(always) sends it every time, which always counts as a change.
    type: str
    choices: [on_create, always]
    default: on_create
  fingerprint:
    description: SHA-256 of its certificate, as 32 pairs of hexadecimal digits with colons, to trust that one alone.
    type: str
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: The laboratory's vCenter
  gpuferry.pool.vcenter:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ admin_token }}"
    name: lab
    address: vc.lab
    username: gpuferry@vsphere.local
    password: "{{ vault_vcenter_password }}"

- name: A new password
  gpuferry.pool.vcenter:
    name: lab
    password: "{{ vault_vcenter_password }}"
    update_password: always
"""

RETURN = r"""
vcenter:
  description: What the appliance knows of it now, without the password; in check mode what it would know.
  returned: when O(state=present)
  type: dict
  sample:
    id: vcenter-01jd3x0000000000000000000
    name: lab
    address: vc.lab
    username: gpuferry@vsphere.local
    fingerprint: ""
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.resource import Resource
from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task

SHOWN = ("name", "address", "username", "fingerprint")


def apply(task):
    options = task.options
    resource = Resource(task, "/v1/vcenters", SHOWN)
    if options["state"] == "absent":
        task.done(resource.view(resource.remove(options["name"])), None)
    wanted = {key: options[key] for key in ("address", "username", "fingerprint") if options[key] is not None}
    if "fingerprint" in wanted:
        wanted["fingerprint"] = wanted["fingerprint"].upper()
    known, _etag = resource.find(options["name"])
    if known is None:
        missing = [key for key in ("address", "username", "password") if options[key] is None]
        if missing:
            task.fail("the appliance does not know it yet: give %s." % ", ".join(missing))
    elif known["fingerprint"].upper() == wanted.get("fingerprint"):
        wanted["fingerprint"] = known["fingerprint"]
    elsewhere = known is not None and any(known[key] != wanted.get(key, known[key]) for key in ("address", "username"))
    always = options["password"] is not None and (options["update_password"] == "always" or elsewhere)
    secrets = {"password": options["password"]} if options["password"] is not None else {}
    before, after, written = resource.ensure(
        options["name"], wanted, {} if "fingerprint" in wanted else {"fingerprint": ""}, secrets, always
    )
    shown_before, shown_after = resource.view(before), resource.view(after)
    if written:
        shown_after = dict(shown_after, password="written")
    task.done(shown_before, shown_after, vcenter=after)


def main():
    task = Task(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "update_password": {
                "type": "str",
                "choices": ["on_create", "always"],
                "default": "on_create",
                "no_log": False,
            },
            "fingerprint": {"type": "str"},
        }
    )
    task.subject = "vCenter %s" % task.options["name"]
    task.run(apply)


if __name__ == "__main__":
    main()
