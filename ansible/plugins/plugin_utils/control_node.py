"""What action plug-ins do alike on the control node: their options, and failing with a sentence."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError

ENVIRONMENT = (
    ("appliance_url", "GPUFERRY_URL"),
    ("appliance_token", "GPUFERRY_TOKEN"),
    ("appliance_ca_path", "GPUFERRY_CA_PATH"),
)


class ActionError(Exception):
    """The task fails; the text says of what, why, and what to do. `code` is for programs."""

    def __init__(self, text, code=""):
        super(ActionError, self).__init__(text)
        self.code = code


def checked(arguments, spec, subject, needed=()):
    """The options of a task. `needed` are those without which nothing can be done, wherever they come from.

    Raises ActionError.
    """
    found = ArgumentSpecValidator(dict(spec)).validate(arguments)
    options = found.validated_parameters
    for name, variable in ENVIRONMENT:
        if name in spec:
            options[name] = options.get(name) or os.environ.get(variable)
    wrong = [
        "there is no option " + str(each) if isinstance(each, UnsupportedError) else str(each)
        for each in found.errors.errors
        # Those may come from the environment.
        if not any(name in str(each) for name, dummy in ENVIRONMENT) or isinstance(each, UnsupportedError)
    ]
    missing = [name for name in needed if not options.get(name)]
    if missing:
        wrong.append("give %s" % " and ".join(missing))
    if wrong:
        raise ActionError("%s: %s." % (subject, "; ".join(each.rstrip(".") for each in wrong)))
    return options
