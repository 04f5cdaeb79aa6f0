"""The control node's part of the module `appliance`: the bundle, and keeping what a new site tells once."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import tempfile
import zipfile

from ansible_collections.gpuferry.pool.plugins.module_utils.machines import APPLIANCE_SPEC
from ansible_collections.gpuferry.pool.plugins.plugin_utils.control_node import ActionError, checked
from ansible_collections.gpuferry.pool.plugins.plugin_utils.installing import Bundle, Installing

SITE = ("name", "listen", "control_port", "enrol_port", "api_port", "tls")
MAKE = "Make one with `gpuferry appliance bundle build --appliance`."


class ActionModule(Installing):
    """Runs on the control node; the module `installer` runs on the machine."""

    role = "appliance"

    def carry_out(self):
        self.subject = "appliance on %s" % self.host
        gone = self._task.args.get("state") == "absent"
        needed = () if gone else ("bundle", "admin_token_path")
        options = checked(self._task.args, APPLIANCE_SPEC, self.subject, needed)
        if gone:
            return self.take_away({"with_site": options["remove_site"]})
        for each in ("admin_token_path", "ca_path"):
            folder = os.path.dirname(os.path.abspath(os.path.expanduser(options[each] or "")))
            if options[each] and not os.access(folder, os.W_OK):
                text = "%s: %s %s cannot be written: make the folder %s on the control node."
                raise ActionError(text % (self.subject, each, options[each], folder))
        return self.bring(options)

    def bring(self, options):
        given = {key: options[key] for key in SITE if options[key] is not None}
        host = self.task_vars.get("ansible_host", self.host)
        request = {
            "role": "appliance",
            "key": "",
            "config": {"environment": options["environment"]},
            "verify_s": options["verify_s"],
            "site": {key.replace("_", "-"): value for key, value in dict({"name": host}, **given).items()},
        }
        with open_bundle(options, self.subject) as archive:
            bundle = Bundle(
                archive.read("manifest.json"),
                archive.read("manifest.sig"),
                key_of(options, self.subject),
                lambda file: archive.read(file["name"]),
            )
            if "appliance" not in bundle.roles:
                raise ActionError("%s: %s holds no appliance. %s" % (self.subject, options["bundle"], MAKE))
            request["key"] = bundle.key
            self.wanted = given
            facts = self.settle(bundle, request, secret=options["database"])
        made, there = facts.pop("made", {}), facts.pop("there")
        if made.get("admin_token"):
            write(options["admin_token_path"], made["admin_token"] + "\n", 0o600)
        site = there.get("site") or {}
        if options["ca_path"] and site:
            self.keep_authority(options["ca_path"], there["authority"], facts)
        if site:
            scheme = "https" if site["tls"] else "http"
            name = "[%s]" % site["name"] if ":" in site["name"] else site["name"]
            facts["url"] = "%s://%s:%d" % (scheme, name, site["api_port"])
        return facts

    def look_over(self, foreseen):
        """What was set when the site was made is not changed behind its back."""
        site = foreseen["before"].get("site") or {}
        for key, value in self.wanted.items() if site else ():
            if site[key] != value:
                text = (
                    "%s: its site has %s %s, not %s, since it was made. Leave the option out, or change the machine's "
                    "/var/lib/gpuferry-appliance/site.json and restart gpuferry-appliance."
                )
                raise ActionError(text % (self.subject, key, site[key], value))

    def keep_authority(self, path, text, facts):
        """Write the certificate authority where it is not there yet."""
        path = os.path.expanduser(path)
        former = None
        if os.path.exists(path):
            with open(path) as file:
                former = file.read()
        if former == text:
            return
        facts["changed"] = True
        facts["diff"]["before"]["write " + path], facts["diff"]["after"]["write " + path] = "to be done", "done"
        if not self._task.check_mode:
            write(path, text, 0o644)


def open_bundle(options, subject):
    """The bundle's file. Raises ActionError."""
    try:
        return zipfile.ZipFile(os.path.expanduser(options["bundle"]))
    except (OSError, zipfile.BadZipFile) as error:
        raise ActionError("%s: %s is no bundle: %s. %s" % (subject, options["bundle"], error, MAKE)) from None


def key_of(options, subject):
    """The key that signed the bundle, in hexadecimal. Raises ActionError."""
    key = options["bundle_key"]
    beside = os.path.expanduser(options["bundle"] + ".key")
    if not key and os.path.exists(beside):
        with open(beside) as file:
            key = file.read().strip()
    try:
        if len(bytes.fromhex(key or "")) == 32:
            return key
    except ValueError:
        pass
    text = "%s: bundle_key has 64 hexadecimal digits; without it they are read from %s, which `bundle build` writes."
    raise ActionError(text % (subject, beside))


def write(path, text, mode):
    """Replace a file on the control node, whole or not at all."""
    path = os.path.abspath(os.path.expanduser(path))
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    os.rename(temporary, path)
