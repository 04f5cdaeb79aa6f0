#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The appliance itself, on the machine that Ansible is connected to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: appliance
short_description: The appliance itself, on the machine that Ansible is connected to
description:
  - Installs, upgrades and removes an appliance on a Linux machine, over Ansible's own connection, and makes its site.
    The role P(gpuferry.pool.appliance#role) uses it.
  - The machine's installer verifies the bundle, and puts the former version back when the new one does not serve.
  - Needs root on the machine, as in C(become=true).
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  state:
    description: V(absent) takes the program away; the site stays unless O(remove_site=true).
    type: str
    choices: [present, absent]
    default: present
  bundle:
    description:
      - A file on the control node, made by C(gpuferry appliance bundle build --appliance). Needed for O(state=present).
    type: path
  bundle_key:
    description: The key that signed O(bundle), in hexadecimal. Without it, what the file O(bundle) with C(.key) holds.
    type: str
  admin_token_path:
    description:
      - A file on the control node into which the first admin token of a new site is written, for its owner alone.
        Needed for O(state=present); nothing else ever shows the token.
    type: path
  ca_path:
    description: A file on the control node into which the site's certificate authority is written.
    type: path
  name:
    description:
      - The address under which everybody reaches the appliance. Without it, C(ansible_host) or the machine's name in
        the inventory. It is set when the site is made, as all that follows.
    type: str
  database:
    description: V(postgresql://...), or nothing for SQLite in the site's folder.
    type: str
  listen:
    description: The address on which it listens.
    type: str
  control_port:
    description: The port of the control bus.
    type: int
  enrol_port:
    description: The port of enrolment.
    type: int
  api_port:
    description: The port of the REST API.
    type: int
  tls:
    description: Whether the REST API is encrypted.
    type: bool
  environment:
    description: Variables of the service.
    type: dict
    default: {}
  verify_s:
    description: Seconds within which the appliance must serve.
    type: int
    default: 60
  remove_site:
    description: With O(state=absent), whether keys, database and bundles in C(/var/lib/gpuferry-appliance) go, too.
    type: bool
    default: false
extends_documentation_fragment:
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: An appliance
  gpuferry.pool.appliance:
    bundle: gpuferry-appliance-0.1.0.gpuferry
    name: gpu.lab
    admin_token_path: ~/.gpuferry/admin.token
    ca_path: ~/.gpuferry/ca.pem
  become: true

- name: Not any more, and nothing of it stays
  gpuferry.pool.appliance:
    state: absent
    remove_site: true
  become: true
"""

RETURN = r"""
machine:
  description: What is installed; with O(state=absent) what was.
  returned: success
  type: dict
  sample:
    version: 0.1.0
    service: gpuferry-appliance
    running: true
    standing: connected
    id: ""
url:
  description: Address of the REST API.
  returned: with O(state=present), when there is a site
  type: str
  sample: https://gpu.lab:4743
"""
