#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What is in the pool."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_info
short_description: What is in the pool, and how it is
description:
  - Reads servers, GPUs, clients, groups, leases, health and the appliance itself.
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  gather:
    description: What to read. V(inventory) is what the vCenters hold, by the vCenter's name.
    type: list
    elements: str
    choices: [appliance, servers, gpus, clients, groups, leases, health, vcenters, inventory, settings]
    default: [appliance, servers, gpus, clients, groups]
  server:
    description: Only this server, its GPUs and its health.
    type: str
  lease_states:
    description: Leases in these states.
    type: list
    elements: str
    choices: [queued, granted, active, ended]
    default: [queued, granted, active]
extends_documentation_fragment:
  - gpuferry.pool.appliance
  - gpuferry.pool.appliance.reads
"""

EXAMPLES = r"""
- name: Everything that is not well
  gpuferry.pool.pool_info:
    appliance_url: https://gpu.lab:4743
    appliance_token: "{{ read_token }}"
    gather: [health]
  register: pool
- name: Say it
  ansible.builtin.debug:
    msg: "{{ pool.health | rejectattr('state', 'equalto', 'ok') | map(attribute='remedy') }}"
"""

RETURN = r"""
appliance:
  description: The appliance and the pool in numbers.
  returned: when gathered
  type: dict
servers:
  description: GPU servers.
  returned: when gathered
  type: list
  elements: dict
gpus:
  description: GPUs, with the name of their server as C(server).
  returned: when gathered
  type: list
  elements: dict
clients:
  description: Clients, with the name of their group as C(group).
  returned: when gathered
  type: list
  elements: dict
groups:
  description: Groups with their quotas.
  returned: when gathered
  type: list
  elements: dict
leases:
  description: Leases, with the name of their client as C(client).
  returned: when gathered
  type: list
  elements: dict
health:
  description: The last result of every check, with its meaning and remedy.
  returned: when gathered
  type: list
  elements: dict
vcenters:
  description: The vCenters, without passwords.
  returned: when gathered
  type: list
  elements: dict
inventory:
  description: Hosts, VMs, networks, datastores and templates of each vCenter, by its name.
  returned: when gathered
  type: dict
settings:
  description: The site's settings.
  returned: when gathered
  type: dict
"""

from ansible_collections.gpuferry.pool.plugins.module_utils.task import Task

CHOICES = ["appliance", "servers", "gpus", "clients", "groups", "leases", "health", "vcenters", "inventory", "settings"]
STATES = ["queued", "granted", "active", "ended"]


def apply(task):
    wanted, api = set(task.options["gather"]), task.api
    told = {}
    server = task.named("/v1/servers", task.options["server"], "server") if task.options["server"] else None
    servers = [server] if server else []
    if not server and wanted & {"servers", "gpus"}:
        servers = api.every("/v1/servers")
    only = server["id"] if server else None
    if "servers" in wanted:
        told["servers"] = servers
    if "gpus" in wanted:
        names = {each["id"]: each["name"] for each in servers}
        told["gpus"] = [
            dict(each, server=names.get(each["server_id"], "")) for each in api.every("/v1/gpus", server=only)
        ]
    if wanted & {"clients", "groups"}:
        groups = api.every("/v1/groups")
        if "groups" in wanted:
            told["groups"] = groups
    if wanted & {"clients", "leases"}:
        clients = api.every("/v1/clients")
        if "clients" in wanted:
            names = {each["id"]: each["name"] for each in groups}
            told["clients"] = [dict(each, group=names.get(each["group_id"], "")) for each in clients]
    if "leases" in wanted:
        names = {each["id"]: each["name"] for each in clients}
        leases = api.every("/v1/leases", state=task.options["lease_states"])
        told["leases"] = [dict(each, client=names.get(each["client_id"], "")) for each in leases]
    if "health" in wanted:
        told["health"] = api.every("/v1/health", subject=only)
    if wanted & {"vcenters", "inventory"}:
        vcenters = api.every("/v1/vcenters")
        if "vcenters" in wanted:
            told["vcenters"] = vcenters
        if "inventory" in wanted:
            told["inventory"] = {
                each["name"]: api.get("/v1/vcenters/%s/inventory" % each["id"]).body for each in vcenters
            }
    for name in wanted & {"appliance", "settings"}:
        told[name] = api.get("/v1/" + name).body
    task.module.exit_json(changed=False, **told)


def main():
    task = Task(
        {
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": CHOICES,
                "default": ["appliance", "servers", "gpus", "clients", "groups"],
            },
            "server": {"type": "str"},
            "lease_states": {
                "type": "list",
                "elements": "str",
                "choices": STATES,
                "default": ["queued", "granted", "active"],
            },
        }
    )
    task.subject = "the pool"
    task.run(apply)


if __name__ == "__main__":
    main()
