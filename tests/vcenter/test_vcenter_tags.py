"""Tags as desired state, through the Automation SDK (JSON-RPC at /api), in the simulated vCenter."""

import pytest
from simulated_vcenter import endpoint_of

from vcenter import errors
from vcenter.certificate import Trust
from vcenter.reading import load
from vcenter.session import Endpoint, Session
from vcenter.simulator import Simulation
from vcenter.tags import (
    CATEGORY,
    Tag,
    Tagged,
    apply_definitions,
    apply_tags,
    plan_definitions,
    plan_tags,
    tagged,
)


def _objects(session: Session) -> tuple[Tagged, Tagged, Tagged]:
    inventory = load(session)
    return (
        Tagged("HostSystem", inventory.host("esx-01.example.test").id, Tag.GPU_SERVER),
        Tagged("VirtualMachine", inventory.vm("client-01").id, Tag.CLIENT),
        Tagged("VirtualMachine", inventory.vm("client-02").id, Tag.CLIENT),
    )


def test_definitions_are_made_once(session: Session) -> None:
    plan = plan_definitions(session)
    assert [change.after for change in plan.changes] == [plan.changes[0].after, "gpu-server", "client"]
    apply_definitions(session, plan)
    assert plan_definitions(session).empty
    apply_definitions(session, plan)  # as if somebody else had been quicker
    assert plan_definitions(session).empty
    names = session.rest(
        "reading", lambda client: [client.tagging.Category.get(c).name for c in client.tagging.Category.list()]
    )
    assert names.count(CATEGORY) == 1


def test_desired_state(session: Session) -> None:
    host, one, two = _objects(session)
    assert tagged(session) == []
    plan = plan_tags(session, [host, one])
    assert len(plan.changes) == 2
    apply_tags(session, plan)
    assert tagged(session) == sorted([host, one], key=lambda t: t.tag.value)
    assert plan_tags(session, [host, one]).empty
    assert plan_tags(session, [host]).empty  # others are left alone
    exact = plan_tags(session, [host, two], exact=True)
    assert (exact.attach, exact.detach) == ((two,), (one,))
    apply_tags(session, exact)
    assert tagged(session) == sorted([host, two], key=lambda t: t.tag.value)
    apply_tags(session, plan_tags(session, [], exact=True))
    assert tagged(session) == []


def test_an_object_plays_one_part_at_a_time(session: Session) -> None:
    _, one, _ = _objects(session)
    apply_tags(session, plan_tags(session, [one]))
    server = Tagged(one.kind, one.id, Tag.GPU_SERVER)
    plan = plan_tags(session, [server])
    assert (plan.attach, plan.detach) == ((server,), (one,))
    apply_tags(session, plan)
    assert tagged(session) == [server]


def test_the_rest_session_logs_in_again(session: Session, vcenter: Simulation) -> None:
    host, _, _ = _objects(session)
    apply_tags(session, plan_tags(session, [host]))
    vcenter.control.expire_sessions()
    assert tagged(session) == [host]


def test_the_pin_holds_for_the_automation_sdk_too(session: Session, vcenter: Simulation) -> None:
    """The SDK mounts its own adapters on the session it is given; the pin must survive that."""
    wrong = Endpoint(vcenter.host, vcenter.user, vcenter.port, Trust(thumbprint="0" * 64))
    session.endpoint = wrong
    with pytest.raises(errors.CertificateChanged):
        tagged(session)


def test_a_missing_privilege(vcenter: Simulation) -> None:
    vcenter.control.restrict("viewer@vsphere.local", "pw", ["System.Anonymous", "System.View", "System.Read"])
    with (
        Session(endpoint_of(vcenter, "viewer@vsphere.local"), "pw") as session,
        pytest.raises(errors.MissingPrivilege) as refused,
    ):
        apply_definitions(session, plan_definitions(session))
    assert refused.value.object_name == CATEGORY
    assert "Unauthorized" in refused.value.fault
