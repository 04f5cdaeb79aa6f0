"""gpuferry on the machine a task runs on: the options of that, and talking to the installer of a bundle."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import glob
import json
import os
import shutil

INSTALLER = "tools/installer.pyz"
MARK = "gpuferry-request "
PLACES = "/usr/bin:/usr/local/bin:/bin:/usr/libexec:/usr/sbin:/sbin:/usr/local/sbin"
SERVICES = {"appliance": "gpuferry-appliance", "client": "gpuferry-agent", "server": "gpuferry-gpuserver"}
CALLED = {"appliance": "the appliance", "client": "a client", "server": "a GPU server"}

INSTALL_SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "environment": {"type": "dict", "default": {}},
    "verify_s": {"type": "int", "default": 60},
}
REACH_SPEC = {
    "appliance_url": {"type": "str"},
    "appliance_token": {"type": "str", "no_log": True},
    "appliance_ca_path": {"type": "path"},
    "appliance_validate_certs": {"type": "bool", "default": True},
    "appliance_timeout": {"type": "int", "default": 30},
}
APPLIANCE_SPEC = dict(
    INSTALL_SPEC,
    bundle={"type": "path"},
    bundle_key={"type": "str", "no_log": False},
    admin_token_path={"type": "path", "no_log": False},
    ca_path={"type": "path"},
    name={"type": "str"},
    database={"type": "str", "no_log": True},
    listen={"type": "str"},
    control_port={"type": "int"},
    enrol_port={"type": "int"},
    api_port={"type": "int"},
    tls={"type": "bool"},
    remove_site={"type": "bool", "default": False},
)
MACHINE_SPEC = dict(
    INSTALL_SPEC,
    role={"type": "str", "choices": ["client", "server"], "required": True},
    name={"type": "str"},
    group={"type": "str"},
    ticket={"type": "str", "no_log": True},
    begins={"type": "str", "choices": ["active", "maintenance"], "default": "active"},
    version={"type": "str"},
    driver={"type": "str", "default": "libcuda.so.1"},
    listen={"type": "str", "default": "0.0.0.0:9797"},
    address={"type": "str"},
    esxi_host={"type": "str"},
    arguments={"type": "list", "elements": "str", "default": []},
    python_path={"type": "list", "elements": "str", "default": []},
    parts={"type": "list", "elements": "str", "default": []},
    check_reach={"type": "bool", "default": True},
    replace_appliance={"type": "bool", "default": False},
    **REACH_SPEC,
)
ACCEPTANCE_SPEC = dict(
    REACH_SPEC,
    name={"type": "str"},
    test={"type": "str", "choices": ["when_needed", "always"], "default": "when_needed"},
    driver={"type": "str", "default": "libcuda.so.1"},
    environment={"type": "dict", "default": {}},
)


class InstallerError(Exception):
    """The installer did not do it. `code` is its own word for why; empty when it did not come to that."""

    def __init__(self, text, code=""):
        super(InstallerError, self).__init__(text)
        self.code = code


def find_python(wanted):
    """The paths of Pythons that may be of these versions, the distribution's own `python3` first."""
    found = []
    for name in ["python3"] + ["python" + each for each in wanted]:
        path = shutil.which(name, path=PLACES)
        if path is not None and path not in found:
            found.append(path)
    return found


def choose_python(module, wanted):
    """A Python of one of the wanted versions. Raises InstallerError."""
    there = []
    for path in find_python(wanted):
        asked = 'import sys, zlib, hashlib; print("%d.%d" % sys.version_info[:2])'
        status, output, _errors = module.run_command([path, "-I", "-c", asked])
        if status == 0 and output.strip() in wanted:
            return path
        if status == 0:
            there.append(output.strip())
    raise InstallerError(
        "Python: %s; needed: one of %s. Install a supported python3 from the distribution's packages."
        % (", ".join(there) or "none", ", ".join(wanted)),
        "python",
    )


def installed(role):
    """The installer that lies on this machine and the Python it runs with; None when nothing is installed."""
    home = "/opt/gpuferry/" + role
    versions = sorted(glob.glob(home + "/versions/*"), key=os.path.getmtime, reverse=True)
    # Of a broken installation any version's will do.
    for version in [home + "/current", *versions]:
        try:
            with open(version + "/bin/gpuferry") as launcher:
                first = launcher.readline()
        except OSError:
            continue
        if first.startswith("#!") and os.path.exists(version + "/installer.pyz"):
            return first[2:].split()[0], os.path.realpath(version + "/installer.pyz")
    return None


def accept(module, arguments):
    """Run the acceptance test of the installed GPU server daemon; what it printed. Raises InstallerError."""
    python = "/opt/gpuferry/server/current/bin/python"
    if not os.path.exists(python):
        raise InstallerError("there is no GPU server daemon on the machine: install it with gpuferry.pool.machine")
    status, output, errors = module.run_command([python, "-m", "gpuserver.acceptance", *arguments])
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        said = (errors or output).strip()[-600:] or "nothing"
        text = (
            "the test ended with status %d and no result: %s. Is CuPy on the machine (`python_path`, or the part "
            "`cupy` of the bundle), does nvidia-smi work there?"
        )
        raise InstallerError(text % (status, said)) from None


def ask(module, python, installer, verb, about=(), request=None):
    """Run the installer; its result. Raises InstallerError."""
    command = [python, "-I", installer, verb, *about]
    told = "" if request is None else MARK + json.dumps(request) + "\n"
    status, output, errors = module.run_command(command, data=told or None, binary_data=True)
    last = {}
    for line in output.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and ("result" in content or "failure" in content):
            last = content
    if "failure" in last:
        failure = last["failure"]
        raise InstallerError(("%(what)s. %(remedy)s" % failure).strip(), failure["code"])
    if "result" not in last:
        said = (errors or output).strip().splitlines()
        text = "the installer ended with status %d and said: %s. Run the task again."
        raise InstallerError(text % (status, said[-1] if said else "nothing"))
    return last["result"]
