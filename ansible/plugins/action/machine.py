"""The control node's part of the module `machine`: the bundle, the ticket, and what is sent to the machine."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible_collections.gpuferry.pool.plugins.module_utils.machines import CALLED, MACHINE_SPEC
from ansible_collections.gpuferry.pool.plugins.module_utils.rest import Appliance, ApplianceError, quoted
from ansible_collections.gpuferry.pool.plugins.plugin_utils.control_node import ActionError, checked
from ansible_collections.gpuferry.pool.plugins.plugin_utils.installing import Bundle, Installing


class ActionModule(Installing):
    """Runs on the control node; the module `installer` runs on the machine."""

    def carry_out(self):
        self.subject = "machine %s" % self.host
        gone = self._task.args.get("state") == "absent"
        needed = () if gone else ("appliance_url", "appliance_token")
        options = checked(self._task.args, MACHINE_SPEC, self.subject, needed)
        self.role = options["role"]
        self.name, self.begins = options["name"] or self.host, options["begins"]
        return self.take_away() if gone else self.bring(options)

    def bring(self, options):
        api = self.api = Appliance.of_options(options)
        about = api.get("/v1/appliance").body
        bundle = self.bundle_of(api, options["version"] or about["version"])
        config = {"esxi_host": options["esxi_host"] or "", "environment": options["environment"]}
        if self.role == "server":
            address = ["--address", options["address"]] if options["address"] else []
            own = ["--listen", options["listen"], *address, "--driver", options["driver"]]
            config.update(arguments=own + options["arguments"], python_path=options["python_path"])
        places = [about[each].split("://")[1] for each in ("control_endpoint", "enrol_endpoint")]
        request = {
            "role": self.role,
            "key": bundle.key,
            "config": config,
            "name": self.name,
            "appliance_key": about["control_key"],
            "new_key": options["replace_appliance"],
            "verify_s": options["verify_s"],
            "parts": options["parts"],
            "reach": places if options["check_reach"] else [],
        }
        facts = self.settle(bundle, request, lambda: options["ticket"] or self.ticket(api, options["group"]))
        return {key: facts[key] for key in ("changed", "diff", "machine")}

    def known(self, id_):
        path = "/v1/%s/" % ("clients" if self.role == "client" else "servers")
        try:
            there = self.api.get(path + quoted(id_)).body
        except ApplianceError as error:
            if error.status == 404:
                return False
            raise
        return there["state"] != "revoked" if self.role == "server" else there["revoked_at"] is None

    def bundle_of(self, api, version):
        """The appliance's newest bundle of a version that has something for the role."""
        there = api.every("/v1/bundles")
        fitting = [each for each in there if each["version"] == version and self.role in each["roles"]]
        if fitting:
            path = "/v1/bundles/%s/" % quoted(version)
            manifest, signature = api.content(path + "manifest.json"), api.content(path + "manifest.sig")
            return Bundle(manifest, signature, fitting[0]["key"], lambda file: api.content(path + file["sha256"]))
        known = ", ".join("%(version)s (%(name)s)" % each for each in there)
        raise ActionError(
            "%s: the appliance has no bundle of version %s for %s. It has %s. Make one on the appliance: "
            "`gpuferry appliance bundle build`." % (self.subject, version, CALLED[self.role], known or "none")
        )

    def ticket(self, api, group):
        """What the machine enrols with, once."""
        wanted = {"role": self.role, "name": self.name}
        if self.role == "client" and group:
            wanted["group"] = group
        if self.role == "server":
            wanted["begins"] = self.begins
        return api.post("/v1/enrolments", wanted).body["ticket"]
