#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""gpuferry on the machine that Ansible is connected to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: machine
short_description: The client or the GPU server daemon on the machine that Ansible is connected to
description:
  - Installs, upgrades, configures, enrols and removes gpuferry on any Linux machine, over Ansible's own connection.
    The appliance needs no SSH to it, and no vCenter is involved. The roles P(gpuferry.pool.client#role) and
    P(gpuferry.pool.gpu_server#role) use it.
  - The control node gets the appliance's signed bundle; the machine's installer verifies it, and puts the former
    version back when the appliance does not welcome the new one.
  - Needs root on the machine, as in C(become=true), and a token of scope V(admin) when the machine has to enrol.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  role:
    description: What the machine is in the pool.
    type: str
    choices: [client, server]
    required: true
  state:
    description: V(absent) leaves nothing on the machine. Its key at the appliance stays, see M(gpuferry.pool.client).
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The machine's name in the pool. Without it, the name in Ansible's inventory.
    type: str
  group:
    description: The group that a client enrols into. V(default) without it.
    type: str
  ticket:
    description:
      - What the machine enrols with, as M(gpuferry.pool.token) makes it. Without it, one is made when it is needed.
    type: str
  begins:
    description:
      - Of a server that enrols, its state in the pool. In V(maintenance) it takes no leases until
        M(gpuferry.pool.gpu_server) takes it into service.
    type: str
    choices: [active, maintenance]
    default: active
  version:
    description: The version of the bundle. Without it, the appliance's own.
    type: str
  environment:
    description: Variables of the service.
    type: dict
    default: {}
  driver:
    description: Of a server, the CUDA driver's library; V(softgpu) serves GPUs in software.
    type: str
    default: libcuda.so.1
  listen:
    description: Of a server, where programs' connections are taken, as HOST:PORT.
    type: str
    default: 0.0.0.0:9797
  address:
    description: Of a server, where clients reach it, as HOST:PORT. Without it, what the server finds out by itself.
    type: str
  esxi_host:
    description: The ESXi host that the machine is on; programs are placed on GPUs of their own host first.
    type: str
  arguments:
    description: Of a server, further arguments of C(gpuferry gpuserver serve).
    type: list
    elements: str
    default: []
  python_path:
    description: Of a server, folders in which Python finds what the bundle does not bring along, as CuPy.
    type: list
    elements: str
    default: []
  parts:
    description: Optional parts of the bundle that are installed as well, as C(cupy).
    type: list
    elements: str
    default: []
  verify_s:
    description: Seconds within which the appliance must welcome the machine.
    type: int
    default: 60
  check_reach:
    description: Whether it is tried first if the machine reaches the appliance's ports.
    type: bool
    default: true
  replace_appliance:
    description: Whether a machine that belongs to another appliance is taken over.
    type: bool
    default: false
  appliance_url:
    required: false
    description:
      - Address of the appliance's REST API, as in V(https://gpu.lab:4743), as the control node reaches it.
      - If not set, the environment variable E(GPUFERRY_URL) of the control node is used. Needed unless O(state=absent).
  appliance_token:
    required: false
    description:
      - An API token. Scope V(read) is enough for a machine that is enrolled, or with O(ticket); else V(admin).
      - If not set, the environment variable E(GPUFERRY_TOKEN) of the control node is used.
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.changes
"""

EXAMPLES = r"""
- name: A workstation whose programs use the pool
  gpuferry.pool.machine:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ admin_token }}"
    role: client
    group: research
  become: true

- name: A server without vSphere
  gpuferry.pool.machine:
    role: server
    address: "{{ ansible_host }}:9797"
    parts: [cupy]
  become: true

- name: Not any more
  gpuferry.pool.machine:
    role: client
    state: absent
  become: true
"""

RETURN = r"""
machine:
  description: What is installed; with O(state=absent) what was.
  returned: success
  type: dict
  sample:
    version: 0.1.0
    service: gpuferry-agent
    running: true
    standing: connected
    id: client-01jd3x0000000000000000000
"""
