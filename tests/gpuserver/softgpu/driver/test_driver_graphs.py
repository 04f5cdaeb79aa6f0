"""Graphs: built node by node, captured, launched, changed."""

from __future__ import annotations

import ctypes
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu

MODE = cu.CUstreamCaptureMode
GLOBAL, THREAD, RELAXED = (
    MODE.CU_STREAM_CAPTURE_MODE_GLOBAL,
    MODE.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
    MODE.CU_STREAM_CAPTURE_MODE_RELAXED,
)
KEPT: list[object] = []  # callbacks must live as long as the graphs that call them


def host_node(graph: object, after: list[object], action: object) -> object:
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(action)
    KEPT.append(function)
    parameters = cu.CUDA_HOST_NODE_PARAMS()
    parameters.fn = cu.CUhostFn(ctypes.cast(function, ctypes.c_void_p).value)
    return ok(cu.cuGraphAddHostNode(graph, after, len(after), parameters))


def set_parameters(address: int, value: int, count: int) -> cu.CUDA_MEMSET_NODE_PARAMS:
    parameters = cu.CUDA_MEMSET_NODE_PARAMS()
    parameters.dst, parameters.value, parameters.elementSize = address, value, 4
    parameters.width, parameters.height = count, 1
    return parameters


def copy_parameters(to: int, source: int, size: int) -> cu.CUDA_MEMCPY3D:
    parameters = cu.CUDA_MEMCPY3D()
    parameters.srcMemoryType = parameters.dstMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE
    parameters.srcDevice, parameters.dstDevice = source, to
    parameters.WidthInBytes, parameters.Height, parameters.Depth = size, 1, 1
    return parameters


def words(address: int, count: int) -> list[int]:
    values = np.zeros(count, np.uint32)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes))
    return values.tolist()


def handles(result: object) -> set[int]:
    return {int(handle) for handle in result}


@software_gpu()
def test_nodes_run_after_what_they_depend_on() -> None:
    context = primary()
    a, b = int(ok(cu.cuMemAlloc(64))), int(ok(cu.cuMemAlloc(64)))
    seen: list[str] = []
    graph = ok(cu.cuGraphCreate(0))
    first = ok(cu.cuGraphAddMemsetNode(graph, [], 0, set_parameters(a, 7, 16), context))
    left = ok(cu.cuGraphAddMemcpyNode(graph, [first], 1, copy_parameters(b, a, 32), context))
    right = ok(cu.cuGraphAddMemcpyNode(graph, [first], 1, copy_parameters(b + 32, a, 32), context))
    join = ok(cu.cuGraphAddEmptyNode(graph, [left, right], 2))
    last = host_node(graph, [join], lambda _: seen.append("end"))
    assert ok(cu.cuGraphGetNodes(graph))[1] == 5
    roots, count = ok(cu.cuGraphGetRootNodes(graph, 5))
    assert (handles(roots[:count]), count) == ({int(first)}, 1)
    found, _, count = ok(cu.cuGraphNodeGetDependencies(join, 5))
    assert handles(found[:count]) == {int(left), int(right)}
    found, _, count = ok(cu.cuGraphNodeGetDependentNodes(first, 5))
    assert handles(found[:count]) == {int(left), int(right)}
    assert ok(cu.cuGraphGetEdges(graph))[-1] == 5
    assert ok(cu.cuGraphNodeGetType(last)) == cu.CUgraphNodeType.CU_GRAPH_NODE_TYPE_HOST
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphDestroy(graph))
    refused(cu.cuGraphNodeGetType(first), "INVALID_VALUE")
    for _ in range(3):
        ok(cu.cuMemsetD8(b, 0, 64))
        ok(cu.cuGraphLaunch(program, 0))
        ok(cu.cuStreamSynchronize(0))
        assert words(b, 16) == [7] * 16
    assert seen == ["end"] * 3
    ok(cu.cuGraphExecDestroy(program))
    refused(cu.cuGraphLaunch(program, 0), "INVALID_VALUE")


