#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The part of `machine` and `appliance` that works on the machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: installer
short_description: The part of gpuferry.pool.machine and gpuferry.pool.appliance that works on the machine
description:
  - M(gpuferry.pool.machine) and M(gpuferry.pool.appliance) bring a bundle's files to the machine and run this there. It
    has the bundle's own installer do what it is asked.
  - Playbooks use those two.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  work:
    description: What the installer does.
    type: str
    choices: [foresee, install, describe, uninstall, accept]
    required: true
  folder:
    description: The folder of the machine that the files were brought to.
    type: path
  installer:
    description: The installer's name in O(folder).
    type: str
  pythons:
    description: The versions of Python that the bundle has packages for.
    type: list
    elements: str
    default: []
  request:
    description: What the installer is asked.
    type: dict
    required: true
  secret:
    description: A ticket, or the address of an appliance's database.
    type: str
attributes:
  check_mode:
    description: The actions that run it know what to ask for in check mode.
    support: full
  diff_mode:
    description: The actions that run it tell the difference.
    support: none
"""

EXAMPLES = r"""
- name: What is installed of a client
  gpuferry.pool.installer:
    work: describe
    request:
      role: client
  become: true
"""

RETURN = r"""
told:
  description: What the installer told; nothing when nothing is installed.
  returned: success
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuferry.pool.plugins.module_utils.machines import (
    InstallerError,
    accept,
    ask,
    choose_python,
    installed,
)

CHANGING = ("install", "uninstall", "accept")


def apply(module):
    options = module.params
    work, request = options["work"], dict(options["request"])
    if module.check_mode and work in CHANGING:
        module.fail_json(msg="%s is not done in check mode: foresee says what it would do." % work)
    if os.geteuid() != 0:
        module.fail_json(msg="it takes root to install services. Set `become: true` on the task or the play.")
    role = request["role"]
    if work in ("foresee", "install"):
        if role != "appliance":
            request["ticket"] = options["secret"] or ""
        elif options["secret"]:
            request["site"] = dict(request["site"], database=options["secret"])
        python = choose_python(module, options["pythons"])
        told = ask(module, python, os.path.join(options["folder"], options["installer"]), work, request=request)
    elif work == "accept":
        told = dict(accept(module, request["arguments"]), changed=True)
    else:
        there = installed(role)
        more = ["--with-site"] if work == "uninstall" and request.get("with_site") else []
        told = ask(module, there[0], there[1], work, [role, *more]) if there else {}
    module.exit_json(changed=bool(told.get("changed")), told=told)


def main():
    module = AnsibleModule(
        {
            "work": {
                "type": "str",
                "choices": ["foresee", "install", "describe", "uninstall", "accept"],
                "required": True,
            },
            "folder": {"type": "path"},
            "installer": {"type": "str"},
            "pythons": {"type": "list", "elements": "str", "default": []},
            "request": {"type": "dict", "required": True},
            "secret": {"type": "str", "no_log": True},
        },
        required_if=[("work", work, ("folder", "installer", "pythons")) for work in ("foresee", "install")],
        supports_check_mode=True,
    )
    try:
        apply(module)
    except InstallerError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()
