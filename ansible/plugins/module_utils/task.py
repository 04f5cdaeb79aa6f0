"""What every module of the collection does alike: connect, compare, change, tell the difference, fail with a remedy."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.gpuferry.pool.plugins.module_utils.rest import Appliance, ApplianceError

CONNECTION = {
    "appliance_url": {"type": "str", "required": True, "fallback": (env_fallback, ["GPUFERRY_URL"])},
    "appliance_token": {
        "type": "str",
        "required": True,
        "no_log": True,
        "fallback": (env_fallback, ["GPUFERRY_TOKEN"]),
    },
    "appliance_ca_path": {"type": "path", "fallback": (env_fallback, ["GPUFERRY_CA_PATH"])},
    "appliance_validate_certs": {
        "type": "bool",
        "default": True,
        "fallback": (env_fallback, ["GPUFERRY_VALIDATE_CERTS"]),
    },
    "appliance_timeout": {"type": "int", "default": 30},
}
MEETINGS = 5
"""How often a change is made anew when somebody else changed the same thing meanwhile."""


def connection_spec(**more):
    """An argument spec: the appliance's options and the module's own."""
    return dict(CONNECTION, **more)


class Task:
    """One task. `subject` is what it is about, for messages: `group 'research'`."""

    def __init__(self, argument_spec, **more):
        self.module = AnsibleModule(connection_spec(**argument_spec), supports_check_mode=True, **more)
        self.options = self.module.params
        self.dry = self.module.check_mode
        self.api = Appliance.of_options(self.options)
        self.subject = ""

    def run(self, do):
        """Call `do(self)`, which ends the module; tell what failed, and on what, if it cannot."""
        try:
            do(self)
        except ApplianceError as error:
            self.fail(str(error), status=error.status, trace=error.trace)

    def fail(self, text, **facts):
        """End the module: failed. The message names the subject."""
        self.module.fail_json(msg="%s: %s" % (self.subject, text) if self.subject else text, **facts)

    def done(self, before, after, **facts):
        """End the module: changed when `before` and `after` differ."""
        changed = before != after
        diff = {
            "before": before or {},
            "after": after or {},
            "before_header": self.subject,
            "after_header": self.subject,
        }
        self.module.exit_json(changed=changed, diff=diff, **facts)

    def named(self, path, called, what):
        """The item with this name. Fails when there is none, and names those there are."""
        items = self.api.every(path)
        for each in items:
            if each["name"] == called:
                return each
        return self.fail(nothing_of_that_name(what, called, items))


def nothing_of_that_name(what, called, items):
    """Says so, and which names there are."""
    known = sorted(each["name"] for each in items)
    there = "There are: %s." % ", ".join(known[:10]) if known else "There is none yet."
    return "there is no %s '%s'. %s" % (what, called, there)


def chosen(document, keys):
    """Those keys of a document; None for what it lacks."""
    return {key: document.get(key) for key in keys}


def differing(current, wanted):
    """What of `wanted` is not so in `current`."""
    return {key: value for key, value in wanted.items() if current.get(key) != value}


def limit(value):
    """A limit as people write it in a playbook, where -1 takes it off, as the API has it."""
    return None if value == -1 else value
