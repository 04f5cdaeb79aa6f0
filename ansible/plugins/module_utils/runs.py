"""Runs: ask what one would do, start it, follow it to its end, and tell what it changed."""

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import time

from ansible_collections.gpuferry.pool.plugins.module_utils.rest import ApplianceError, quoted

MOVING = ("queued", "running", "cancelling", "rolling-back")
LOOK_S = 0.5
LOOK_AT_MOST_S = 5.0

WAIT_SPEC = {"wait": {"type": "bool", "default": True}, "wait_timeout": {"type": "int", "default": 3600}}
SSH_SPEC = {
    "type": "dict",
    "options": {
        "user": {"type": "str"},
        "port": {"type": "int"},
        "key": {"type": "str", "no_log": True},
        "password": {"type": "str", "no_log": True},
        "sudo_password": {"type": "str", "no_log": True},
        "jump": {"type": "str"},
    },
}


def given(options, *names):
    """Those options that have a value, as parameters of a run; `ssh` without its empty fields."""
    values = {name: options[name] for name in names if options[name] is not None}
    if "ssh" in values:
        values["ssh"] = {key: value for key, value in values["ssh"].items() if value is not None}
    return values


WAITING = ("await-", "resume-")
"""Steps of these names only wait, or put back what an earlier step set aside: they are no change of their own."""


def would_do(steps):
    """The steps of a dry run that have something to do."""
    return [each for each in steps if each["state"] == "pending" and not each["name"].startswith(WAITING)]


def did(steps):
    """The steps of a run that changed something."""
    acted = [each for each in steps if each["did"] and not each["name"].startswith(WAITING)]
    return [each for each in acted if each["state"] in ("done", "running", "failed")]


def brief(steps):
    """Steps as a task returns them."""
    return [{key: each[key] for key in ("name", "title", "state", "found", "did")} for each in steps]


def settle(task, kind, parameters, repeated=(), finished=None, host_key=None):
    """Bring about what a run of this kind brings about, and start one only where something is missing.

    `repeated` names steps that a run does again whenever it comes to them, so that a dry run cannot tell whether they
    are needed; `finished()` can, and is asked when nothing else is missing. `host_key` is the fingerprint of the
    machine's SSH key, or `accept-new`: a key that waits for somebody who confirms it is confirmed then.

    Returns the facts of the task: `changed`, `steps`, `run` and the parts of the difference. In check mode the steps
    are those of the dry run. A run that does the same already is waited for first.
    """
    end = time.monotonic() + task.options["wait_timeout"]
    while True:
        planned = task.api.post("/v1/runs", {"kind": kind, "parameters": parameters, "dry_run": True}).body
        other = under_way(task, planned)
        if other is None:
            break
        if task.dry or not task.options["wait"]:
            return facts(False, other)
        follow(task, other, end)
    waiting = key_to_confirm(task, planned, host_key)
    if waiting is not None:
        if task.dry:
            # What comes behind the key cannot be seen yet: the machine has never been logged in to.
            for each in planned["steps"]:
                if each["state"] == "failed":
                    each.update(state="pending", did="would be done")
            return facts(True, planned, would_do(planned["steps"]))
        task.api.post("/v1/host-keys/%s/confirm" % quoted(waiting["id"]), {"fingerprint": waiting["fingerprint"]})
        return settle(task, kind, parameters, repeated, finished)
    if planned["error"]:
        task.fail(
            "%s cannot be done: %s %s" % (kind, sentence(planned["error"]), planned["remedy"]),
            steps=brief(planned["steps"]),
        )
    missing = would_do(planned["steps"])
    if missing and finished is not None and all(each["name"] in repeated for each in missing) and finished():
        missing = []
    if not missing or task.dry:
        return facts(bool(missing), planned, missing)
    started = task.api.post("/v1/runs", {"kind": kind, "parameters": parameters}).body
    if not task.options["wait"]:
        return facts(True, started, missing)
    ended = follow(task, started, end)
    if ended["state"] != "succeeded":
        tell_failure(task, ended)
    changes = did(ended["steps"])
    return facts(bool(changes), ended, changes)


