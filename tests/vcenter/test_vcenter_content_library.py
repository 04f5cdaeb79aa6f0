"""GPU servers from an OVF item of a content library, through the Automation SDK, in the simulated vCenter."""

import time
from pathlib import Path
from typing import Any

import pytest
from com.vmware.content.library.item_client import UpdateSessionModel
from com.vmware.content.library_client import ItemModel, StorageBacking
from com.vmware.content_client import LibraryModel
from ova_files import write_ova
from pyVmomi import vim

from vcenter import errors
from vcenter.certificate import requests_session
from vcenter.reading import load
from vcenter.server_plan import LibraryItem, ServerRequest, plan_server
from vcenter.server_vm import apply_server
from vcenter.session import Session
from vcenter.simulator import Simulation

REQUEST = ServerRequest(
    "from-library", LibraryItem("images", "gpu-server"), "dv-management", count=2, rdma_network="dv-pvrdma"
)


def _publish(session: Session, library: str, item: str, ova: Path) -> None:
    """Makes a library where it is missing, and fills an item of it with an OVA."""
    store = next(store.id for store in load(session).datastores.values() if store.name == "vsan-gpu")

    def publish(client: Any) -> None:
        found = client.content.Library.find(client.content.Library.FindSpec(name=library))
        backing = StorageBacking(type=StorageBacking.Type.DATASTORE, datastore_id=store)
        spec = LibraryModel(name=library, type=LibraryModel.LibraryType.LOCAL, storage_backings=[backing])
        library_id = found[0] if found else client.content.LocalLibrary.create(spec)
        item_id = client.content.library.Item.create(ItemModel(library_id=library_id, name=item, type="ovf"))
        sessions = client.content.library.item.UpdateSession
        update = sessions.create(UpdateSessionModel(library_item_id=item_id))
        files = client.content.library.item.updatesession.File
        content = ova.read_bytes()
        added = files.add(update, files.AddSpec(name=ova.name, source_type="PUSH", size=len(content)))
        with requests_session(session.endpoint.trust) as http:
            http.put(added.upload_endpoint.uri, data=content, timeout=60).raise_for_status()
        sessions.complete(update)
        for _ in range(1000):
            if sessions.get(update).state != "ACTIVE":
                break
            time.sleep(0.005)
        assert sessions.get(update).state == "DONE"

    session.rest("publishing", publish)


def test_a_server_from_a_library_item(session: Session, tmp_path: Path) -> None:
    _publish(session, "images", "gpu-server", write_ova(tmp_path / "gpu-server.ova"))
    plan = plan_server(session, load(session), REQUEST)
    assert plan.steps[0] == "deploy gpu-server of the library images, powered off"
    server = apply_server(session, plan, address_timeout=30)
    config = session.object(vim.VirtualMachine, server.id).config
    kinds = [type(device).__name__.rpartition(".")[2] for device in config.hardware.device]
    assert kinds.count("VirtualPCIPassthrough") == 2
    assert kinds.count("VirtualVmxnet3Vrdma") == 1
    assert config.annotation == "gpuferry GPU server: 2 x A100 PCIe 40GB"
    assert load(session).vms[server.id].host == load(session).host("esx-01.example.test").id
    assert plan_server(session, load(session), REQUEST).empty


def test_what_is_not_there(session: Session, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="no content library 'images'"):
        plan_server(session, load(session), REQUEST)
    _publish(session, "images", "another", write_ova(tmp_path / "another.ova"))
    with pytest.raises(errors.NotFound, match="no OVF item 'gpu-server'"):
        plan_server(session, load(session), REQUEST)


def test_a_failed_deployment_leaves_nothing_and_the_repeat_finishes(
    session: Session, vcenter: Simulation, tmp_path: Path
) -> None:
    _publish(session, "images", "gpu-server", write_ova(tmp_path / "gpu-server.ova"))
    before = set(load(session).vms)
    for failing in ("ReconfigVM_Task", "PowerOnVM_Task"):
        vcenter.control.fail(failing)
        with pytest.raises(errors.VcenterError) as failed:
            apply_server(session, plan_server(session, load(session), REQUEST), address_timeout=30)
        assert failed.value.object_name == "from-library"
        assert set(load(session).vms) == before
    assert apply_server(session, plan_server(session, load(session), REQUEST), address_timeout=30).address


def test_a_name_taken_meanwhile_is_said_in_vcenters_words(session: Session, tmp_path: Path) -> None:
    _publish(session, "images", "gpu-server", write_ova(tmp_path / "gpu-server.ova"))
    plan = plan_server(session, load(session), REQUEST)
    client = session.object(vim.VirtualMachine, load(session).vm("client-02").id)
    client.Rename_Task("from-library")
    for _ in range(500):
        if "from-library" in {vm.name for vm in load(session).vms.values()}:
            break
        time.sleep(0.01)
    with pytest.raises(errors.TaskFailed) as failed:
        apply_server(session, plan)
    assert "from-library" in failed.value.fault_message
    assert "already exists" in failed.value.fault_message
