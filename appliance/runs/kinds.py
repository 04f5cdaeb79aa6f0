"""The kinds of runs: what each is asked with, what it is about, and its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from appliance.runs import parameters as asked
from appliance.runs.parameters import Parameters, split_secrets
from appliance.runs.passthrough import FindHost, SetPassthrough
from appliance.runs.record import NewRun
from appliance.runs.step import Step
from appliance.runs.work import Ground
from appliance.state.models import RunStep


@dataclass(frozen=True)
class Kind:
    """`subject` says to people what a run is about; `key` names what it changes: runs of one key wait for each other.

    `lane` is the queue whose limit it counts against: vcenter (so many of one vCenter at a time) or guests (so many in
    all).
    """

    name: str
    parameters: type[Parameters]
    subject: Callable[[Any], str]
    key: Callable[[Any], str]
    steps: Callable[[Any, Ground], Iterable[Step]]
    lane: str = "vcenter"


def _host_key(wanted: Any) -> str:
    return f"{wanted.vcenter}/{wanted.host}"


KINDS: dict[str, Kind] = {
    each.name: each
    for each in (
        Kind(
            "passthrough",
            asked.Passthrough,
            lambda wanted: wanted.host,
            _host_key,
            lambda wanted, ground: [FindHost(), SetPassthrough(("on",) if wanted.on else ("off",))],
        ),
    )
}

STEPS: dict[str, type[Step]] = {each.name: each for each in (FindHost, SetPassthrough)}


def new_run(kind: Kind, wanted: Any, ground: Ground) -> NewRun:
    """What is to be written down for a run of these parameters."""
    shown, secrets = split_secrets(wanted)
    return NewRun(
        kind=kind.name,
        subject=kind.subject(wanted),
        vcenter=getattr(wanted, "vcenter", ""),
        key=kind.key(wanted),
        parameters=shown,
        sealed=ground.site.seal(json.dumps(secrets)) if secrets else "",
        steps=[(step.name, step.title, step.targets) for step in kind.steps(wanted, ground)],
    )


def parameters_of(kind: str, shown: dict[str, Any]) -> Parameters:
    """The parameters of a run that is written down, its secrets left out."""
    return KINDS[kind].parameters.model_validate(shown)


def step_of(row: RunStep) -> Step:
    """The step that a row means."""
    return STEPS[row.name](tuple(row.targets))