@software_gpu()
def test_branches_run_at_the_same_time() -> None:
    primary()
    meeting = threading.Barrier(2, timeout=60)
    met: list[int] = []
    graph = ok(cu.cuGraphCreate(0))
    for _ in range(2):
        host_node(graph, [], lambda _: met.append(meeting.wait()))
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphLaunch(program, 0))
    ok(cu.cuStreamSynchronize(0))
    assert sorted(met) == [0, 1]


@software_gpu()
def test_edges_are_added_and_removed() -> None:
    primary()
    graph, other = ok(cu.cuGraphCreate(0)), ok(cu.cuGraphCreate(0))
    a, b, c = (ok(cu.cuGraphAddEmptyNode(graph, [], 0)) for _ in range(3))
    foreign = ok(cu.cuGraphAddEmptyNode(other, [], 0))
    plain = [cu.CUgraphEdgeData()]
    ok(cu.cuGraphAddDependencies(graph, [a], [b], plain, 1))
    ok(cu.cuGraphAddDependencies(graph, [b], [c], plain, 1))
    refused(cu.cuGraphAddDependencies(graph, [a], [b], plain, 1), "INVALID_VALUE")
    refused(cu.cuGraphAddDependencies(graph, [c], [a], plain, 1), "INVALID_VALUE")
    refused(cu.cuGraphAddDependencies(graph, [a], [a], plain, 1), "INVALID_VALUE")
    refused(cu.cuGraphAddDependencies(graph, [a], [foreign], plain, 1), "INVALID_VALUE")
    refused(cu.cuGraphAddEmptyNode(graph, [foreign], 1), "INVALID_VALUE")
    refused(cu.cuGraphAddEmptyNode(graph, [a, a], 2), "INVALID_VALUE")
    ok(cu.cuGraphRemoveDependencies(graph, [a], [b], plain, 1))
    refused(cu.cuGraphRemoveDependencies(graph, [a], [b], plain, 1), "INVALID_VALUE")
    ok(cu.cuGraphDestroyNode(b))
    assert ok(cu.cuGraphGetNodes(graph))[1] == 2
    assert ok(cu.cuGraphGetRootNodes(graph))[1] == 2
    refused(cu.cuGraphDestroyNode(b), "INVALID_VALUE")


@software_gpu()
def test_clones_and_child_graphs() -> None:
    context = primary()
    a = int(ok(cu.cuMemAlloc(64)))
    inner = ok(cu.cuGraphCreate(0))
    one = ok(cu.cuGraphAddMemsetNode(inner, [], 0, set_parameters(a, 1, 16), context))
    ok(cu.cuGraphAddMemsetNode(inner, [one], 1, set_parameters(a, 2, 8), context))
    clone = ok(cu.cuGraphClone(inner))
    twin = ok(cu.cuGraphNodeFindInClone(one, clone))
    assert int(twin) != int(one)
    refused(cu.cuGraphNodeFindInClone(twin, clone), "INVALID_VALUE")
    outer = ok(cu.cuGraphCreate(0))
    child = ok(cu.cuGraphAddChildGraphNode(outer, [], 0, inner))
    after = ok(cu.cuGraphAddMemsetNode(outer, [child], 1, set_parameters(a, 3, 4), context))
    embedded = ok(cu.cuGraphChildGraphNodeGetGraph(child))
    refused(cu.cuGraphDestroy(embedded), "INVALID_VALUE")
    ok(cu.cuGraphDestroy(inner))
    program = ok(cu.cuGraphInstantiate(outer, 0))
    ok(cu.cuGraphLaunch(program, 0))
    assert words(a, 16) == [3] * 4 + [2] * 4 + [1] * 8
    other = ok(cu.cuGraphCreate(0))
    first = ok(cu.cuGraphAddMemsetNode(other, [], 0, set_parameters(a, 5, 16), context))
    ok(cu.cuGraphAddMemsetNode(other, [first], 1, set_parameters(a, 6, 8), context))
    ok(cu.cuGraphExecChildGraphNodeSetParams(program, child, other))
    ok(cu.cuGraphNodeSetEnabled(program, after, 0))
    assert ok(cu.cuGraphNodeGetEnabled(program, after)) == 0
    ok(cu.cuGraphLaunch(program, 0))
    assert words(a, 16) == [6] * 8 + [5] * 8


