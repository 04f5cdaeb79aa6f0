#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A lease for the length of a block; the work is done by the action plug-in of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hold_lease
short_description: A lease for the length of a block
description:
  - Asks for a lease like M(gpuferry.pool.lease), from the control node.
  - A small process on the control node watches over it; when ansible-playbook has ended, however it ended, the lease is
    given back. Give it back earlier with M(gpuferry.pool.lease) and O(gpuferry.pool.lease#module:state=absent) under
    C(always).
  - In check mode nothing is asked for.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
extends_documentation_fragment:
  - gpuferry.pool.lease
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: With two slices
  block:
    - name: Hold them
      gpuferry.pool.hold_lease:
        client: notebook-1
        name: nightly
        gpus: 2
        memory_mib: 8192

    - name: What needs them
      ansible.builtin.command: /srv/nightly
      delegate_to: notebook-1
      changed_when: true
  always:
    - name: Give them back
      gpuferry.pool.lease:
        client: notebook-1
        name: nightly
        state: absent
"""

RETURN = r"""
lease:
  description: The lease; in check mode what it would be.
  returned: success
  type: dict
  sample:
    id: lease-01jd3x0000000000000000000
    state: active
    gpus: 2
keeper:
  description: The process on the control node that gives the lease back.
  returned: when the lease was made by this task
  type: int
  sample: 4711
"""
