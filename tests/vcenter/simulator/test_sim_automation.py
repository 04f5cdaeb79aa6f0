"""The Automation half of the simulated vCenter: the SDK unmodified (JSON-RPC), and REST as curl and others speak it."""

import hashlib
import io
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from com.vmware.content.library.item_client import UpdateSessionModel
from com.vmware.content.library_client import ItemModel, StorageBacking
from com.vmware.content_client import LibraryModel
from com.vmware.vapi.std.errors_client import AlreadyExists, InvalidArgument, NotFound, Unauthenticated, Unauthorized
from com.vmware.vapi.std_client import DynamicID
from com.vmware.vcenter.ovf_client import LibraryItem
from pyVmomi import vim
from vmware.vapi.vsphere.client import create_vsphere_client

from vcenter.simulator import Simulation

DISK = b"this stands for a streamOptimized VMDK" * 100
OVF = f"""<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf">
 <References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="{len(DISK)}"/></References>
 <DiskSection><Info>d</Info><Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1"
  ovf:fileRef="file1"/></DiskSection>
 <NetworkSection><Info>n</Info><Network ovf:name="nat"><Description/></Network></NetworkSection>
 <VirtualSystem ovf:id="appliance"><Info>v</Info><Name>appliance</Name>
  <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info>o</Info></OperatingSystemSection>
  <VirtualHardwareSection><Info>h</Info>
   <System><vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>
   <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
    <rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
    <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>8192</rasd:VirtualQuantity></Item>
   <Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>3</rasd:InstanceID>
    <rasd:ResourceType>17</rasd:ResourceType></Item>
   <Item><rasd:Connection>nat</rasd:Connection><rasd:InstanceID>4</rasd:InstanceID>
    <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
   <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
   <vmw:ExtraConfig ovf:required="false" vmw:key="disk.EnableUUID" vmw:value="TRUE"/>
  </VirtualHardwareSection></VirtualSystem>
</Envelope>"""


@pytest.fixture
def http(vcenter: Simulation) -> Iterator[requests.Session]:
    with requests.Session() as session:
        # Without this, REQUESTS_CA_BUNDLE of the environment wins over the certificate given here.
        session.trust_env = False
        session.verify = str(vcenter.certificate_file)
        yield session


@pytest.fixture
def sdk(vcenter: Simulation, http: requests.Session) -> Any:
    return create_vsphere_client(
        f"{vcenter.host}:{vcenter.port}", username=vcenter.user, password=vcenter.password, session=http
    )


@pytest.fixture
def category(sdk: Any) -> str:
    spec = sdk.tagging.Category.CreateSpec(
        name="gpuferry", description="", cardinality="SINGLE", associable_types={"HostSystem", "VirtualMachine"}
    )
    return sdk.tagging.Category.create(spec)


def new_tag(sdk: Any, category: str, name: str) -> str:
    return sdk.tagging.Tag.create(sdk.tagging.Tag.CreateSpec(name=name, description="", category_id=category))


def test_logging_in_and_out(vcenter, http):
    with pytest.raises(Unauthenticated):
        create_vsphere_client(f"{vcenter.host}:{vcenter.port}", username=vcenter.user, password="no", session=http)
    client = create_vsphere_client(
        f"{vcenter.host}:{vcenter.port}", username=vcenter.user, password=vcenter.password, session=http
    )
    assert client.session_svc.get().user == vcenter.user
    assert vcenter.control.expire_sessions() == 1
    with pytest.raises(Unauthenticated):
        client.tagging.Tag.list()


def test_tags_are_attached_by_the_rules_of_their_category(sdk, category, inventory):
    server, client = new_tag(sdk, category, "gpu-server"), new_tag(sdk, category, "client")
    host = DynamicID(type="HostSystem", id=inventory.hosts[0]._moId)
    association = sdk.tagging.TagAssociation
    association.attach(server, host)
    association.attach(server, host)
    assert association.list_attached_tags(host) == [server]
    with pytest.raises(InvalidArgument):
        association.attach(client, host)
    with pytest.raises(InvalidArgument):
        association.attach(client, DynamicID(type="Datastore", id=inventory.stores["vsan-gpu"]._moId))
    with pytest.raises(NotFound):
        association.attach(client, DynamicID(type="HostSystem", id="host-1"))
    machines = [DynamicID(type="VirtualMachine", id=each._moId) for each in inventory.machines.values()]
    assert association.attach_tag_to_multiple_objects(client, machines).success
    found = association.list_attached_tags_on_objects([host, *machines])
    assert {each.object_id.id: each.tag_ids for each in found} == {
        host.id: [server],
        **{each.id: [client] for each in machines},
    }
    association.detach(server, host)
    association.detach(server, host)
    assert association.list_attached_objects(server) == []
    sdk.tagging.Tag.delete(client)
    assert association.list_attached_tags(machines[0]) == []