def key_to_confirm(task, planned, host_key):
    """The host key that a dry run stopped at, if `host_key` is its fingerprint. Fails when it is another one."""
    if not planned["error"] or host_key is None:
        return None
    for each in task.api.every("/v1/host-keys", confirmed="false"):
        if each["fingerprint"] in planned["error"] and each["target"] in planned["error"]:
            if host_key in ("accept-new", each["fingerprint"]):
                return each
            task.fail(
                "%s shows the SSH host key %s, not %s. Compare it with the machine's own before you give it as "
                "`host_key`." % (each["target"], each["fingerprint"], host_key)
            )
    return None


def facts(changed, run, changes=()):
    """What `settle` returns. The difference names the steps; what they found and did is in `steps`."""
    return {
        "changed": changed,
        "run": run["id"] if run["revision"] else None,
        "steps": brief(run["steps"]),
        "before": {each["title"]: "to be done" for each in changes},
        "after": {each["title"]: "done" for each in changes},
    }


def under_way(task, planned):
    """A run of the same kind, about the same thing, that has not ended; None without one."""
    query = {"kind": planned["kind"], "subject": planned["subject"], "state": list(MOVING)}
    for each in task.api.every("/v1/runs", **query):
        if each["subject"] == planned["subject"] and each["vcenter"] == planned["vcenter"]:
            return each
    return None


def follow(task, run, end):
    """Read a run until it is over; returns it. Fails the task when that lasts longer than `end`."""
    pause = LOOK_S
    while run["state"] in MOVING:
        if time.monotonic() > end:
            step = next((each["title"] for each in run["steps"] if each["state"] == "running"), run["state"])
            task.fail(
                "%s of %s goes on (%s): it was waited for %d seconds. Run the task again to wait on, "
                "or set `wait_timeout`." % (run["id"], run["subject"], step, task.options["wait_timeout"]),
                run=run["id"],
                steps=brief(run["steps"]),
            )
        time.sleep(min(pause, max(end - time.monotonic(), 0.01)))
        pause = min(pause * 1.5, LOOK_AT_MOST_S)
        run = task.api.get("/v1/runs/" + quoted(run["id"])).body
    return run


def tell_failure(task, run):
    """Fail the task: what failed, what to do, and what was done before that."""
    done = [each["did"] for each in did(run["steps"]) if each["state"] == "done"]
    task.fail(
        "%s %s: %s %s Done before that: %s."
        % (
            run["id"],
            run["state"],
            sentence(run["error"] or "it was %s by somebody" % run["state"]),
            run["remedy"] or "Run the task again: what is done already is not done again.",
            "; ".join(done) if done else "nothing",
        ),
        run=run["id"],
        steps=brief(run["steps"]),
    )


def sentence(text):
    return text if text.endswith((".", "!", "?")) else text + "."


UNSEEN = {
    "changed": True,
    "run": None,
    "steps": [],
    "before": {"Everything": "to be done"},
    "after": {"Everything": "done"},
}
"""What check mode foresees where the vCenter itself is only foreseen."""


def only_foreseen(task, name):
    """Whether this is check mode and the appliance does not know the vCenter, which an earlier task would add."""
    if not task.dry or task.api.named("/v1/vcenters", name) is not None:
        return False
    task.module.warn("The appliance does not know the vCenter %s: what it holds cannot be foreseen." % name)
    return True


def inventory_of(task, name, seconds=60):
    """What a vCenter holds; waits for a vCenter that was added just now. Fails when the appliance does not know it."""
    path = "/v1/vcenters/%s/inventory" % task.named("/v1/vcenters", name, "vCenter")["id"]
    end = time.monotonic() + seconds
    while True:
        try:
            return task.api.get(path).body
        except ApplianceError as error:
            if error.status != 503 or time.monotonic() > end:
                raise
