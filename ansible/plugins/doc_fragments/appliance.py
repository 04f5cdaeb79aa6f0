"""The options with which every module reaches the appliance."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  appliance_url:
    description:
      - Address of the appliance's REST API, as in V(https://gpu.lab:4743).
      - If not set, the environment variable E(GPUFERRY_URL) is used.
    type: str
    required: true
  appliance_token:
    description:
      - An API token. Reading needs scope V(read); groups, clients, servers, leases and runs V(operator);
        tokens, vCenters and settings V(admin).
      - If not set, the environment variable E(GPUFERRY_TOKEN) is used.
    type: str
    required: true
  appliance_ca_path:
    description:
      - File with the site's certificate authority, C(ca.pem) in the appliance's folder.
      - If not set, the environment variable E(GPUFERRY_CA_PATH) is used, and then the system's authorities.
    type: path
  appliance_validate_certs:
    description:
      - Whether the appliance's certificate is checked.
      - If not set, the environment variable E(GPUFERRY_VALIDATE_CERTS) is used.
    type: bool
    default: true
  appliance_timeout:
    description: Seconds that one request may take.
    type: int
    default: 30
notes:
  - Runs where its task runs; C(delegate_to=localhost) or C(connection=local) reaches the appliance from the control
    node.
  - Every module is in the action group V(gpuferry.pool.pool); C(module_defaults) with C(group/gpuferry.pool.pool) sets
    the options of the appliance once.
seealso:
  - name: The collection
    description: How the pieces fit together.
    link: https://github.com/gpuferry/gpuferry/blob/main/docs/ansible.md
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Predicts what would change without changing it.
    support: full
  diff_mode:
    description: Shows the state before and after, without secrets.
    support: full
"""

    READS = r"""
attributes:
  check_mode:
    description: Reads only, in check mode as well.
    support: full
  diff_mode:
    description: Changes nothing.
    support: N/A
"""

    WAITS = r"""
options:
  wait:
    description: Whether to wait until the run has ended. Without it, the run's id is returned at once.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for the run. It goes on when they are over; the next task of the same kind finds it.
    type: int
    default: 3600
"""

    SSH = r"""
options:
  ssh:
    description: How the appliance logs in to the machine. What is left out comes from the site's settings.
    type: dict
    suboptions:
      user:
        description: The account; root, or one that may use sudo.
        type: str
      port:
        description: The port of SSH.
        type: int
      key:
        description: A private key in OpenSSH's format.
        type: str
      password:
        description: The account's password.
        type: str
      sudo_password:
        description: What sudo asks for.
        type: str
      jump:
        description: A machine through which the target is reached, as user@host[:port].
        type: str
"""
