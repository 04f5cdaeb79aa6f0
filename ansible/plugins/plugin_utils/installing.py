"""Action plug-ins that install gpuferry over Ansible's own connection, with the appliance's bundle and its installer.

The control node has the bundle, the machine does the rest in one process that survives the connection. Only what the
machine lacks is sent: the installer says so.
"""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time

from ansible_collections.gpuferry.pool.plugins.module_utils.machines import CALLED, INSTALLER, SERVICES
from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError
from ansible_collections.gpuferry.pool.plugins.plugin_utils.control_node import ActionError

from ansible import constants
from ansible.plugins.action import ActionBase

BUSY_S = 120
"""How long another installation on the same machine is waited for."""


class Bundle:
    """A signed bundle: `manifest` and `signature` are its first two files, `key` (hex) has signed it.

    `open_file` gives the content of a file of the manifest.
    """

    def __init__(self, manifest, signature, key, open_file):
        self.raw = manifest
        self.signature = signature
        self.key = key
        self.open_file = open_file
        self.files = json.loads(manifest)["files"]
        self.roles = json.loads(manifest)["roles"]
        self.version = json.loads(manifest)["version"]

    def fetch(self, digest):
        """The path of a file's copy on this control node. Hosts of one play share it; it goes when Ansible ends."""
        folder = os.path.join(constants.DEFAULT_LOCAL_TMP, "gpuferry-bundle")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, digest)
        if not os.path.exists(path):
            file = next(each for each in self.files if each["sha256"] == digest)
            content = self.open_file(file)
            if hashlib.sha256(content).hexdigest() != digest:
                raise ActionError(
                    "%s is not the file that the bundle's signed manifest names: it was changed. Build the bundle "
                    "again with `gpuferry appliance bundle build`." % file["name"]
                )
            handle, temporary = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as target:
                target.write(content)
            os.rename(temporary, path)
        return path

    @property
    def installer(self):
        """The digest of the bundle's installer."""
        return next(each["sha256"] for each in self.files if each["name"] == INSTALLER)


