"""PropertyCollector, views and sessions of the simulated vCenter."""

import threading
import time
from typing import Any

import pytest
import requests
from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask, WaitForTasks
from pyVmomi import SoapStubAdapter, VmomiSupport, vim, vmodl
from pyVmomi.SoapAdapter import SessionOrientedStub
from simulator_client import clone, connect

from vcenter.simulator import start

PC = vmodl.query.PropertyCollector


def view_filter(view: Any, paths: dict[Any, list[str]], **more: Any) -> Any:
    step = PC.TraversalSpec(name="view", type=type(view), path="view", skip=False)
    return PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[PC.PropertySpec(type=kind, pathSet=names) for kind, names in paths.items()],
        **more,
    )


def machines_view(inventory: Any) -> Any:
    content = inventory.content
    return content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)


def read(result: Any) -> dict[Any, dict[str, Any]]:
    return {each.obj: {prop.name: prop.val for prop in each.propSet} for each in result.objects}


# Retrieval.


def test_paths_reach_into_values_and_array_elements(inventory):
    view = machines_view(inventory)
    paths = ["name", "config.hardware.memoryMB", "config.hardware.device[2000].backing.fileName", "guest.ipAddress"]
    found = read(
        inventory.content.propertyCollector.RetrievePropertiesEx(
            [view_filter(view, {vim.VirtualMachine: paths})], PC.RetrieveOptions()
        )
    )
    template = found[inventory.template]
    assert template == {
        "name": "gpuferry-template",
        "config.hardware.memoryMB": 8192,
        "config.hardware.device[2000].backing.fileName": "[nfs-templates] gpuferry-template/gpuferry-template.vmdk",
    }, "what is unset is absent"


def test_pages(inventory):
    collector = inventory.content.propertyCollector
    spec = view_filter(machines_view(inventory), {vim.VirtualMachine: ["name"]})
    first = collector.RetrievePropertiesEx([spec], PC.RetrieveOptions(maxObjects=2))
    assert len(first.objects) == 2
    rest = collector.ContinueRetrievePropertiesEx(first.token)
    assert (len(rest.objects), rest.token) == (1, None)
    with pytest.raises(vmodl.fault.InvalidArgument):
        collector.ContinueRetrievePropertiesEx(first.token)
    again = collector.RetrievePropertiesEx([spec], PC.RetrieveOptions(maxObjects=1))
    collector.CancelRetrievePropertiesEx(again.token)
    with pytest.raises(vmodl.fault.InvalidArgument):
        collector.ContinueRetrievePropertiesEx(again.token)


def test_the_classic_recursive_traversal(inventory):
    """Folder to folder by a traversal that names itself: what tools did before there were views."""
    loop = PC.SelectionSpec(name="folders")
    steps = [
        PC.TraversalSpec(
            name="folders",
            type=vim.Folder,
            path="childEntity",
            skip=False,
            selectSet=[
                loop,
                PC.SelectionSpec(name="hosts"),
                PC.SelectionSpec(name="members"),
            ],
        ),
        PC.TraversalSpec(name="hosts", type=vim.Datacenter, path="hostFolder", skip=False, selectSet=[loop]),
        PC.TraversalSpec(name="members", type=vim.ComputeResource, path="host", skip=False, selectSet=[]),
    ]
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=inventory.content.rootFolder, skip=False, selectSet=steps)],
        propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])],
    )
    found = inventory.content.propertyCollector.RetrieveContents([spec])
    assert [(type(each.obj).__name__, each.propSet[0].val) for each in found] == [
        ("vim.Folder", "Datacenters"),
        ("vim.Datacenter", "DC0"),
        ("vim.Folder", "host"),
        ("vim.ClusterComputeResource", "gpu-cluster"),
        ("vim.HostSystem", "esx-01.example.test"),
        ("vim.HostSystem", "esx-02.example.test"),
        ("vim.HostSystem", "esx-03.example.test"),
    ]