@software_gpu()
def test_parameters_change_in_graph_and_program() -> None:
    context = primary()
    a, b = int(ok(cu.cuMemAlloc(64))), int(ok(cu.cuMemAlloc(64)))
    graph = ok(cu.cuGraphCreate(0))
    fill = ok(cu.cuGraphAddMemsetNode(graph, [], 0, set_parameters(a, 1, 16), context))
    copy = ok(cu.cuGraphAddMemcpyNode(graph, [fill], 1, copy_parameters(b, a, 64), context))
    told = ok(cu.cuGraphMemsetNodeGetParams(fill))
    assert (int(told.dst), told.value, told.width) == (a, 1, 16)
    assert int(ok(cu.cuGraphMemcpyNodeGetParams(copy)).dstDevice) == b
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphMemsetNodeSetParams(fill, set_parameters(a, 2, 16)))
    ok(cu.cuGraphLaunch(program, 0))
    assert words(b, 16) == [1] * 16
    result = ok(cu.cuGraphExecUpdate(program, graph))
    assert result.result == cu.CUgraphExecUpdateResult.CU_GRAPH_EXEC_UPDATE_SUCCESS
    ok(cu.cuGraphLaunch(program, 0))
    assert words(b, 16) == [2] * 16
    ok(cu.cuGraphExecMemsetNodeSetParams(program, fill, set_parameters(a, 3, 16), context))
    ok(cu.cuGraphExecMemcpyNodeSetParams(program, copy, copy_parameters(b, a, 32), context))
    ok(cu.cuGraphLaunch(program, 0))
    assert words(b, 16) == [3] * 8 + [2] * 8
    refused(cu.cuGraphHostNodeGetParams(fill), "INVALID_VALUE")
    ok(cu.cuGraphAddEmptyNode(graph, [], 0))
    refused(cu.cuGraphExecUpdate(program, graph), "GRAPH_EXEC_UPDATE_FAILURE")


@software_gpu()
def test_a_launch_keeps_the_parameters_it_was_made_with() -> None:
    context = primary()
    a = int(ok(cu.cuMemAlloc(64)))
    stream = ok(cu.cuStreamCreate(1))
    word = ctypes.c_uint32.from_address(int(ok(cu.cuMemHostAlloc(64, 0))))
    word.value = 0
    graph = ok(cu.cuGraphCreate(0))
    fill = ok(cu.cuGraphAddMemsetNode(graph, [], 0, set_parameters(a, 1, 16), context))
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuStreamWaitValue32(stream, ctypes.addressof(word), 1, 0))
    ok(cu.cuGraphLaunch(program, stream))
    ok(cu.cuGraphExecMemsetNodeSetParams(program, fill, set_parameters(a, 2, 16), context))
    ok(cu.cuGraphExecDestroy(program))
    ok(cu.cuGraphDestroy(graph))
    word.value = 1
    ok(cu.cuStreamSynchronize(stream))
    assert words(a, 16) == [1] * 16


@software_gpu()
def test_events_in_graphs() -> None:
    primary()
    inside, outside = ok(cu.cuEventCreate(2)), ok(cu.cuEventCreate(2))
    gate = ctypes.c_uint32.from_address(int(ok(cu.cuMemHostAlloc(64, 0))))
    gate.value = 0
    stream, free = ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(1))
    graph = ok(cu.cuGraphCreate(0))
    wait = ok(cu.cuGraphAddEventWaitNode(graph, [], 0, outside))
    record = ok(cu.cuGraphAddEventRecordNode(graph, [wait], 1, inside))
    assert int(ok(cu.cuGraphEventRecordNodeGetEvent(record))) == int(inside)
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuStreamWaitValue32(free, ctypes.addressof(gate), 1, 0))
    ok(cu.cuEventRecord(outside, free))
    ok(cu.cuGraphLaunch(program, stream))
    refused(cu.cuEventQuery(inside), "NOT_READY")
    gate.value = 1
    ok(cu.cuEventSynchronize(inside))
    ok(cu.cuStreamSynchronize(stream))


