"""The inventory plug-in: GPU servers and clients of the pool as Ansible hosts."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: pool
short_description: GPU servers and clients of a gpuferry pool
description:
  - Makes a host of every GPU server and every client that the appliance knows, with what it knows of them.
  - The file's name ends in C(pool.yml), C(pool.yaml), C(gpuferry.yml) or C(gpuferry.yaml).
  - Groups are C(gpu_servers) and C(clients); V(model), V(health), V(host), V(group) and V(state) of O(group_by) add
    C(model_NAME), C(health_STATE), C(esxi_NAME), C(group_NAME) and C(state_STATE).
version_added: 0.1.0
author: The gpuferry authors (@gpuferry)
options:
  plugin:
    description: Says that the file is for this plug-in.
    type: str
    required: true
    choices: [gpuferry.pool.pool]
  appliance_url:
    description: Address of the appliance's REST API.
    type: str
    required: true
    env:
      - name: GPUFERRY_URL
  appliance_token:
    description: An API token of scope V(read). May be a template, as in a lookup of a vault.
    type: str
    required: true
    env:
      - name: GPUFERRY_TOKEN
  appliance_ca_path:
    description: File with the site's certificate authority.
    type: path
    env:
      - name: GPUFERRY_CA_PATH
  appliance_validate_certs:
    description: Whether the appliance's certificate is checked.
    type: bool
    default: true
    env:
      - name: GPUFERRY_VALIDATE_CERTS
  appliance_timeout:
    description: Seconds that one request may take.
    type: int
    default: 30
  include:
    description: Which machines become hosts.
    type: list
    elements: str
    choices: [servers, clients]
    default: [servers, clients]
  group_by:
    description: What groups are made of, beside C(gpu_servers) and C(clients).
    type: list
    elements: str
    choices: [model, health, host, group, state]
    default: [model, health, host, group]
extends_documentation_fragment:
  - constructed
  - inventory_cache
"""

EXAMPLES = r"""
# lab.pool.yml
plugin: gpuferry.pool.pool
appliance_url: https://gpu.lab:4743
appliance_ca_path: /etc/gpuferry/ca.pem
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /tmp/gpuferry-inventory
cache_timeout: 300
compose:
  ansible_user: "'ubuntu'"
  free_mib: gpuferry_gpus | map(attribute='memory_mib') | sum - gpuferry_gpus | map(attribute='reserved_mib') | sum
keyed_groups:
  - key: gpuferry_driver_version
    prefix: driver
groups:
  rdma: gpuferry_has_rdma | default(false)
"""

from ansible.errors import AnsibleParserError
from ansible_collections.gpuferry.pool.plugins.module_utils.rest import Appliance, ApplianceError

from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

ENDINGS = ("pool.yml", "pool.yaml", "gpuferry.yml", "gpuferry.yaml")
WORST = ("failed", "unknown", "warning", "ok")
OPTIONS = ("appliance_url", "appliance_token", "appliance_ca_path", "appliance_validate_certs", "appliance_timeout")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Reads the pool once, or from the cache, and makes hosts and groups of it."""

    NAME = "gpuferry.pool.pool"

    def verify_file(self, path):
        return super(InventoryModule, self).verify_file(path) and path.endswith(ENDINGS)

    def parse(self, inventory, loader, path, cache=True):
        super(InventoryModule, self).parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        wanted = cache and self.get_option("cache")
        pool = self._cache.get(key) if wanted else None
        if pool is None:
            pool = self._read()
            if self.get_option("cache"):
                self._cache[key] = pool
        self._fill(pool)

    def _option(self, name):
        value = self.get_option(name)
        if isinstance(value, str) and self.templar.is_template(value):
            value = self.templar.template(value)
        return value

    def _read(self):
        """The documents that hosts are made of."""
        try:
            api = Appliance.of_options({name: self._option(name) for name in OPTIONS})
            return {
                "servers": [each for each in api.every("/v1/servers") if each["state"] != "revoked"],
                "gpus": api.every("/v1/gpus"),
                "clients": api.every("/v1/clients", revoked="false"),
                "groups": api.every("/v1/groups"),
                "health": api.every("/v1/health"),
            }
        except ApplianceError as error:
            raise AnsibleParserError("The inventory of the pool cannot be read. %s" % error) from error

    def _fill(self, pool):
        include, by = self.get_option("include"), self.get_option("group_by")
        health = worst_by_subject(pool["health"])
        if "servers" in include:
            gpus = {}
            for each in pool["gpus"]:
                gpus.setdefault(each["server_id"], []).append(each)
            for server in pool["servers"]:
                facts = dict(server, gpus=gpus.get(server["id"], []), health=health.get(server["id"], "unknown"))
                address = server["address"].rpartition(":")[0].strip("[]") or server["hostname"] or server["name"]
                self._add(facts, "gpu_servers", address, by)
        if "clients" in include:
            names = {each["id"]: each["name"] for each in pool["groups"]}
            for client in pool["clients"]:
                state = health.get(client["id"], "unknown")
                facts = dict(client, group=names.get(client["group_id"], ""), health=state)
                self._add(facts, "clients", client["hostname"] or client["name"], by)

    def _add(self, facts, kind, address, by):
        name = self.inventory.add_host(facts["name"], group=self.inventory.add_group(kind))
        self.inventory.set_variable(name, "ansible_host", address)
        self.inventory.set_variable(name, "gpuferry_role", "server" if kind == "gpu_servers" else "client")
        for key, value in facts.items():
            self.inventory.set_variable(name, "gpuferry_" + key, value)
        labels = {
            "model": [("model", gpu["name"]) for gpu in facts.get("gpus", [])],
            "health": [("health", facts["health"])],
            "host": [("esxi", facts["host"])] if facts["host"] else [],
            "group": [("group", facts["group"])] if facts.get("group") else [],
            "state": [("state", facts["state"])] if facts.get("state") else [],
        }
        for each in by:
            for prefix, value in labels[each]:
                group = self.inventory.add_group(self._sanitize_group_name("%s_%s" % (prefix, value.lower())))
                self.inventory.add_child(group, name)
        variables = self.inventory.get_host(name).get_vars()
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        variables = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def worst_by_subject(readings):
    """The worst state of a server's or client's checks, those of its GPUs among them."""
    worst = {}
    for each in readings:
        subject = each["subject"].split("/")[0]
        states = (worst.get(subject, "ok"), each["state"])
        worst[subject] = min(states, key=WORST.index)
    return worst