def test_all_properties_of_everything_can_be_read(inventory):
    """Whatever a client asks for is encoded, decoded by pyVmomi's own types, and complete."""
    content = inventory.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.ManagedEntity], True)
    step = PC.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[PC.PropertySpec(type=vim.ManagedEntity, all=True)],
    )
    result = content.propertyCollector.RetrievePropertiesEx([spec], PC.RetrieveOptions())
    assert len(result.objects) == len(view.view)
    kinds = {type(each.obj).__name__ for each in result.objects}
    assert {"vim.HostSystem", "vim.VirtualMachine", "vim.dvs.DistributedVirtualPortgroup", "vim.ResourcePool"} <= kinds
    assert not any(each.missingSet for each in result.objects)
    assert all({"name", "parent", "overallStatus"} <= {prop.name for prop in each.propSet} for each in result.objects)


def test_attributes_and_the_collector_agree(inventory):
    host = inventory.hosts[0]
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=host)],
        propSet=[PC.PropertySpec(type=vim.HostSystem, pathSet=["summary", "config", "hardware", "runtime", "vm"])],
    )
    found = read(inventory.content.propertyCollector.RetrievePropertiesEx([spec], PC.RetrieveOptions()))[host]
    for name, value in found.items():
        assert str(getattr(host, name)) == str(value)


@pytest.mark.parametrize(
    "path", ["nothing", "config.nothing", "config.hardware.device[", "name.length", "config..name"]
)
def test_a_path_that_no_machine_has_is_refused(inventory, path):
    spec = view_filter(machines_view(inventory), {vim.VirtualMachine: [path]})
    with pytest.raises(vmodl.query.InvalidProperty) as caught:
        inventory.content.propertyCollector.RetrievePropertiesEx([spec], PC.RetrieveOptions())
    assert caught.value.name == path


def test_an_object_that_is_gone_is_named(inventory):
    machine = inventory.machines["client-02"]
    WaitForTask(machine.Destroy())
    with pytest.raises(vmodl.fault.ManagedObjectNotFound) as caught:
        _ = machine.config
    assert caught.value.obj == machine


def test_views_follow_the_inventory(inventory):
    content = inventory.content
    view = machines_view(inventory)
    assert len(view.view) == 3
    machine = clone(inventory, "server-1")
    assert machine in view.view
    by_host = content.viewManager.CreateContainerView(inventory.hosts[0], [vim.VirtualMachine], True)
    assert {each.name for each in by_host.view} == {"gpuferry-template", "client-01", "server-1"}
    WaitForTask(machine.Destroy())
    assert len(view.view) == 3
    listed = content.viewManager.CreateListView(inventory.hosts)
    listed.ModifyListView([inventory.template], inventory.hosts[:2])
    assert list(listed.view) == [inventory.hosts[2], inventory.template]
    listed.Destroy()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = listed.view


# Updates.


def changes(update: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    return [
        (each.kind, each.obj, {change.name: change.val for change in each.changeSet})
        for filter_update in update.filterSet
        for each in filter_update.objectSet
    ]


def test_updates_tell_what_enters_changes_and_leaves(inventory):
    collector = inventory.content.propertyCollector.CreatePropertyCollector()
    watched = collector.CreateFilter(
        view_filter(
            machines_view(inventory), {vim.VirtualMachine: ["name", "runtime.powerState", "config.annotation"]}
        ),
        True,
    )
    first = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0))
    assert sorted(kind for kind, _, _ in changes(first)) == ["enter"] * 3
    assert collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=0)) is None
    machine = inventory.machines["client-02"]
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(annotation="new")))
    second = collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=5))
    assert changes(second) == [("modify", machine, {"config.annotation": "new"})]
    WaitForTask(machine.Destroy())
    third = collector.WaitForUpdatesEx(second.version, PC.WaitOptions(maxWaitSeconds=5))
    assert changes(third) == [("leave", machine, {})]
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        collector.WaitForUpdatesEx("99", PC.WaitOptions(maxWaitSeconds=0))
    again = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0))
    assert sorted(kind for kind, _, _ in changes(again)) == ["enter"] * 2
    watched.Destroy()
    assert collector.WaitForUpdatesEx(again.version, PC.WaitOptions(maxWaitSeconds=0)) is None


def test_a_lost_answer_is_given_again(inventory):
    collector = inventory.content.propertyCollector.CreatePropertyCollector()
    collector.CreateFilter(view_filter(machines_view(inventory), {vim.VirtualMachine: ["name"]}), True)
    first = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0))
    WaitForTask(inventory.machines["client-02"].Rename("renamed"))
    one = collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=5))
    other = collector.WaitForUpdatesEx(first.version, PC.WaitOptions(maxWaitSeconds=5))
    assert changes(one) == changes(other) == [("modify", inventory.machines["client-02"], {"name": "renamed"})]
    assert one.version == other.version


