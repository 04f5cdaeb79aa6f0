"""Custom attributes and events in the simulated vCenter."""

import pytest
from pyVmomi import vim

from vcenter import errors
from vcenter.attributes import Attribute, apply_attributes, plan_attributes, values_of
from vcenter.events import log_event, note
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.reading import load
from vcenter.session import Session
from vcenter.simulator import Simulation

HOST = "esx-01.example.test"


def test_shown_changed_and_cleared(session: Session, vcenter: Simulation) -> None:
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    assert values_of(session, ref) == {}
    wanted = {Attribute.ROLE: "GPU host", Attribute.POOL_STATE: "ready"}
    plan = plan_attributes(session, ref, HOST, wanted)
    assert plan.define == (Attribute.ROLE, Attribute.POOL_STATE)
    apply_attributes(session, plan)
    assert values_of(session, ref) == wanted
    assert plan_attributes(session, ref, HOST, wanted).empty
    apply_attributes(session, plan_attributes(session, ref, HOST, {Attribute.POOL_STATE: "draining"}))
    assert values_of(session, ref) == {Attribute.ROLE: "GPU host", Attribute.POOL_STATE: "draining"}
    apply_attributes(session, plan_attributes(session, ref, HOST, dict.fromkeys(Attribute, "")))
    assert values_of(session, ref) == {}
    assert vcenter.control.count("AddCustomFieldDef") == 2


def test_somebody_else_defines_it_meanwhile(session: Session) -> None:
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    plan = plan_attributes(session, ref, HOST, {Attribute.ROLE: "GPU host"})
    session.content.customFieldsManager.AddCustomFieldDef(Attribute.ROLE.value, None, None, None)
    apply_attributes(session, plan)
    assert values_of(session, ref) == {Attribute.ROLE: "GPU host"}


def test_on_a_machine_too_and_not_too_long(session: Session) -> None:
    ref = session.object(vim.VirtualMachine, load(session).vm("client-01").id)
    apply_attributes(session, plan_attributes(session, ref, "client-01", {Attribute.GPU_USE: "2 of 4"}))
    assert values_of(session, ref) == {Attribute.GPU_USE: "2 of 4"}
    with pytest.raises(errors.InvalidRequest):
        plan_attributes(session, ref, "client-01", {Attribute.LAST_RUN: "x" * 1025})


def test_events_are_seen_in_vcenter(session: Session) -> None:
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    log_event(session, ref, "passthrough turned on for 2 GPUs")
    log_event(session, ref, "y" * 2000)
    found = session.content.eventManager.QueryEvents(
        vim.event.EventFilterSpec(entity=vim.event.EventFilterSpec.ByEntity(entity=ref, recursion="self"))
    )
    said = [event for event in found if isinstance(event, vim.event.GeneralUserEvent)]
    messages = [event.message for event in said]
    assert "gpuferry: passthrough turned on for 2 GPUs" in messages
    assert all(len(message) <= 1000 for message in messages)
    assert {event.host.host._moId for event in said} == {ref._moId}


def _said(session: Session) -> list[str]:
    found = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
    return [event.message for event in found if isinstance(event, vim.event.GeneralUserEvent)]


def test_what_is_done_is_told_in_vcenter(session: Session, vcenter: Simulation) -> None:
    apply_passthrough(session, plan_passthrough(session, load(session), "esx-03.example.test"))
    assert _said(session) == [
        "gpuferry: passthrough turned on for 0000:3b:00.0, 0000:3b:00.1, 0000:3c:00.0 after a reboot"
    ]
    apply_passthrough(session, plan_passthrough(session, load(session), "esx-03.example.test"))
    assert len(_said(session)) == 1  # nothing was done
    vcenter.control.fail("LogUserEvent", fault=vim.fault.NoPermission(privilegeId="Global.LogEvent"))
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    assert note(session, ref, "not told") is False
    assert note(session, ref, "told") is True
