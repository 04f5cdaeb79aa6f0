"""Steps over SSH: finding the machine, installing the daemon or the agent, taking it off again."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from appliance.deploy.deployment import Installed, deploy, inspect, uninstall
from appliance.deploy.errors import BusyError, DeployError, HostKeyUnknownError, UnreachableError
from appliance.deploy.ssh import Target
from appliance.peers import new_enrolment_token
from appliance.runs import guest
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from gpuserver.protocol.control.curve import Ticket

ADDRESS_S = 900.0
HOST_KEY_S = 60.0
LOOK_S = 0.5
BUSY_S = 120.0


def target(work: Work) -> Target:
    """The machine of the run. Raises RunError when no step has found it yet."""
    if not work.facts.get("address"):
        raise RunError("the machine's address is not known yet")
    return guest.target_of(work, work.facts["address"], int(work.facts["port"]))


def look_inside(work: Work, role: str) -> Installed | None:
    """What is installed of a role. Raises RunError when the machine's key is to be confirmed first."""
    there = target(work)
    try:
        return inspect(there, role)
    except HostKeyUnknownError as unknown:
        raise guest.waits_for_key(work.ground, unknown, there.address, there.port) from None


class AwaitAddress(Step):
    """The guest of a VM has an address, and its host key is known where the VM itself says it."""

    name = "await-address"
    title = "Wait for the guest's address"
    check = True

    def look(self, work: Work) -> Look:
        if work.dry and not work.facts.get("vm"):
            return Look(False, "the machine does not exist yet", "wait for the guest's address and host key")
        facts = self._facts(work, ADDRESS_S if not work.dry else 0.0)
        if not facts["address"]:
            return Look(False, "the guest has no address yet", "wait for it")
        guest.vouch(work, facts["address"], facts["port"], facts["host_key"])
        work.keep(address=facts["address"], port=facts["port"])
        known = "its VM says its host key" if facts["host_key"] else "its VM does not say its host key"
        return Look(True, f"{facts['name']} is at {facts['address']}:{facts['port']}; {known}")

    def _facts(self, work: Work, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        key_by = None
        while True:
            facts = guest.guest_facts(work, work.facts["vm"])
            if facts["address"]:
                # A guest of ours says its key moments after it is up.
                key_by = key_by or time.monotonic() + (HOST_KEY_S if work.facts.get("tells_host_key") else 0.0)
                if facts["host_key"] or time.monotonic() >= key_by:
                    return facts
            elif not facts["running"]:
                raise RunError(f"{facts['name']} is powered off", "Power it on, then retry the run.")
            if time.monotonic() >= deadline:
                if seconds:
                    raise RunError(
                        f"{facts['name']} reported no address within {seconds:g} s",
                        "Look at its console: does VMware Tools run, does the network give it an address? Then retry.",
                    )
                return facts
            work.check()
            time.sleep(LOOK_S)


class Deploy(Step):
    """The daemon or the agent is installed in this appliance's version, enrolled, and runs."""

    role = ""

    def settings(self, work: Work) -> Any:
        raise NotImplementedError

    def peer_name(self, work: Work) -> str:
        raise NotImplementedError

    def prepare(self, work: Work) -> None:
        """What has to be so before the machine enrols."""

    def enrolled(self, work: Work, peer: str) -> None:
        """The machine has the id `peer` at the appliance."""

    def group(self, work: Work) -> str:
        return ""

    def _settings_digest(self, work: Work) -> str:
        config = self.settings(work).config(self.role)
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]

    def look(self, work: Work) -> Look:
        wanted = guest.bundle_of(work.ground)
        if work.dry and not work.facts.get("address"):
            return Look(False, "the machine does not exist yet", f"install gpuferry {wanted.version} on it over SSH")
        there = look_inside(work, self.role)
        before = {f"{self.role}_before": there.version if there else ""}
        if there is None:
            return Look(False, "nothing is installed", f"install gpuferry {wanted.version}", keep=before)
        same = self._settings_digest(work)
        known = guest.last_settings(work.ground, self.role, self.peer_name(work))
        if (there.build, there.running, known) == (wanted.manifest.name, True, same) and there.state == "connected":
            work.keep(settings=same)
            self.enrolled(work, there.peer)
            return Look(True, f"gpuferry {there.version} runs there with these settings", keep=before)
        running = f"{'runs' if there.running else 'does not run'}{f', {there.state}' if there.state else ''}"
        found = f"gpuferry {there.version} is installed and {running}"
        return Look(False, found, f"bring it to {wanted.version} with its settings, where they differ", keep=before)

    def act(self, work: Work) -> str:
        there, name = target(work), self.peer_name(work)
        self.prepare(work)

        def ticket() -> str:
            site = work.ground.site
            secret = new_enrolment_token(work.ground.engine, self.role, name=name, group=self.group(work))
            work.say("made a one-time enrolment ticket")
            return str(Ticket(site.config.enrol_endpoint, site.curve_public, secret))

        busy_until = time.monotonic() + BUSY_S
        while True:
            try:
                done = deploy(
                    there, guest.bundle_of(work.ground), self.role, self.settings(work), ticket, guest.told_to(work)
                )
                break
            except HostKeyUnknownError as unknown:
                raise guest.waits_for_key(work.ground, unknown, there.address, there.port) from None
            except BusyError:
                # The installer of a process that was killed finishes or puts back by itself.
                if time.monotonic() > busy_until:
                    raise
                work.progress(None, "another deployment is at work on the machine")
                time.sleep(LOOK_S)
        self.enrolled(work, done.peer)
        work.keep(settings=self._settings_digest(work))
        if not done.changed:
            return f"gpuferry {done.version} was installed and running already"
        return f"installed gpuferry {done.version}, {', '.join(done.services)} runs, enrolled as {done.peer}"

    def undo(self, work: Work) -> str:
        if work.facts.get(f"{self.role}_before"):
            return "it was installed before this run, so it stays"
        if not work.facts.get("address"):
            return ""
        removed = uninstall(target(work), self.role, guest.told_to(work))
        return "uninstalled" if removed else "nothing was installed"


class Uninstall(Step):
    """Nothing of gpuferry is left on the machine. A machine that is gone or off has nothing to take off."""

    role = ""
    name = ""
    title = "Take gpuferry off the machine"
    final = True

    def look(self, work: Work) -> Look:
        if not work.facts.get("address"):
            return Look(True, work.facts.get("no_address", "the machine cannot be reached, so nothing is taken off"))
        there = look_inside(work, self.role)
        if there is None:
            return Look(True, "nothing is installed")
        return Look(False, f"gpuferry {there.version} is installed", "stop its service and remove it")

    def act(self, work: Work) -> str:
        try:
            uninstall(target(work), self.role, guest.told_to(work))
        except UnreachableError as away:
            raise RunError(str(away), "Make the machine reachable and retry, or power it off and retry.") from None
        except DeployError:
            raise
        return "its service is stopped, and nothing is left on it"