def test_large_updates_are_cut_into_pieces(inventory):
    collector = inventory.content.propertyCollector
    collector.CreateFilter(view_filter(machines_view(inventory), {vim.VirtualMachine: ["name"]}), True)
    options = PC.WaitOptions(maxWaitSeconds=0, maxObjectUpdates=2)
    first = collector.WaitForUpdatesEx("", options)
    assert (len(changes(first)), first.truncated) == (2, True)
    second = collector.WaitForUpdatesEx(first.version, options)
    assert (len(changes(second)), bool(second.truncated)) == (1, False)


def test_a_wait_ends_when_something_changes(inventory):
    collector = inventory.content.propertyCollector
    machine = inventory.machines["client-02"]
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=machine)],
        propSet=[PC.PropertySpec(type=vim.VirtualMachine, pathSet=["guest.ipAddress", "guest.net"])],
    )
    collector.CreateFilter(spec, True)
    version = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0)).version
    threading.Timer(0.05, machine.PowerOn).start()
    update = collector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=30))
    found = changes(update)[0][2]
    assert found["guest.ipAddress"] == machine.guest.ipAddress
    assert found["guest.net"][0].ipAddress == [machine.guest.ipAddress]


def test_a_wait_can_be_canceled(inventory):
    collector = inventory.content.propertyCollector.CreatePropertyCollector()
    seen: list[Any] = []

    def wait() -> None:
        try:
            collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=60))
        except vmodl.fault.RequestCanceled as fault:
            seen.append(fault)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not seen:
        time.sleep(0.01)
        collector.CancelWaitForUpdates()
    waiting.join()
    collector.Destroy()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        collector.CheckForUpdates(None)


def test_a_client_that_hangs_up_is_not_waited_for(vcenter):
    body = """<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><WaitForUpdatesEx xmlns="urn:vim25">
        <_this type="PropertyCollector">propertyCollector</_this></WaitForUpdatesEx></Body></Envelope>"""
    session = connect(vcenter)._stub.GetSessionId()
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(vcenter.certificate_file)
        with pytest.raises(requests.exceptions.ReadTimeout):
            http.post(f"{vcenter.url}/sdk", data=body, cookies={"vmware_soap_session": session}, timeout=0.5)
    waiting = vcenter.world.changed._waiters  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while waiting:
        assert time.monotonic() < deadline, "a thread still waits for a client that is gone"
        time.sleep(0.05)


def test_many_clients_wait_at_once(vcenter, inventory):
    machine = inventory.machines["client-02"]
    seen: list[str] = []
    ready = threading.Barrier(21)

    def watch() -> None:
        collector = connect(vcenter).content.propertyCollector
        spec = PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=vim.VirtualMachine(machine._moId))],
            propSet=[PC.PropertySpec(type=vim.VirtualMachine, pathSet=["config.annotation"])],
        )
        collector.CreateFilter(spec, True)
        version = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=0)).version
        ready.wait()
        update = collector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=60))
        seen.append(changes(update)[0][2]["config.annotation"])

    threads = [threading.Thread(target=watch) for _ in range(20)]
    for each in threads:
        each.start()
    ready.wait()
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(annotation="to all")))
    for each in threads:
        each.join()
    assert seen == ["to all"] * 20


def test_tasks_report_queued_running_progress_and_end(vcenter, inventory):
    vcenter.world.pace = 0.02
    seen: list[Any] = []
    task = inventory.machines["client-02"].PowerOn()
    WaitForTask(task, onProgressUpdate=lambda each, progress: seen.append(progress))
    assert seen[0] == "created"
    assert seen[-1] == "completed"
    assert any(isinstance(each, int) and 0 < each < 100 for each in seen)
    info = task.info
    assert (info.state, info.progress, info.entityName) == ("success", 100, "client-02")
    assert info.name.info.name == "PowerOn"
    assert info.descriptionId == "VirtualMachine.powerOn"
    assert info.reason.userName == vcenter.user
    assert info.queueTime <= info.startTime <= info.completeTime
    assert task in inventory.content.taskManager.recentTask
    WaitForTasks([each.Rename(each.name + "-x") for each in inventory.machines.values()], si=inventory.si)


