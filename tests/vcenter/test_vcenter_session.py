"""Session against the simulated vCenter over HTTPS: trust, login, expiry, what is repeated and what never is,
privileges.
"""

import pickle
from pathlib import Path

import pytest
from conftest import endpoint_of
from pyVmomi import vim

from vcenter import errors, privileges, versions
from vcenter.certificate import Trust, fetch_thumbprint, normal_thumbprint, shown
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.reading import load
from vcenter.session import Endpoint, Session
from vcenter.simulator import Simulation, start
from vcenter.versions import Feature


def test_login_with_a_pinned_certificate(session: Session, vcenter: Simulation) -> None:
    assert session.api_version == "8.0.3.0"
    assert session.stub.version == "vim.version.v8_0_3_0"
    assert session.content.sessionManager.currentSession.userName
    assert vcenter.control.count("Login") == 1


def test_login_with_a_ca_file(vcenter: Simulation) -> None:
    trust = Trust(ca_file=str(vcenter.certificate_file))
    with Session(Endpoint(vcenter.host, vcenter.user, vcenter.port, trust), vcenter.password) as session:
        assert session.about.apiType == "VirtualCenter"


def test_a_certificate_nobody_vouches_for_is_refused_before_the_password_is_sent(vcenter: Simulation) -> None:
    with pytest.raises(errors.CertificateUntrusted) as refused:
        Session(Endpoint(vcenter.host, vcenter.user, vcenter.port), vcenter.password)
    assert str(vcenter.port) in refused.value.object_name
    assert vcenter.control.calls == {}


def test_wrong_password(vcenter: Simulation) -> None:
    with pytest.raises(errors.WrongPassword) as refused:
        Session(endpoint_of(vcenter), "not it")
    assert refused.value.fault == "vim.fault.InvalidLogin"
    assert refused.value.object_name == f"{vcenter.host}:{vcenter.port}"
    assert vcenter.user in str(refused.value)
    assert "not it" not in str(refused.value)


def test_a_changed_certificate_is_refused_and_nothing_is_sent(vcenter: Simulation) -> None:
    with Session(endpoint_of(vcenter), vcenter.password) as session:
        port = vcenter.port
        vcenter.server.stop()
        with start(port=port) as impostor:
            session.stub.DropConnections()
            with pytest.raises(errors.CertificateChanged) as refused:
                load(session)
            assert shown(vcenter.thumbprint) in str(refused.value)
            assert shown(impostor.thumbprint) in str(refused.value)
            with pytest.raises(errors.CertificateChanged):
                Session(endpoint_of(vcenter), vcenter.password)
            assert impostor.control.calls == {}


def test_every_new_connection_of_a_pinned_session_is_checked(vcenter: Simulation) -> None:
    """pyVmomi's own thumbprint check looks at the first connection only; ours at each."""
    wrong = Trust(thumbprint="0" * 64)
    with Session(endpoint_of(vcenter), vcenter.password) as session:
        good = session.stub.soap.scheme
        session.stub.soap.scheme = type(session.stub.soap)(
            Endpoint(vcenter.host, "", vcenter.port, wrong), session.stub.version
        ).scheme
        session.stub.DropConnections()
        for _ in range(2):
            with pytest.raises(errors.CertificateChanged), session.doing("reading"):
                session.content.sessionManager.currentSession  # noqa: B018 - the read is the call
        session.stub.soap.scheme = good


def test_nobody_there() -> None:
    with pytest.raises(errors.Unreachable) as lost:
        Session(Endpoint("127.0.0.1", "u", 1, Trust(thumbprint="0" * 64)), "p")
    assert lost.value.object_name == "127.0.0.1:1"


def test_thumbprints(vcenter: Simulation) -> None:
    seen = fetch_thumbprint(vcenter.host, vcenter.port)
    assert seen == vcenter.thumbprint.replace(":", "").lower()
    assert normal_thumbprint(shown(seen)) == seen
    for bad in ("", "00:11", "g" * 64, vcenter.thumbprint_sha1):
        with pytest.raises(errors.InvalidRequest):
            normal_thumbprint(bad)
    with pytest.raises(errors.InvalidRequest):
        Trust(thumbprint=seen, ca_file="ca.pem")


def test_the_session_logs_in_again_after_expiry_and_the_call_is_made_once(
    session: Session, vcenter: Simulation
) -> None:
    assert vcenter.control.expire_sessions() == 1
    assert len(load(session).hosts) == 3
    assert vcenter.control.count("Login") == 2
    assert vcenter.control.expire_sessions() == 1
    plan = plan_passthrough(session, load(session), "esx-02.example.test")
    vcenter.control.expire_sessions()
    apply_passthrough(session, plan)
    assert vcenter.control.count("UpdatePassthruConfig") == 2  # refused once for want of a session, then done


def test_expiry_with_a_changed_password(session: Session, vcenter: Simulation) -> None:
    vcenter.control.set_password(vcenter.user, "another")
    vcenter.control.expire_sessions()
    with pytest.raises(errors.WrongPassword):
        load(session)


