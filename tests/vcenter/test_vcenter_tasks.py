"""The task waiter against the simulated vCenter: results, faults, time-outs, cancellation, progress."""

import threading

import pytest
from pyVmomi import vim

from vcenter import errors
from vcenter.reading import load
from vcenter.session import Session
from vcenter.simulator import Simulation
from vcenter.tasks import ProgressEvent, wait_for_task, watch


def _client(session: Session) -> vim.VirtualMachine:
    found: vim.VirtualMachine = session.object(vim.VirtualMachine, load(session).vm("client-02").id)
    return found


def test_a_result_and_progress(session: Session) -> None:
    events: list[ProgressEvent] = []
    made = wait_for_task(
        session,
        session.object(vim.VirtualMachine, load(session).template("gpuferry-template").id).CloneVM_Task(
            folder=session.object(vim.Folder, next(f.id for f in load(session).folders.values() if f.name == "vm")),
            name="copy",
            spec=vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=True),
        ),
        "Cloning",
        "copy",
        progress=events.append,
    )
    assert load(session).vms[made._moId].name == "copy"
    percents = [event.percent for event in events if event.percent is not None]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert {event.object_name for event in events} == {"copy"}


def test_a_fault_becomes_our_error(session: Session, vcenter: Simulation) -> None:
    vcenter.control.fail("PowerOnVM_Task", step="*", fault=vim.fault.InsufficientMemoryResourcesFault(msg="full"))
    with pytest.raises(errors.NoCapacity) as failed:
        wait_for_task(session, _client(session).PowerOnVM_Task(None), "Powering on", "client-02")
    assert (failed.value.object_name, failed.value.fault_message) == ("client-02", "full")


def test_time_out(session: Session, vcenter: Simulation) -> None:
    vcenter.world.pace = 30
    with pytest.raises(errors.TaskTimeout, match="1 s") as late:
        wait_for_task(session, _client(session).PowerOnVM_Task(None), "Powering on", "client-02", timeout=1)
    assert late.value.object_name == "client-02"


def test_cancelled_in_vcenter(session: Session, vcenter: Simulation) -> None:
    vcenter.world.pace = 0.5
    host = session.object(vim.HostSystem, load(session).host("esx-02.example.test").id)
    task = host.EnterMaintenanceMode_Task(0, False, None)
    threading.Timer(0.3, task.CancelTask).start()
    with pytest.raises(errors.Cancelled):
        wait_for_task(session, task, "Entering maintenance mode", "esx-02.example.test", timeout=30)


def test_waits_in_several_threads_do_not_disturb_each_other(session: Session, vcenter: Simulation) -> None:
    vcenter.world.pace = 0.05
    hosts = [
        session.object(vim.HostSystem, host.id)
        for host in load(session).hosts.values()
        if host.name != "esx-01.example.test"
    ]
    tasks = [host.EnterMaintenanceMode_Task(0, False, None) for host in hosts]
    done: list[int] = []

    def wait(number: int) -> None:
        wait_for_task(session, tasks[number], "maintenance", str(number), timeout=60)
        done.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(tasks)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(list(range(len(tasks))) * 3)
    assert {host.name for host in load(session).hosts.values() if host.in_maintenance} == {
        "esx-02.example.test",
        "esx-03.example.test",
    }


def test_an_object_that_goes_away_while_it_is_watched(session: Session, vcenter: Simulation) -> None:
    vcenter.world.pace = 0.05
    client = _client(session)
    client.Destroy_Task()
    with pytest.raises(errors.NotFound):
        for _ in watch(session, client, ("runtime.powerState",), 30):
            pass


def test_tasks_leave_no_collectors_behind(session: Session, vcenter: Simulation) -> None:
    for _ in range(3):
        wait_for_task(session, _client(session).Rename_Task("client-02"), "Renaming", "client-02")
    assert vcenter.control.count("CreatePropertyCollector") == vcenter.control.count("DestroyPropertyCollector") == 3