# Versions of the API.


def test_older_versions_see_older_fields(vcenter, inventory):
    WaitForTask(clone(inventory, "labelled").Reconfigure(vim.vm.ConfigSpec(annotation="x")))
    label = vim.host.PciPassthruConfig(id="0000:3b:00.0", passthruEnabled=True, hardwareLabel="a")
    inventory.hosts[0].configManager.pciPassthruSystem.UpdatePassthruConfig([label])
    old = SmartConnect(
        host=vcenter.host,
        port=vcenter.port,
        user=vcenter.user,
        pwd=vcenter.password,
        thumbprint=vcenter.thumbprint,
        disableSslCertValidation=True,
        preferredApiVersions=["vim.version.version12"],
    )
    assert old._stub.version == "vim.version.version12"
    host = vim.HostSystem(inventory.hosts[0]._moId, old._stub)
    found = {each.id: each for each in host.config.pciPassthruInfo}
    assert found["0000:3b:00.0"].passthruActive
    assert found["0000:3b:00.0"].hardwareLabel is None


def test_the_server_announces_its_version_and_no_newer():
    with start(api_version="7.0.3.0") as vcenter:
        instance = connect(vcenter)
        assert instance._stub.version == "vim.version.v7_0_3_0"
        assert instance.content.about.apiVersion == "7.0.3.0"
    with pytest.raises(ValueError, match=r"6\.6"), start(api_version="6.6"):
        pass


def test_every_method_is_answered(inventory):
    """Methods that are not simulated say so, by a fault every client understands."""
    with pytest.raises(vmodl.fault.NotSupported, match="AcquireMksTicket"):
        inventory.machines["client-01"].AcquireMksTicket()
    stub = inventory.si._stub
    info = VmomiSupport.Object(
        name="Nothing",
        wsdlName="Nothing",
        version="vim.version.version1",
        params=(),
        isTask=False,
        resultFlags=0,
        result=type(None),
        methodResult=type(None),
    )
    with pytest.raises(vmodl.fault.MethodNotFound):
        stub.InvokeMethod(inventory.template, info, ())


# Sessions.


def test_a_wrong_password_and_a_closed_session(vcenter):
    with pytest.raises(vim.fault.InvalidLogin):
        connect(vcenter, password="wrong")
    instance = connect(vcenter)
    assert instance.content.sessionManager.currentSession.userName == vcenter.user
    vcenter.control.expire_sessions()
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = instance.content.rootFolder.name
    assert instance.content.sessionManager.currentSession is None


def test_a_session_oriented_stub_logs_in_again(vcenter):
    plain = SoapStubAdapter(
        host=vcenter.host,
        port=vcenter.port,
        thumbprint=vcenter.thumbprint,
        version="vim.version.v8_0_3_0",
        path="/sdk",
    )

    def login(stub: Any) -> None:
        content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        content.sessionManager.Login(vcenter.user, vcenter.password, None)

    class Stub(SessionOrientedStub):
        SESSION_EXCEPTIONS = (vim.fault.NotAuthenticated,)

    instance = vim.ServiceInstance("ServiceInstance", Stub(plain, login))
    assert instance.content.rootFolder.name == "Datacenters"
    vcenter.control.expire_sessions()
    assert instance.content.rootFolder.name == "Datacenters"


def test_logging_out_takes_views_and_filters_along(vcenter):
    before = set(vcenter.world.objects)
    instance = connect(vcenter)
    content = instance.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    content.propertyCollector.CreateFilter(view_filter(view, {vim.VirtualMachine: ["name"]}), True)
    assert len(vcenter.world.objects) == len(before) + 2
    content.sessionManager.Logout()
    assert set(vcenter.world.objects) == before


def test_an_idle_session_ends(vcenter):
    instance = connect(vcenter)
    vcenter.world.objects["SessionManager"].idle_seconds = 0.01
    time.sleep(0.05)
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = instance.content.rootFolder.name


def test_messages_that_are_no_soap_are_refused(vcenter):
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(vcenter.certificate_file)
        for body in (b"", b"<", b"<a/>", b"<!DOCTYPE x [<!ENTITY y 'z'>]><a>&y;</a>"):
            answer = http.post(f"{vcenter.url}/sdk", data=body)
            assert answer.status_code == 500
            assert "InvalidRequestFault" in answer.text
