"""Is a machine fit? One look at it over SSH, then all that is wrong at once (`on_target/fitness.py`)."""

from __future__ import annotations

import time
from dataclasses import replace

from appliance.deploy.errors import DeployError, SudoRefusedError
from appliance.deploy.on_target.fitness import Facts, Finding, Needs, facts_of, judge, script_of
from appliance.deploy.ssh import Machine, Target, connect


def look(machine: Machine, needs: Needs) -> Facts:
    """Look at a machine. Raises BrokenOffError."""
    before = time.time()
    # The clock is read first thing in the answer; what is between is the network's way there.
    clock: list[float] = []

    def note(line: str) -> None:
        if line.startswith("now="):
            clock.append(time.time())

    answer = machine.run("sh -s", script_of(needs).encode(), note)
    return facts_of(answer.output, before, clock[0] if clock else time.time())


def check(target: Target, needs: Needs) -> tuple[Finding, ...]:
    """All that is wrong with a target, at once; nothing when it is fit.

    What keeps us from looking is a finding, too, except for a host key that nobody has confirmed.
    Raises HostKeyUnknownError, HostKeyChangedError, UnreachableError, LoginRefusedError.
    """
    with connect(target) as machine:
        return tuple(check_machine(machine, needs)[1])


def check_machine(machine: Machine, needs: Needs) -> tuple[Facts, list[Finding]]:
    """The same over an open connection, with what was seen."""
    facts = look(machine, needs)
    findings = judge(facts, needs)
    try:
        machine.run_as_root(["true"])
    except SudoRefusedError as refused:
        findings.append(Finding("root", refused.what, f"sudo for {machine.target.user}", refused.remedy))
    except DeployError as broken:
        findings.append(Finding("root", broken.what, "an SSH session", broken.remedy))
    return facts, findings


def without_network(needs: Needs) -> Needs:
    """The same needs without addresses to reach."""
    return replace(needs, reach=())
