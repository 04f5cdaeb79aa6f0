"""A lease for the length of a block: asked for here, given back by a process that outlives ansible-playbook."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import os
import subprocess
import sys

from ansible_collections.gpuferry.pool.plugins.module_utils import rest
from ansible_collections.gpuferry.pool.plugins.module_utils.leases import (
    LEASE_SPEC,
    LeaseError,
    ask,
    client_named,
    contradiction,
    held,
)
from ansible_collections.gpuferry.pool.plugins.module_utils.task import connection_spec
from ansible_collections.gpuferry.pool.plugins.plugin_utils.control_node import ActionError, checked

from ansible.plugins.action import ActionBase

KEEPER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "plugin_utils", "lease_keeper.py")


class ActionModule(ActionBase):
    """Runs on the control node."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super(ActionModule, self).run(tmp, task_vars)
        subject = "lease %s of %s" % (self._task.args.get("name"), self._task.args.get("client"))
        spec = connection_spec(**LEASE_SPEC)
        try:
            options = checked(self._task.args, spec, subject, ("appliance_url", "appliance_token"))
        except ActionError as error:
            return dict(result, failed=True, msg=str(error))
        try:
            return dict(result, **self._hold(options))
        except (LeaseError, rest.ApplianceError) as error:
            return dict(result, failed=True, msg="%s: %s" % (subject, error))

    def _hold(self, options):
        api = rest.Appliance.of_options(options)
        client = client_named(api, options["client"])["id"]
        lease = held(api, client, options["name"])
        if lease is not None:
            wrong = contradiction(lease, options)
            if wrong:
                raise LeaseError("%s is held and cannot be changed: %s. Give it back first." % (lease["id"], wrong))
            return {"changed": False, "lease": lease}
        if self._task.check_mode:
            lease = {"state": "active", "gpus": options["gpus"]}
            return {"changed": True, "lease": lease, "diff": difference(lease)}
        lease = ask(api, client, options)
        return {
            "changed": True,
            "lease": lease,
            "diff": difference(lease),
            "keeper": start_keeper(options, lease["id"], os.getppid()),
        }


def difference(lease):
    """What `--diff` shows of a lease that was asked for."""
    return {"before": {}, "after": {key: lease[key] for key in ("state", "gpus")}}


def start_keeper(options, lease, play):
    """Start the process that gives the lease back when the process `play` has ended; returns its id."""
    keeper = subprocess.Popen(
        [sys.executable, KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(each for each in sys.path if each)),
        start_new_session=True,
        cwd="/",
    )
    told = {key: value for key, value in options.items() if key.startswith("appliance_")}
    # Over standard input: a command line is everybody's to read.
    keeper.stdin.write(json.dumps({"options": told, "lease": lease, "play": play, "rest": rest.__file__}).encode())
    keeper.stdin.close()
    return keeper.pid