def test_names_are_given_once(sdk, category):
    new_tag(sdk, category, "gpu-server")
    with pytest.raises(AlreadyExists):
        new_tag(sdk, category, "gpu-server")
    with pytest.raises(AlreadyExists):
        sdk.tagging.Category.create(
            sdk.tagging.Category.CreateSpec(
                name="gpuferry", description="", cardinality="SINGLE", associable_types=set()
            )
        )
    sdk.tagging.Category.delete(category)
    assert (sdk.tagging.Category.list(), sdk.tagging.Tag.list()) == ([], [])


def test_tagging_needs_its_privileges(vcenter, http, sdk, category, inventory):
    tag = new_tag(sdk, category, "gpu-server")
    vcenter.control.restrict("tagger@vsphere.local", "secret", ["InventoryService.Tagging.AttachTag"])
    other = create_vsphere_client(
        f"{vcenter.host}:{vcenter.port}", username="tagger@vsphere.local", password="secret", session=http
    )
    other.tagging.TagAssociation.attach(tag, DynamicID(type="HostSystem", id=inventory.hosts[0]._moId))
    with pytest.raises(Unauthorized, match="CreateTag"):
        new_tag(other, category, "client")


def test_a_failure_can_be_put_anywhere(vcenter, sdk, category):
    vcenter.control.fail("com.vmware.cis.tagging.tag.create", fault=vim.fault.NotFound(msg="gone"))
    with pytest.raises(NotFound):
        new_tag(sdk, category, "gpu-server")
    new_tag(sdk, category, "gpu-server")


def test_inventory_lists(sdk, inventory):
    assert [(each.vm, each.name) for each in sdk.vcenter.VM.list()] == [
        (inventory.machines[name]._moId, name) for name in ("client-01", "client-02")
    ]
    wanted = sdk.vcenter.VM.FilterSpec(power_states={"POWERED_ON"}, hosts={inventory.hosts[0]._moId})
    assert [each.name for each in sdk.vcenter.VM.list(wanted)] == ["client-01"]
    assert [each.host for each in sdk.vcenter.Host.list()] == [each._moId for each in inventory.hosts]
    assert [each.name for each in sdk.vcenter.Cluster.list()] == ["gpu-cluster"]
    assert sdk.vcenter.Cluster.get(inventory.cluster._moId).resource_pool == inventory.pool._moId
    assert {each.name for each in sdk.vcenter.Datastore.list()} == set(inventory.stores)
    assert {each.name for each in sdk.vcenter.Network.list()} == set(inventory.networks)


# REST.


@pytest.mark.parametrize(("base", "old"), [("/api", False), ("/rest/com/vmware", True)])
def test_rest_of_both_kinds(vcenter, http, inventory, base, old):
    def value(response: requests.Response) -> Any:
        assert response.ok, response.text
        content = response.json() if response.text else None
        return content["value"] if old and content is not None else content

    def one(key: str) -> str:
        return f"id:{key}" if old else key

    def spec(parameter: str, **fields: Any) -> Any:
        return {parameter: fields} if old else fields

    action = "~action" if old else "action"
    login = f"{vcenter.url}{base}/cis/session" if old else f"{vcenter.url}/api/session"
    assert http.post(login, auth=(vcenter.user, "wrong")).status_code == 401
    token = value(http.post(login, auth=(vcenter.user, vcenter.password)))
    http.headers["vmware-api-session-id"] = token
    tagging = f"{vcenter.url}{base}/cis/tagging"
    category = value(
        http.post(
            f"{tagging}/category",
            json=spec("create_spec", name="c", description="", cardinality="MULTIPLE", associable_types=[]),
        )
    )
    tag = value(http.post(f"{tagging}/tag", json=spec("create_spec", name="t", description="", category_id=category)))
    assert value(http.get(f"{tagging}/tag/{one(tag)}"))["name"] == "t"
    target = {"type": "HostSystem", "id": inventory.hosts[0]._moId}
    association = f"{tagging}/tag-association"
    value(http.post(f"{association}/{one(tag)}?{action}=attach", json={"object_id": target}))
    assert value(http.post(f"{association}?{action}=list-attached-tags", json={"object_id": target})) == [tag]
    assert value(http.post(f"{association}/{one(tag)}?{action}=list-attached-objects")) == [target]
    value(http.patch(f"{tagging}/tag/{one(tag)}", json=spec("update_spec", name="u")))
    assert value(http.get(f"{tagging}/tag/{one(tag)}"))["name"] == "u"
    value(http.delete(f"{tagging}/tag/{one(tag)}"))
    gone = http.get(f"{tagging}/tag/{one(tag)}")
    assert gone.status_code == 404
    assert gone.json()["type" if old else "error_type"] == (
        "com.vmware.vapi.std.errors.not_found" if old else "NOT_FOUND"
    )
    machines = http.get(
        f"{vcenter.url}{'/rest' if old else '/api'}/vcenter/vm",
        params={"filter.names.1" if old else "names": "client-01"},
    )
    assert [each["power_state"] for each in value(machines)] == ["POWERED_ON"]
    assert http.get(f"{tagging}/nothing").status_code == 404
    assert http.post(f"{tagging}/category", data="{").status_code == 400
    value(http.delete(login))
    assert http.get(f"{tagging}/tag").status_code == 401


