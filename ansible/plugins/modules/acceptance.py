#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The acceptance test of the GPU server that Ansible is connected to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acceptance
short_description: The acceptance test of the GPU server that Ansible is connected to
description:
  - Runs CuPy on each GPU of the machine, natively - allocate, copy both ways, compute and compare with NumPy,
    bandwidth, ECC errors before and after - and keeps the result at the appliance.
  - It is not repeated when the last one was passed by every GPU that the server has now.
  - Needs root on the machine, as in C(become=true), CuPy there, and a token of scope V(operator).
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  name:
    description: The server's name in the pool. Without it, the machine's name in the inventory.
    type: str
  test:
    description: V(always) tests although the last test passed.
    type: str
    choices: [when_needed, always]
    default: when_needed
  driver:
    description: The CUDA driver's library; V(softgpu) for GPUs in software.
    type: str
    default: libcuda.so.1
  environment:
    description: Variables of the daemon's service, which the test gets too.
    type: dict
    default: {}
extends_documentation_fragment:
  - gpuferry.pool.appliance
attributes:
  check_mode:
    description: Tells whether it would test.
    support: full
  diff_mode:
    description: A test changes nothing on the machine.
    support: none
"""

EXAMPLES = r"""
- name: The server's GPUs compute as they should
  gpuferry.pool.acceptance:
  become: true

- name: Once more, after a GPU was exchanged
  gpuferry.pool.acceptance:
    name: gpu-1
    test: always
  become: true
"""

RETURN = r"""
acceptance:
  description: The last test, as the appliance keeps it.
  returned: when there was one
  type: dict
  sample:
    id: acceptance-01jd3x0000000000000000000
    passed: true
    result:
      gpus:
        - ordinal: 0
          name: NVIDIA L40S
          passed: true
          copy_in_gb_s: 11.2
          copy_out_gb_s: 12.1
          on_device_gb_s: 712.0
          ecc_before: "0"
          ecc_after: "0"
          error: ""
"""