@software_gpu(devices="2", memory_mib="64")
def test_memory_of_graphs_is_shared_as_asked() -> None:
    """Another GPU reads what a graph's allocation holds; who may is told back."""
    primary(1)
    peer = ok(cu.cuStreamCreate(1))
    primary(0)
    graph = ok(cu.cuGraphCreate(0))
    access = cu.CUmemAccessDesc()
    access.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = 1
    access.flags = cu.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    parameters = cu.CUDA_MEM_ALLOC_NODE_PARAMS()
    parameters.poolProps.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    parameters.poolProps.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    parameters.bytesize = 64
    parameters.accessDescs = [access]
    parameters.accessDescCount = 1
    node = ok(cu.cuGraphAddMemAllocNode(graph, [], 0, parameters))
    told = ok(cu.cuGraphMemAllocNodeGetParams(node))
    assert told.accessDescCount == 1
    # Behind the pool's properties: where the rights are (kind of location, its number, flags). The bindings show none.
    rights = ctypes.c_uint64.from_address(told.getPtr() + 88).value
    assert list((ctypes.c_int * 3).from_address(rights)) == [1, 1, 3]
    assert told.poolProps.location.id == 0
    address = int(told.dptr)
    ok(cu.cuGraphLaunch(ok(cu.cuGraphInstantiate(graph, 0)), 0))
    ok(cu.cuStreamSynchronize(0))
    primary(1)
    ok(cu.cuMemsetD32Async(address, 6, 16, peer))
    ok(cu.cuStreamSynchronize(peer))
    primary(0)
    assert words(address, 16) == [6] * 16
    ok(cu.cuMemFree(address))
    access.location.id = 9
    parameters.accessDescs = [access]
    refused(cu.cuGraphAddMemAllocNode(graph, [], 0, parameters), "INVALID_DEVICE")


@software_gpu(memory_mib="128")
def test_graphs_allocate_memory() -> None:
    context = primary()
    graph = ok(cu.cuGraphCreate(0))
    parameters = cu.CUDA_MEM_ALLOC_NODE_PARAMS()
    parameters.poolProps.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    parameters.poolProps.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    parameters.bytesize = 64
    alloc = ok(cu.cuGraphAddMemAllocNode(graph, [], 0, parameters))
    address = int(ok(cu.cuGraphMemAllocNodeGetParams(alloc)).dptr)
    assert address
    fill = ok(cu.cuGraphAddMemsetNode(graph, [alloc], 1, set_parameters(address, 4, 16), context))
    refused(cu.cuGraphClone(graph), "NOT_SUPPORTED")
    refused(cu.cuGraphDestroyNode(alloc), "INVALID_VALUE")
    keeps = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphLaunch(keeps, 0))
    assert words(address, 16) == [4] * 16
    refused(cu.cuGraphLaunch(keeps, 0), "INVALID_VALUE")
    ok(cu.cuMemFreeAsync(address, 0))
    ok(cu.cuGraphLaunch(keeps, 0))
    ok(cu.cuMemFree(address))
    again = ok(cu.cuGraphInstantiate(graph, 1))  # frees what it allocated before it runs again
    ok(cu.cuGraphLaunch(again, 0))
    ok(cu.cuGraphLaunch(again, 0))
    ok(cu.cuStreamSynchronize(0))
    ok(cu.cuMemFree(address))
    free = ok(cu.cuGraphAddMemFreeNode(graph, [fill], 1, address))
    refused(cu.cuGraphAddMemFreeNode(graph, [free], 1, address), "INVALID_VALUE")
    refused(cu.cuGraphAddMemFreeNode(graph, [fill], 1, 4096), "INVALID_VALUE")
    whole = ok(cu.cuGraphInstantiate(graph, 0))
    for _ in range(3):
        ok(cu.cuGraphLaunch(whole, 0))
    ok(cu.cuCtxSynchronize())
    for program in (keeps, again, whole):
        ok(cu.cuGraphExecDestroy(program))
    ok(cu.cuGraphDestroy(graph))
    ok(cu.cuDeviceGraphMemTrim(0))
    assert ok(cu.cuMemGetInfo())[0] == 128 << 20