# Content library.


@pytest.fixture
def library(sdk: Any, inventory: Any) -> str:
    backing = StorageBacking(type=StorageBacking.Type.DATASTORE, datastore_id=inventory.stores["vsan-gpu"]._moId)
    spec = LibraryModel(name="images", description="", type=LibraryModel.LibraryType.LOCAL, storage_backings=[backing])
    return sdk.content.LocalLibrary.create(spec, "token-1")


def upload(
    sdk: Any, http: requests.Session, library: str, name: str, files: dict[str, bytes], sha256: bool = True
) -> tuple[str, Any]:
    """An item filled by an update session: its id, and how the session ended."""
    item = sdk.content.library.Item.create(ItemModel(library_id=library, name=name, type="ovf"))
    session = sdk.content.library.item.UpdateSession.create(UpdateSessionModel(library_item_id=item))
    file_service = sdk.content.library.item.updatesession.File
    for file_name, content in files.items():
        checksum = sdk.content.library.item.File.ChecksumInfo(
            algorithm="SHA256", checksum=hashlib.sha256(content if sha256 else b"").hexdigest()
        )
        added = file_service.add(
            session,
            file_service.AddSpec(name=file_name, source_type="PUSH", size=len(content), checksum_info=checksum),
        )
        assert http.put(added.upload_endpoint.uri, data=content).ok
    sdk.content.library.item.UpdateSession.complete(session)
    while sdk.content.library.item.UpdateSession.get(session).state == "ACTIVE":
        time.sleep(0.001)
    return item, sdk.content.library.item.UpdateSession.get(session)


def deploy(sdk: Any, inventory: Any, item: str, name: str, token: str | None = None) -> Any:
    target = LibraryItem.DeploymentTarget(
        resource_pool_id=inventory.pool._moId, host_id=inventory.hosts[1]._moId, folder_id=inventory.folder._moId
    )
    spec = LibraryItem.ResourcePoolDeploymentSpec(
        name=name,
        accept_all_eula=True,
        network_mappings={"nat": inventory.networks["dv-clients"]._moId},
        default_datastore_id=inventory.stores["vsan-gpu"]._moId,
    )
    return sdk.vcenter.ovf.LibraryItem.deploy(item, target, spec, client_token=token)


def check_machine(inventory: Any, moid: str) -> None:
    machine = vim.VirtualMachine(moid, inventory.si._stub)
    config = machine.config
    assert (config.hardware.numCPU, config.hardware.memoryMB, config.firmware) == (4, 8192, "efi")
    assert config.guestFullName == "Debian GNU/Linux 12 (64-bit)"
    assert machine.runtime.powerState == "poweredOff"
    assert machine.runtime.host == inventory.hosts[1]
    assert [each.name for each in machine.network] == ["dv-clients"]
    disk = next(each for each in config.hardware.device if isinstance(each, vim.vm.device.VirtualDisk))
    assert disk.capacityInBytes == 16 << 30


def test_a_machine_from_a_library_item(sdk, http, library, inventory):
    item, session = upload(sdk, http, library, "appliance", {"appliance.ovf": OVF.encode(), "disk.vmdk": DISK})
    assert (session.state, session.error_message) == ("DONE", None)
    assert sdk.content.library.Item.get(item).size == len(OVF) + len(DISK)
    assert sdk.content.library.Item.find(sdk.content.library.Item.FindSpec(name="appliance", library_id=library)) == [
        item
    ]
    summary = sdk.vcenter.ovf.LibraryItem.filter(
        item, LibraryItem.DeploymentTarget(resource_pool_id=inventory.pool._moId)
    )
    assert (summary.name, summary.networks) == ("appliance", ["nat"])
    result = deploy(sdk, inventory, item, "server-1", "once")
    assert result.succeeded
    check_machine(inventory, result.resource_id.id)
    assert deploy(sdk, inventory, item, "server-1", "once").resource_id.id == result.resource_id.id
    again = deploy(sdk, inventory, item, "server-1")
    assert not again.succeeded
    assert "already exists" in again.error.errors[0].message.default_message