class Installing(ActionBase):
    """What `machine` and `appliance` do alike. The module `installer` works on the machine."""

    _supports_check_mode = True
    role = ""
    subject = ""
    folder = ""
    sent = frozenset()

    def run(self, tmp=None, task_vars=None):
        result = super(Installing, self).run(tmp, task_vars)
        self.task_vars = task_vars or {}
        self.host = self.task_vars.get("inventory_hostname", "")
        try:
            return dict(result, **self.carry_out())
        except ActionError as error:
            return dict(result, failed=True, msg=str(error), code=error.code)
        except ApplianceError as error:
            return dict(result, failed=True, msg="%s: %s" % (self.subject, error))

    def carry_out(self):
        """The task; its facts. Raises ActionError, ApplianceError."""
        raise NotImplementedError

    def work(self, work, request, bundle=None, secret=None):
        """Have the module `installer` do a piece of work on the machine; what it told. Raises ActionError."""
        args = {"work": work, "request": request, "secret": secret}
        if bundle is not None:
            pythons = bundle.roles[self.role]["python"]
            args.update(folder=self.folder, installer=bundle.installer, pythons=pythons)
        end = time.monotonic() + BUSY_S
        while True:
            done = self._execute_module("gpuferry.pool.installer", args, task_vars=self.task_vars)
            if not done.get("failed"):
                return done["told"]
            if done.get("code") != "busy" or time.monotonic() > end:
                text = "%s: %s" % (self.subject, done.get("msg", "the module on the machine failed: %s" % done))
                raise ActionError(text, done.get("code", ""))
            # Most likely an installer whose connection broke: it ends by itself.
            time.sleep(1)

    def send(self, bundle, digests):
        """Bring files of the bundle to the machine."""
        for digest in digests:
            if digest not in self.sent:
                self._transfer_file(bundle.fetch(digest), self._connection._shell.join_path(self.folder, digest))
                self.sent = self.sent | {digest}

    def begin(self, bundle):
        """Bring what foreseeing needs."""
        self.folder = self._make_tmp_path()
        join = self._connection._shell.join_path
        for name, content in (("manifest.json", bundle.raw), ("manifest.sig", bundle.signature)):
            handle, path = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                self._transfer_file(path, join(self.folder, name))
            finally:
                os.unlink(path)
        self.send(bundle, [bundle.installer])
        self._fixup_perms2((self.folder, join(self.folder, bundle.installer)))

    def settle(self, bundle, request, ticket=None, secret=None):
        """Bring the machine to what is wanted; the facts of the task. `ticket()` makes what it enrols with, `secret` is
        another thing that goes to the machine unseen.
        """
        self.begin(bundle)
        request = dict(request, folder=self.folder)
        try:
            foreseen = self.work("foresee", dict(request, clock=time.time()), bundle)
            if foreseen["findings"]:
                raise ActionError(
                    "%s: the machine is not fit for %s. %s"
                    % (self.subject, CALLED[self.role], " ".join(foreseen["findings"]))
                )
            self.look_over(foreseen)
            self.enrol_if_forgotten(foreseen)
            facts = {"changed": bool(foreseen["changes"]), "diff": self.difference(foreseen)}
            if self._task.check_mode:
                return self.told(facts, foreseen["before"], foreseen["version"])
            if foreseen["unpack"]:
                self.send(bundle, foreseen["files"])
            wanted = dict(request, enrol_again=foreseen["again"])
            mine = ticket() if foreseen["ticket"] and ticket is not None else secret
            try:
                told = self.work("install", wanted, bundle, mine)
            except ActionError as refused:
                if refused.code != "refused" or foreseen["ticket"] or ticket is None:
                    raise
                # Its key was revoked or replaced: a new ticket makes it known again.
                told = self.work("install", dict(request, enrol_again=True), bundle, ticket())
            facts["changed"] = bool(told["changed"])
            return dict(self.told(facts, told, told["version"]), made=told.get("made") or {})
        finally:
            self._remove_tmp_path(self.folder, force=True)

    def enrol_if_forgotten(self, foreseen):
        """A service notices only at its next connection that its key was revoked; the appliance knows it now."""
        mine = foreseen["before"].get("enrolled")
        if mine and not foreseen["ticket"] and not self.known(mine):
            foreseen.update(ticket=True, again=True)
            start = "start " + SERVICES[self.role]
            foreseen["changes"] = [each for each in foreseen["changes"] if each != start] + ["enrol", start]

    def look_over(self, foreseen):
        """Refuse what cannot be brought about on a machine as it is. Raises ActionError."""

    def told(self, facts, there, version):
        """The facts with what is on the machine."""
        return dict(facts, machine=self.shown(there, version), there=there)

    def known(self, id_):
        """Whether the appliance knows the machine by this id."""
        return True

    def take_away(self, more=()):
        """Nothing of the role stays on the machine; the facts of the task."""
        there = self.work("describe", {"role": self.role})
        facts = {"changed": bool(there), "diff": {"before": there and self.shown(there, there["version"]), "after": {}}}
        if there and not self._task.check_mode:
            self.work("uninstall", dict({"role": self.role}, **dict(more)))
        return dict(facts, machine=there and self.shown(there, there["version"]))

    def shown(self, there, version):
        """The machine as a task returns it."""
        standing = there.get("status") or {}
        return {
            "version": version,
            "service": SERVICES[self.role],
            "running": there.get("running", False),
            "standing": standing.get("state", ""),
            "id": there.get("enrolled", ""),
        }

    def difference(self, foreseen):
        changes = foreseen["changes"]
        return {
            "before": dict.fromkeys(changes, "to be done"),
            "after": dict.fromkeys(changes, "done"),
            "before_header": self.subject,
            "after_header": self.subject,
        }
