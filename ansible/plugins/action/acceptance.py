"""The control node's part of the module `acceptance`: what the pool knows of the server; its result is kept there."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible_collections.gpuferry.pool.plugins.module_utils.machines import ACCEPTANCE_SPEC
from ansible_collections.gpuferry.pool.plugins.module_utils.rest import Appliance
from ansible_collections.gpuferry.pool.plugins.plugin_utils.control_node import ActionError, checked
from ansible_collections.gpuferry.pool.plugins.plugin_utils.installing import Installing


def each_was_tested(gpus, last):
    """Whether each of these GPUs (`GPU-1e2f...`) is in a result, which has their UUIDs in another way (`1e2f...`)."""
    tested = {gpu["uuid"] for gpu in last["result"]["gpus"]}
    return all(each.replace("GPU-", "", 1).replace("-", "") in tested for each in gpus)


class ActionModule(Installing):
    """Runs on the control node; the module `installer` runs on the machine."""

    role = "server"

    def carry_out(self):
        name = self._task.args.get("name") or self.host
        self.subject = "acceptance test of %s" % name
        options = checked(self._task.args, ACCEPTANCE_SPEC, self.subject, ("appliance_url", "appliance_token"))
        api = Appliance.of_options(options)
        server = api.named("/v1/servers", name, name=name)
        if server is None or server["state"] == "revoked":
            if self._task.check_mode:
                return {"changed": True, "acceptance": {}}
            missing = "the pool has no server of that name. Enrol it with gpuferry.pool.machine."
            raise ActionError("%s: %s" % (self.subject, missing))
        path = "/v1/servers/%s/acceptance" % server["id"]
        gpus = [each["id"] for each in api.every("/v1/gpus", server=server["id"]) if each["state"] != "missing"]
        last = next(iter(api.every(path)), None)
        if options["test"] == "when_needed" and last and last["passed"] and each_was_tested(gpus, last):
            return {"changed": False, "acceptance": last}
        if self._task.check_mode:
            return {"changed": True, "acceptance": last or {}}
        arguments = ["--driver", "softgpu"] if options["driver"] == "softgpu" else []
        for key, value in sorted(options["environment"].items()):
            arguments += ["--set", "%s=%s" % (key, value)]
        told = self.work("accept", {"role": "server", "arguments": arguments})
        kept = api.post(path, {key: told[key] for key in told if key != "changed"}).body
        if not kept["passed"]:
            result = kept["result"]
            wrong = ["GPU %(ordinal)s: %(error)s" % gpu for gpu in result["gpus"] if gpu["error"]]
            why = "; ".join([result["error"]] * bool(result["error"]) + wrong) or "no GPU was tested"
            raise ActionError(
                "%s: it failed: %s. Mend the GPU or its driver and run the task again; a new server stays out of "
                "service until it passes." % (self.subject, why)
            )
        return {"changed": True, "acceptance": kept}
