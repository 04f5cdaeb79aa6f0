"""What a lease is asked for with."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  client:
    description: The name of the client whose lease it is.
    type: str
    required: true
  name:
    description: The lease's name among those of the client. A lease of this name that is held is left as it is.
    type: str
    required: true
  gpus:
    description: GPUs, or slices of GPUs.
    type: int
    default: 1
  memory_mib:
    description: Memory of each, in MiB. Whole GPUs without it and without O(fraction).
    type: int
  fraction:
    description: Memory of each as a fraction of the GPU's, above V(0) up to V(1).
    type: float
  compute:
    description: Share of each GPU's multiprocessors in thousandths.
    type: int
  filters:
    description: Which GPUs and servers fit, as in V(device.name~=A100). All of them must.
    type: list
    elements: str
    default: []
  priority:
    description: Requests of a higher priority are served first.
    type: int
    default: 0
  timeout_s:
    description: Seconds to wait in the queue; V(0) for ever.
    type: int
    default: 600
  duration_s:
    description: Seconds after which it ends by itself; V(0) for never.
    type: int
    default: 0
  program:
    description: What it is for, shown to operators.
    type: str
    default: ansible
"""