def test_reading_is_repeated_after_a_lost_answer(session: Session, vcenter: Simulation) -> None:
    vcenter.control.lose_answer("RetrievePropertiesEx", times=2)
    assert len(load(session).gpus()) == 6
    assert vcenter.control.count("RetrievePropertiesEx") == 3


def test_a_change_is_never_sent_twice(session: Session, vcenter: Simulation) -> None:
    plan = plan_passthrough(session, load(session), "esx-02.example.test")
    vcenter.control.lose_answer("UpdatePassthruConfig")
    with pytest.raises(errors.Unreachable) as lost:
        apply_passthrough(session, plan)
    assert lost.value.object_name == "esx-02.example.test"
    assert vcenter.control.count("UpdatePassthruConfig") == 1
    # The change had been made; the repeat sees so and does nothing.
    again = plan_passthrough(session, load(session), "esx-02.example.test")
    assert again.empty


def test_missing_privileges_are_named_with_their_objects(vcenter: Simulation) -> None:
    everything = {
        privilege
        for table in (
            privileges.ON_HOST,
            privileges.ON_FOLDER,
            privileges.ON_POOL,
            privileges.ON_CLUSTER,
            privileges.ON_DATASTORE,
            privileges.ON_NETWORK,
            privileges.ON_ROOT,
        )
        for privilege in table
    } | {"System.Anonymous", "System.View", "System.Read"}
    lacking = {"Host.Config.PciPassthru", "Network.Assign", "InventoryService.Tagging.AttachTag"}
    vcenter.control.restrict("full@vsphere.local", "pw", sorted(everything))
    vcenter.control.restrict("less@vsphere.local", "pw", sorted(everything - lacking))
    with Session(endpoint_of(vcenter, "full@vsphere.local"), "pw") as session:
        assert privileges.missing_privileges(session, load(session)) == []
    with Session(endpoint_of(vcenter, "less@vsphere.local"), "pw") as session:
        inventory = load(session)
        before = session.calls.total()
        missing = privileges.missing_privileges(session, inventory)
        assert session.calls.total() - before == 2
        assert {lack.privilege for lack in missing} == lacking
        assert {lack.object_name for lack in missing if lack.privilege == "Host.Config.PciPassthru"} == {
            "esx-01.example.test",
            "esx-02.example.test",
            "esx-03.example.test",
        }
        assert {lack.object_name for lack in missing if lack.privilege == "Network.Assign"} == {
            "VM Network",
            "dv-management",
            "dv-clients",
            "dv-pvrdma",
        }
        plan = plan_passthrough(session, inventory, "esx-02.example.test")
        with pytest.raises(errors.MissingPrivilege) as refused:
            apply_passthrough(session, plan)
        assert refused.value.privilege == "Host.Config.PciPassthru"
        assert refused.value.object_name == "esx-02.example.test"
        assert refused.value.fault == "vim.fault.NoPermission"
        assert "Host.Config.PciPassthru on esx-02.example.test" in refused.value.remedy


def test_an_old_vcenter_is_told_apart(tmp_path: Path) -> None:
    with start(api_version="6.7", pace=0.001) as old, Session(endpoint_of(old), old.password) as session:
        assert not session.has(Feature.DYNAMIC_PASSTHROUGH)
        with pytest.raises(errors.ApiTooOld) as refused:
            session.require(Feature.HARDWARE_LABEL)
        assert "6.7" in str(refused.value)
        # Its inventory is read without the properties that it does not know.
        assert len(load(session).gpus()) == 6
        assert versions.negotiated(session.api_version) == "vim.version.version12"


def test_errors_survive_pickling_and_carry_no_vsphere_objects() -> None:
    fault = vim.fault.NoPermission(privilegeId="Host.Config.Maintenance", msg="Permission denied")
    error = errors.from_fault(fault, "Entering maintenance mode failed.", "esx-01")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is errors.MissingPrivilege
    assert str(again) == str(error)
    assert again.as_dict() == error.as_dict()
    assert again.privilege == "Host.Config.Maintenance"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (vim.fault.InvalidLogin(), errors.WrongPassword),
        (vim.fault.NoPermission(), errors.MissingPrivilege),
        (vim.fault.DuplicateName(name="x"), errors.NameTaken),
        (vim.fault.InsufficientMemoryResourcesFault(), errors.NoCapacity),
        (vim.fault.NoDiskSpace(), errors.NoCapacity),
        (vim.fault.ResourceInUse(), errors.DeviceInUse),
        (vim.fault.NotFound(), errors.NotFound),
        (vim.fault.Timedout(), errors.TaskTimeout),
        (vim.fault.GenericVmConfigFault(), errors.TaskFailed),
    ],
)
def test_each_fault_becomes_its_own_error(fault: Exception, kind: type[errors.VcenterError]) -> None:
    error = errors.from_fault(fault, "It failed.", "vm-1")
    assert type(error) is kind
    assert error.fault == type(fault).__name__
    assert error.object_name == "vm-1"
    assert error.remedy