@software_gpu()
def test_user_objects_live_as_long_as_graphs_hold_them() -> None:
    primary()
    gone: list[int] = []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: gone.append(data or 0))
    destroy = cu.CUhostFn(ctypes.cast(function, ctypes.c_void_p).value)
    thing = ok(cu.cuUserObjectCreate(55, destroy, 1, 1))
    graph = ok(cu.cuGraphCreate(0))
    ok(cu.cuGraphRetainUserObject(graph, thing, 2, 0))
    ok(cu.cuUserObjectRelease(thing, 1))
    ok(cu.cuGraphReleaseUserObject(graph, thing, 1))
    refused(cu.cuGraphReleaseUserObject(graph, thing, 5), "INVALID_VALUE")
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphDestroy(graph))
    assert not gone
    ok(cu.cuGraphExecDestroy(program))
    assert gone == [55]
    refused(cu.cuUserObjectRetain(thing, 1), "INVALID_VALUE")


@software_gpu()
def test_the_picture_names_nodes_and_edges() -> None:
    primary()
    graph = ok(cu.cuGraphCreate(0))
    a = ok(cu.cuGraphAddEmptyNode(graph, [], 0))
    ok(cu.cuGraphAddEmptyNode(graph, [a], 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        ok(cu.cuGraphDebugDotPrint(graph, str(path).encode(), 0))
        text = path.read_text()
    assert text.startswith("digraph")
    assert text.count("EMPTY") == 2
    assert text.count("->") == 1


# --- capture


@software_gpu()
def test_capture_records_instead_of_running() -> None:
    primary()
    a, b = int(ok(cu.cuMemAlloc(64))), int(ok(cu.cuMemAlloc(64)))
    ok(cu.cuMemsetD32(b, 9, 16))
    stream, other = ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(1))
    fork, join = ok(cu.cuEventCreate(2)), ok(cu.cuEventCreate(2))
    assert ok(cu.cuStreamIsCapturing(stream)) == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    ok(cu.cuMemsetD32Async(a, 3, 16, stream))
    ok(cu.cuEventRecord(fork, stream))
    ok(cu.cuStreamWaitEvent(other, fork, 0))
    ok(cu.cuMemcpyDtoDAsync(b, a, 32, stream))
    ok(cu.cuMemcpyDtoDAsync(b + 32, a, 32, other))
    ok(cu.cuEventRecord(join, other))
    ok(cu.cuStreamWaitEvent(stream, join, 0))
    status, number, graph, _, _, count = ok(cu.cuStreamGetCaptureInfo(stream))
    assert status == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
    assert int(number) > 0
    assert count == 2
    assert ok(cu.cuStreamIsCapturing(other)) == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
    captured = ok(cu.cuStreamEndCapture(stream))
    assert int(captured) == int(graph)
    assert ok(cu.cuStreamIsCapturing(other)) == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    assert words(b, 16) == [9] * 16
    assert ok(cu.cuGraphGetNodes(captured))[1] == 3
    assert ok(cu.cuGraphGetEdges(captured))[-1] == 2
    program = ok(cu.cuGraphInstantiate(captured, 0))
    ok(cu.cuGraphLaunch(program, other))
    ok(cu.cuStreamSynchronize(other))
    assert words(b, 16) == [3] * 16


@software_gpu()
def test_capture_keeps_errors_apart() -> None:
    primary()
    stream, other = ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(1))
    event = ok(cu.cuEventCreate(0))
    refused(cu.cuStreamBeginCapture(0, GLOBAL), "STREAM_CAPTURE_UNSUPPORTED")
    refused(cu.cuStreamEndCapture(stream), "ILLEGAL_STATE")

    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    refused(cu.cuStreamBeginCapture(stream, GLOBAL), "ILLEGAL_STATE")
    refused(cu.cuStreamSynchronize(stream), "STREAM_CAPTURE_UNSUPPORTED")
    refused(cu.cuMemsetD8Async(0, 0, 0, stream), "STREAM_CAPTURE_INVALIDATED")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")

    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    refused(cu.cuMemAlloc(64), "STREAM_CAPTURE_UNSUPPORTED")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")

    ok(cu.cuEventRecord(event, other))
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    refused(cu.cuStreamWaitEvent(stream, event, 0), "STREAM_CAPTURE_ISOLATION")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")

    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    ok(cu.cuEventRecord(event, stream))
    refused(cu.cuEventQuery(event), "CAPTURED_EVENT")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")

    address = ok(cu.cuMemAlloc(64))
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    ok(cu.cuMemsetD8Async(address, 0, 64, stream))
    ok(cu.cuEventRecord(event, stream))
    ok(cu.cuStreamWaitEvent(other, event, 0))
    ok(cu.cuMemsetD8Async(address, 1, 64, other))
    refused(cu.cuStreamEndCapture(other), "STREAM_CAPTURE_UNMATCHED")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")

    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    ok(cu.cuMemsetD8Async(address, 0, 64, stream))
    ok(cu.cuEventRecord(event, stream))
    ok(cu.cuStreamWaitEvent(other, event, 0))
    ok(cu.cuMemsetD8Async(address, 1, 64, other))
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_UNJOINED")
    ok(cu.cuMemsetD8Async(address, 1, 64, other))
    ok(cu.cuCtxSynchronize())