def test_an_ova_is_unpacked(sdk, http, library, inventory):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("appliance.ovf", OVF.encode()), ("disk.vmdk", DISK)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    item, session = upload(sdk, http, library, "appliance", {"appliance.ova": packed.getvalue()})
    assert session.state == "DONE"
    assert {each.name for each in sdk.content.library.item.File.list(item)} == {"appliance.ovf", "disk.vmdk"}
    check_machine(inventory, deploy(sdk, inventory, item, "server-1").resource_id.id)


@pytest.mark.parametrize(
    ("files", "sha256", "message"),
    [
        ({"appliance.ovf": OVF.encode()}, True, "disk.vmdk"),
        ({"appliance.ovf": b"<not-ovf/>", "disk.vmdk": DISK}, True, "envelope"),
        ({"appliance.ovf": OVF.encode(), "disk.vmdk": DISK}, False, "SHA-256"),
    ],
)
def test_a_broken_upload_is_told(sdk, http, library, files, sha256, message):
    item, session = upload(sdk, http, library, "broken", files, sha256)
    assert session.state == "ERROR"
    assert message in session.error_message.default_message
    assert sdk.content.library.item.File.list(item) == []


def test_a_library_is_created_once_for_one_token(sdk, library, inventory):
    backing = StorageBacking(type=StorageBacking.Type.DATASTORE, datastore_id=inventory.stores["vsan-gpu"]._moId)
    spec = LibraryModel(name="images", type=LibraryModel.LibraryType.LOCAL, storage_backings=[backing])
    assert sdk.content.LocalLibrary.create(spec, "token-1") == library
    sdk.content.LocalLibrary.delete(library)
    assert sdk.content.Library.list() == []


# OVF import by SOAP.


def import_lease(inventory: Any) -> tuple[Any, Any]:
    mapping = vim.OvfManager.NetworkMapping(name="nat", network=inventory.networks["dv-clients"])
    params = vim.OvfManager.CreateImportSpecParams(
        locale="", deploymentOption="", entityName="imported", networkMapping=[mapping], diskProvisioning="thin"
    )
    made = inventory.content.ovfManager.CreateImportSpec(OVF, inventory.pool, inventory.stores["vsan-gpu"], params)
    assert not made.error
    lease = inventory.pool.ImportVApp(made.importSpec, inventory.folder, inventory.hosts[1])
    while lease.state == "initializing":
        time.sleep(0.001)
    return made, lease


def test_an_ovf_is_imported_through_a_lease(http, inventory):
    made, lease = import_lease(inventory)
    assert [(each.path, each.size) for each in made.fileItem] == [("disk.vmdk", len(DISK))]
    assert lease.state == "ready"
    urls = {each.importKey: each.url for each in lease.info.deviceUrl}
    assert set(urls) == {each.deviceId for each in made.fileItem}
    with pytest.raises(vim.fault.InvalidState, match="have not been uploaded"):
        lease.Complete()
    lease.Progress(50)
    assert http.put(urls[made.fileItem[0].deviceId], data=DISK).status_code == 201
    lease.Complete()
    assert lease.state == "done"
    check_machine(inventory, lease.info.entity._moId)
    assert http.put(urls[made.fileItem[0].deviceId], data=DISK).status_code == 500


def test_an_aborted_import_leaves_nothing(inventory):
    _, lease = import_lease(inventory)
    lease.Abort()
    assert lease.state == "error"
    assert "imported" not in [each.name for each in inventory.folder.childEntity]


def test_a_broken_descriptor_is_told(inventory):
    params = vim.OvfManager.CreateImportSpecParams(locale="", deploymentOption="", entityName="x")
    for text in ("<Envelope/>", "not xml", OVF.replace("vmdisk1</rasd", "other</rasd")):
        made = inventory.content.ovfManager.CreateImportSpec(text, inventory.pool, inventory.stores["vsan-gpu"], params)
        assert made.importSpec is None
        assert isinstance(made.error[0], vim.fault.OvfInvalidPackage)