@software_gpu()
def test_the_legacy_stream_may_not_meet_a_capture() -> None:
    primary()
    address = ok(cu.cuMemAlloc(64))
    stream = ok(cu.cuStreamCreate(0))
    ok(cu.cuStreamBeginCapture(stream, RELAXED))
    refused(cu.cuStreamIsCapturing(0), "STREAM_CAPTURE_IMPLICIT")
    assert ok(cu.cuStreamIsCapturing(stream)) == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
    refused(cu.cuMemsetD8Async(address, 0, 64, 0), "STREAM_CAPTURE_IMPLICIT")
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")
    free = ok(cu.cuStreamCreate(1))
    ok(cu.cuStreamBeginCapture(free, RELAXED))
    ok(cu.cuMemsetD8Async(address, 0, 64, 0))
    ok(cu.cuStreamEndCapture(free))


@software_gpu()
def test_capture_modes_and_threads() -> None:
    context = primary()
    stream = ok(cu.cuStreamCreate(1))
    results: list[str] = []

    def elsewhere(*calls: object) -> None:
        def run() -> None:
            ok(cu.cuCtxSetCurrent(context))
            results.extend(call()[0].name for call in calls)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    ok(cu.cuStreamBeginCapture(stream, THREAD))
    elsewhere(lambda: cu.cuMemAlloc(64), lambda: cu.cuStreamEndCapture(stream))
    assert results == ["CUDA_SUCCESS", "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"]
    assert ok(cu.cuThreadExchangeStreamCaptureMode(RELAXED)) == GLOBAL
    ok(cu.cuMemAlloc(64))
    assert ok(cu.cuThreadExchangeStreamCaptureMode(GLOBAL)) == RELAXED
    ok(cu.cuStreamEndCapture(stream))
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    elsewhere(lambda: cu.cuMemAlloc(64))
    assert results[-1] == "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
    refused(cu.cuStreamEndCapture(stream), "STREAM_CAPTURE_INVALIDATED")
    ok(cu.cuStreamBeginCapture(stream, RELAXED))
    ok(cu.cuMemAlloc(64))
    elsewhere(lambda: cu.cuStreamEndCapture(stream))
    assert results[-1] == "CUDA_SUCCESS"


@software_gpu()
def test_a_capture_ends_with_its_stream() -> None:
    context = primary()
    stream = ok(cu.cuStreamCreate(1))
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    refused(cu.cuMemAlloc(64), "STREAM_CAPTURE_UNSUPPORTED")
    ok(cu.cuStreamDestroy(stream))
    ok(cu.cuMemAlloc(64))

    def forget() -> None:
        ok(cu.cuCtxSetCurrent(context))
        ok(cu.cuStreamBeginCapture(cu.CUstream(2), GLOBAL))

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join()
    # Python's join returns before the thread itself has ended, and with it its default stream.
    for _ in range(200):
        if cu.cuMemAlloc(64)[0] == cu.CUresult.CUDA_SUCCESS:
            break
        time.sleep(0.05)
    ok(cu.cuMemAlloc(64))
    ok(cu.cuStreamBeginCapture(ok(cu.cuStreamCreate(1)), GLOBAL))
    ok(cu.cuDevicePrimaryCtxReset(0))
    primary()
    ok(cu.cuMemAlloc(64))


@software_gpu()
def test_capture_into_a_graph_with_given_dependencies() -> None:
    context = primary()
    address = int(ok(cu.cuMemAlloc(64)))
    graph = ok(cu.cuGraphCreate(0))
    first = ok(cu.cuGraphAddMemsetNode(graph, [], 0, set_parameters(address, 1, 16), context))
    stream = ok(cu.cuStreamCreate(1))
    ok(cu.cuStreamBeginCaptureToGraph(stream, graph, [first], [cu.CUgraphEdgeData()], 1, GLOBAL))
    ok(cu.cuMemsetD32Async(address, 2, 8, stream))
    extra = ok(cu.cuGraphAddMemsetNode(graph, [first], 1, set_parameters(address + 32, 5, 4), context))
    ok(cu.cuStreamUpdateCaptureDependencies(stream, [extra], [cu.CUgraphEdgeData()], 1, 0))
    ok(cu.cuMemsetD32Async(address, 3, 4, stream))
    assert int(ok(cu.cuStreamEndCapture(stream))) == int(graph)
    assert ok(cu.cuGraphGetNodes(graph))[1] == 4
    assert ok(cu.cuGraphGetEdges(graph))[-1] == 4
    ok(cu.cuGraphLaunch(ok(cu.cuGraphInstantiate(graph, 0)), 0))
    assert words(address, 16) == [3] * 4 + [2] * 4 + [5] * 4 + [1] * 4


@software_gpu()
def test_captured_allocations() -> None:
    primary()
    stream = ok(cu.cuStreamCreate(1))
    result = int(ok(cu.cuMemAlloc(64)))
    ok(cu.cuStreamBeginCapture(stream, GLOBAL))
    address = int(ok(cu.cuMemAllocAsync(64, stream)))
    ok(cu.cuMemsetD32Async(address, 6, 16, stream))
    ok(cu.cuMemcpyDtoDAsync(result, address, 64, stream))
    ok(cu.cuMemFreeAsync(address, stream))
    graph = ok(cu.cuStreamEndCapture(stream))
    nodes, count = ok(cu.cuGraphGetNodes(graph, 9))
    kinds = [ok(cu.cuGraphNodeGetType(node)).name.removeprefix("CU_GRAPH_NODE_TYPE_") for node in nodes[:count]]
    assert kinds == ["MEM_ALLOC", "MEMSET", "MEMCPY", "MEM_FREE"]
    program = ok(cu.cuGraphInstantiate(graph, 0))
    for _ in range(2):
        ok(cu.cuGraphLaunch(program, stream))
    ok(cu.cuStreamSynchronize(stream))
    assert words(result, 16) == [6] * 16
