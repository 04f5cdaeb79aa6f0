"""Launches: parameters, limits, faults, printf, kernels in graphs."""

from __future__ import annotations

import ctypes
import inspect
import mmap

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, run_case, software_gpu

# Adds to a round's total, waits for the grid, and counts the rounds whose totals were complete.
GRID_SYNC = """
.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b64 handle) __cuda_syscall_CGS_get_intrinsic_handle(.param .b32 scope);
.extern .func (.param .b32 error) __cuda_syscall_CGS_sync(.param .b64 handle, .param .b32 flags);
.extern .func (.param .b32 error) __cuda_syscall_CGS_get_size(.param .b64 n, .param .b64 grids, .param .b64 handle);
.extern .func (.param .b32 error) __cuda_syscall_CGS_get_rank(.param .b64 n, .param .b64 grid, .param .b64 handle);
.visible .entry rounds(.param .u64 totals, .param .u64 out, .param .u32 rounds)
{
    .local .align 8 .b8 answers[16];
    .reg .pred %p;
    .reg .b32 %left, %size, %rank, %seen, %good, %error;
    .reg .b64 %handle, %totals, %out, %answers, %second;
    { .param .b32 scope; .param .b64 handle;
      st.param.b32 [scope], 1;
      call.uni (handle), __cuda_syscall_CGS_get_intrinsic_handle, (scope);
      ld.param.b64 %handle, [handle]; }
    mov.u64 %answers, answers;
    cvta.local.u64 %answers, %answers;
    add.u64 %second, %answers, 4;
    { .param .b64 a; .param .b64 b; .param .b64 c; .param .b32 error;
      st.param.b64 [a], %answers; st.param.b64 [b], %second; st.param.b64 [c], %handle;
      call.uni (error), __cuda_syscall_CGS_get_size, (a, b, c); }
    ld.u32 %size, [%answers];
    { .param .b64 a; .param .b64 b; .param .b64 c; .param .b32 error;
      st.param.b64 [a], %answers; st.param.b64 [b], %second; st.param.b64 [c], %handle;
      call.uni (error), __cuda_syscall_CGS_get_rank, (a, b, c); }
    ld.u32 %rank, [%answers];
    ld.param.u64 %totals, [totals];
    ld.param.u64 %out, [out];
    mad.wide.u32 %out, %rank, 4, %out;
    ld.param.u32 %left, [rounds];
    mov.u32 %good, 0;
ROUND:
    red.add.u32 [%totals], 1;
    { .param .b64 handle; .param .b32 flags; .param .b32 error;
      st.param.b64 [handle], %handle; st.param.b32 [flags], 0;
      call.uni (error), __cuda_syscall_CGS_sync, (handle, flags);
      ld.param.b32 %error, [error]; }
    setp.ne.u32 %p, %error, 0;
    @%p bra REFUSED;
    ld.volatile.u32 %seen, [%totals];
    setp.eq.u32 %p, %seen, %size;
    @%p add.u32 %good, %good, 1;
    add.u64 %totals, %totals, 4;
    sub.u32 %left, %left, 1;
    setp.ne.u32 %p, %left, 0;
    @%p bra ROUND;
    st.u32 [%out], %good;
    ret;
REFUSED:
    st.u32 [%out], 999;
    ret;
}
"""

# One frame of 64 bytes and what a call takes, `depth` deep.
RECURSION = """
.version 8.0
.target sm_80
.address_size 64
.func (.param .b32 sum) down(.param .b32 n)
{
    .local .align 8 .b8 frame[64];
    .reg .pred %end;
    .reg .b32 %n, %below;
    ld.param.b32 %n, [n];
    st.local.u32 [frame], %n;
    mov.u32 %below, 0;
    setp.eq.u32 %end, %n, 0;
    @%end bra OUT;
    sub.u32 %n, %n, 1;
    { .param .b32 n; .param .b32 sum;
      st.param.b32 [n], %n;
      call (sum), down, (n);
      ld.param.b32 %below, [sum]; }
    add.u32 %below, %below, 1;
OUT:
    st.param.b32 [sum], %below;
    ret;
}
.visible .entry recurse(.param .u64 out, .param .u32 depth)
{
    .reg .b32 %n;
    .reg .b64 %out;
    ld.param.u32 %n, [depth];
    { .param .b32 n; .param .b32 sum;
      st.param.b32 [n], %n;
      call (sum), down, (n);
      ld.param.b32 %n, [sum]; }
    ld.param.u64 %out, [out];
    st.u32 [%out], %n;
    ret;
}
"""

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"
KERNELS = (
    HEAD
    + """
.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 v);
.extern .func (.param .b64 r) malloc (.param .b64 n);
.extern .func free (.param .b64 p);
.global .align 1 .b8 text[8] = {110, 32, 37, 100, 10, 0, 0, 0};
.global .align 4 .u32 counter;
// out[i] = a * i + b
.visible .entry line(.param .u64 out, .param .u32 a, .param .u16 b)
{ .reg .u64 %p, %q; .reg .u32 %r<6>; .reg .u16 %h;
  ld.param.u64 %p, [out]; ld.param.u32 %r1, [a]; ld.param.u16 %h, [b];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r2, %r2, %r3, %r4;
  cvt.u32.u16 %r5, %h; mad.lo.u32 %r5, %r1, %r2, %r5;
  mul.wide.u32 %q, %r2, 4; add.u64 %p, %p, %q; st.global.u32 [%p], %r5; ret; }
.visible .entry store(.param .u64 to)
{ .reg .u64 %p; .reg .u32 %r; ld.param.u64 %p, [to]; mov.u32 %r, 1; st.volatile.global.u32 [%p], %r; ret; }
.visible .entry trapping() { trap; }
.visible .entry spin(.param .u64 word)
{ .reg .u64 %p; .reg .u32 %r; .reg .pred %c; ld.param.u64 %p, [word];
again: ld.volatile.global.u32 %r, [%p]; setp.eq.u32 %c, %r, 0; @%c bra again; ret; }
.visible .entry limited(.param .u64 to) .maxntid 64, 1, 1
{ ret; }
.visible .entry required() .reqntid 32, 2, 1
{ ret; }
.visible .entry nothing() { ret; }
.visible .entry says(.param .u32 n)
{ .local .align 4 .b8 depot[4]; .reg .u64 %f, %v, %l; .reg .u32 %r; .reg .b32 %x;
  ld.param.u32 %r, [n]; mov.u64 %l, depot; st.local.u32 [%l], %r; cvta.local.u64 %v, %l;
  mov.u64 %f, text; cvta.global.u64 %f, %f;
  { .param .b64 p0; st.param.b64 [p0], %f; .param .b64 p1; st.param.b64 [p1], %v; .param .b32 r0;
    call.uni (r0), vprintf, (p0, p1); ld.param.b32 %x, [r0]; } ret; }
"""
)


class Kernels:
    def __init__(self) -> None:
        self.module = ok(cu.cuModuleLoadData(KERNELS.encode()))

    def __getattr__(self, name: str) -> object:
        return ok(cu.cuModuleGetFunction(self.module, name.encode()))


def launch(
    kernel: object,
    arguments: tuple[tuple[object, ...], tuple[type, ...]] | int = 0,
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
    stream: object = 0,
) -> tuple[object, ...]:
    return cu.cuLaunchKernel(kernel, *grid, *block, shared, stream, arguments, 0)


def pointer(address: object) -> tuple[tuple[object, ...], tuple[type, ...]]:
    return ((int(address),), (ctypes.c_uint64,))


def words(address: object, count: int) -> list[int]:
    values = np.zeros(count, np.uint32)
    ok(cu.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes))
    return values.tolist()


@software_gpu()
def test_parameters_reach_the_kernel() -> None:
    primary()
    kernels = Kernels()
    out = ok(cu.cuMemAlloc(4 * 96))
    parameters = ((int(out), 3, 5), (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint16))
    ok(launch(kernels.line, parameters, (3, 1, 1), (32, 1, 1)))
    assert words(out, 96) == [3 * i + 5 for i in range(96)]
    packed = np.zeros(16, np.uint8)
    packed[:8] = np.array([int(out)], np.uint64).view(np.uint8)
    packed[8:12] = np.array([7], np.uint32).view(np.uint8)
    packed[12:14] = np.array([9], np.uint16).view(np.uint8)
    for size in (14, 16):
        length = ctypes.c_size_t(size)
        extra = (ctypes.c_void_p * 5)(1, packed.ctypes.data, 2, ctypes.addressof(length), 0)
        ok(cu.cuLaunchKernel(kernels.line, 3, 1, 1, 32, 1, 1, 0, 0, 0, ctypes.addressof(extra)))
        assert words(out, 96) == [7 * i + 9 for i in range(96)]
    # A shorter buffer is one whose last parameters are not set, as NCCL gives it.
    length = ctypes.c_size_t(12)
    extra = (ctypes.c_void_p * 5)(1, packed.ctypes.data, 2, ctypes.addressof(length), 0)
    ok(cu.cuLaunchKernel(kernels.line, 3, 1, 1, 32, 1, 1, 0, 0, 0, ctypes.addressof(extra)))
    assert words(out, 96) == [7 * i for i in range(96)]
    refused(launch(kernels.line, 0), "INVALID_VALUE")


@software_gpu()
def test_launch_limits_are_checked_at_the_call() -> None:
    primary()
    kernels = Kernels()
    nothing = kernels.nothing
    ok(launch(nothing, 0, (1, 65535, 1), (1, 1, 1)))
    for grid, block in [
        ((0, 1, 1), (1, 1, 1)),
        ((1, 65536, 1), (1, 1, 1)),
        ((1, 1, 65536), (1, 1, 1)),
        ((1 << 31, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (0, 1, 1)),
        ((1, 1, 1), (1025, 1, 1)),
        ((1, 1, 1), (32, 33, 1)),
        ((1, 1, 1), (1, 1, 65)),
    ]:
        refused(launch(nothing, 0, grid, block), "INVALID_VALUE")
    ok(launch(nothing, 0, shared=48 << 10))
    refused(launch(nothing, 0, shared=(48 << 10) + 1), "INVALID_VALUE")
    dynamic = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    ok(cu.cuFuncSetAttribute(nothing, dynamic, 100 << 10))
    ok(launch(nothing, 0, shared=100 << 10))
    refused(cu.cuFuncSetAttribute(nothing, dynamic, 1 << 20), "INVALID_VALUE")
    ok(launch(kernels.limited, pointer(0), block=(64, 1, 1)))
    refused(launch(kernels.limited, pointer(0), block=(65, 1, 1)), "INVALID_VALUE")
    ok(launch(kernels.required, 0, block=(32, 2, 1)))
    refused(launch(kernels.required, 0, block=(64, 1, 1)), "INVALID_VALUE")
    refused(cu.cuLaunchCooperativeKernel(nothing, 100000, 1, 1, 1024, 1, 1, 0, 0, 0), "COOPERATIVE_LAUNCH_TOO_LARGE")
    refused(launch(cu.CUfunction(4711)), "INVALID_HANDLE")
    ok(cu.cuCtxSynchronize())


def sticky(kernel: str, arguments: object, error: str) -> None:
    context = primary()
    kernels = Kernels()
    stream = ok(cu.cuStreamCreate(1))
    event = ok(cu.cuEventCreate(0))
    ok(launch(getattr(kernels, kernel), arguments, stream=stream))
    refused(cu.cuStreamSynchronize(stream), error)
    refused(cu.cuCtxSynchronize(), error)
    refused(cu.cuMemAlloc(16), error)
    refused(cu.cuStreamQuery(stream), error)
    refused(cu.cuEventRecord(event, stream), error)
    refused(cu.cuMemsetD8Async(0, 0, 0, stream), error)
    assert int(ok(cu.cuCtxGetCurrent())) == int(context)
    ok(cu.cuDevicePrimaryCtxReset(0))
    primary()
    address = ok(cu.cuMemAlloc(64))
    ok(launch(Kernels().store, pointer(address)))
    assert words(address, 1) == [1]


@software_gpu()
def test_a_wild_store_is_an_illegal_address() -> None:
    sticky("store", pointer(64), "ILLEGAL_ADDRESS")


@software_gpu()
def test_a_freed_address_is_illegal() -> None:
    primary()
    address = ok(cu.cuMemAlloc(4 << 20))
    ok(cu.cuMemFree(address))
    sticky("store", pointer(int(address) + (2 << 20)), "ILLEGAL_ADDRESS")


@software_gpu()
def test_an_odd_address_is_misaligned() -> None:
    primary()
    sticky("store", pointer(int(ok(cu.cuMemAlloc(64))) + 2), "MISALIGNED_ADDRESS")


@software_gpu()
def test_a_trap_fails_the_launch() -> None:
    sticky("trapping", 0, "LAUNCH_FAILED")


@software_gpu()
def test_a_fault_in_one_context_leaves_others_alone() -> None:
    ok(cu.cuInit(0))
    bad = ok(cu.cuCtxCreate(None, 0, 0))
    lost = ok(cu.cuMemAlloc(64))
    ok(launch(Kernels().store, pointer(64)))
    refused(cu.cuCtxSynchronize(), "ILLEGAL_ADDRESS")
    ok(cu.cuCtxPopCurrent())
    refused(cu.cuMemFree(lost), "ILLEGAL_ADDRESS")
    ok(cu.cuCtxCreate(None, 0, 0))
    address = ok(cu.cuMemAlloc(64))
    ok(launch(Kernels().store, pointer(address)))
    assert words(address, 1) == [1]
    ok(cu.cuCtxDestroy(bad))


@software_gpu(devices="2")
def test_memory_of_another_device_needs_peer_access() -> None:
    ok(cu.cuInit(0))
    primary(1)
    remote = ok(cu.cuMemAlloc(64))
    there = ok(cu.cuCtxGetCurrent())
    primary(0)
    ok(cu.cuCtxEnablePeerAccess(there, 0))
    ok(launch(Kernels().store, pointer(remote)))
    ok(cu.cuCtxSynchronize())
    assert words(remote, 1) == [1]
    ok(cu.cuCtxDisablePeerAccess(there))
    ok(launch(Kernels().store, pointer(remote)))
    refused(cu.cuCtxSynchronize(), "ILLEGAL_ADDRESS")


@software_gpu(devices="2")
def test_a_library_is_a_module_of_its_own_in_each_context() -> None:
    ok(cu.cuInit(0))
    primary(0)
    library = ok(cu.cuLibraryLoadData(KERNELS.encode() + b"\0", [], [], 0, [], [], 0))
    modules = []
    for device in (0, 1, 0):
        primary(device)
        modules.append(int(ok(cu.cuLibraryGetModule(library))))
        function = ok(cu.cuModuleGetFunction(modules[-1], b"store"))
        address = ok(cu.cuMemAlloc(64))
        ok(launch(function, pointer(address)))
        assert words(address, 1) == [1]
    assert modules[0] == modules[2] != modules[1]
    refused(cu.cuModuleUnload(modules[0]), "NOT_PERMITTED")


@software_gpu()
def test_kernels_reach_host_memory() -> None:
    primary()
    kernels = Kernels()
    pinned = int(ok(cu.cuMemHostAlloc(64, 0)))
    ok(launch(kernels.store, pointer(pinned + 8)))
    # Not of the allocator: a sanitizer's gives out the same addresses in every process.
    mapped = mmap.mmap(-1, 4096)
    mine = np.frombuffer(mapped, np.uint32)
    ok(cu.cuMemHostRegister(mine.ctypes.data, mine.nbytes, 0))
    ok(launch(kernels.store, pointer(mine.ctypes.data + 16)))
    managed = int(ok(cu.cuMemAllocManaged(64, 1)))
    ok(launch(kernels.store, pointer(managed)))
    ok(cu.cuCtxSynchronize())
    assert ctypes.c_uint32.from_address(pinned + 8).value == 1
    assert mine[4] == 1
    assert ctypes.c_uint32.from_address(managed).value == 1
    ok(cu.cuMemHostUnregister(mine.ctypes.data))
    ok(launch(kernels.store, pointer(mine.ctypes.data)))
    refused(cu.cuCtxSynchronize(), "ILLEGAL_ADDRESS")


@software_gpu()
def test_kernels_of_two_streams_run_at_the_same_time() -> None:
    primary()
    kernels = Kernels()
    one, two = ok(cu.cuStreamCreate(1)), ok(cu.cuStreamCreate(1))
    word = ok(cu.cuMemAlloc(4))
    ok(cu.cuMemsetD32(word, 0, 1))
    ok(launch(kernels.spin, pointer(word), stream=one))
    ok(launch(kernels.store, pointer(word), stream=two))
    ok(cu.cuStreamSynchronize(one))


@software_gpu()
def test_the_process_ends_while_a_kernel_spins() -> None:
    primary()
    word = ok(cu.cuMemAlloc(4))
    ok(cu.cuMemsetD32(word, 0, 1))
    ok(launch(Kernels().spin, pointer(word)))


@software_gpu()
def test_extended_launches() -> None:
    primary()
    kernels = Kernels()
    out = ok(cu.cuMemAlloc(4 * 32))
    event = ok(cu.cuEventCreate(2))
    config = cu.CUlaunchConfig()
    config.gridDimX = config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1
    config.blockDimX = 32
    cooperative, done = cu.CUlaunchAttribute(), cu.CUlaunchAttribute()
    cooperative.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
    cooperative.value.cooperative = 1
    done.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT
    done.value.launchCompletionEvent.event = event
    config.attrs, config.numAttrs = [cooperative, done], 2
    parameters = ((int(out), 2, 1), (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint16))
    ok(cu.cuLaunchKernelEx(config, kernels.line, parameters, 0))
    ok(cu.cuEventSynchronize(event))
    assert words(out, 32) == [2 * i + 1 for i in range(32)]
    config.blockDimX = 4096
    refused(cu.cuLaunchKernelEx(config, kernels.line, parameters, 0), "INVALID_VALUE")


@software_gpu()
def says_numbers() -> None:
    primary()
    kernels = Kernels()
    for i in range(3):
        ok(launch(kernels.says, ((i,), (ctypes.c_uint32,))))
    ok(cu.cuCtxSynchronize())
    ok(cu.cuCtxSetLimit(cu.CUlimit.CU_LIMIT_PRINTF_FIFO_SIZE, 9))
    for i in range(10, 20):
        ok(launch(kernels.says, ((i,), (ctypes.c_uint32,))))
    ok(cu.cuDevicePrimaryCtxReset(0))


def test_printf_comes_out_at_synchronisation() -> None:
    assert run_case(inspect.getfile(inspect.currentframe()), "says_numbers") == "n 0\nn 1\nn 2\n 18\nn 19\n"


@software_gpu()
def test_kernels_in_graphs() -> None:
    context = primary()
    kernels = Kernels()
    out = int(ok(cu.cuMemAlloc(4 * 64)))
    stream = ok(cu.cuStreamCreate(1))
    kinds = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint16)
    ok(cu.cuStreamBeginCapture(stream, cu.CUstreamCaptureMode(0)))
    ok(launch(kernels.line, ((out, 1, 0), kinds), (2, 1, 1), (32, 1, 1), stream=stream))
    graph = ok(cu.cuStreamEndCapture(stream))
    nodes, _ = ok(cu.cuGraphGetNodes(graph, 1))
    told = ok(cu.cuGraphKernelNodeGetParams(nodes[0]))
    assert (told.gridDimX, told.blockDimX) == (2, 32)
    assert int(told.func) == int(kernels.line)
    held = ctypes.cast(told.kernelParams, ctypes.POINTER(ctypes.c_void_p))
    assert ctypes.c_uint64.from_address(held[0]).value == out
    assert ctypes.c_uint32.from_address(held[1]).value == 1
    program = ok(cu.cuGraphInstantiate(graph, 0))
    ok(cu.cuGraphLaunch(program, stream))
    ok(cu.cuStreamSynchronize(stream))
    assert words(out, 64) == list(range(64))

    parameters = cu.CUDA_KERNEL_NODE_PARAMS()
    parameters.func = kernels.line
    parameters.gridDimX, parameters.gridDimY, parameters.gridDimZ = 1, 1, 1
    parameters.blockDimX, parameters.blockDimY, parameters.blockDimZ = 16, 1, 1
    parameters.kernelParams = ((out, 100, 7), kinds)
    ok(cu.cuGraphExecKernelNodeSetParams(program, nodes[0], parameters))
    ok(cu.cuGraphLaunch(program, stream))
    ok(cu.cuStreamSynchronize(stream))
    assert words(out, 64) == [100 * i + 7 for i in range(16)] + list(range(16, 64))
    built = ok(cu.cuGraphCreate(0))
    first = ok(cu.cuGraphAddKernelNode(built, [], 0, parameters))
    parameters.kernelParams = ((out, 0, 3), kinds)
    ok(cu.cuGraphAddKernelNode(built, [first], 1, parameters))
    ok(cu.cuGraphLaunch(ok(cu.cuGraphInstantiate(built, 0)), 0))
    assert words(out, 16) == [3] * 16
    parameters.blockDimX = 2000
    refused(cu.cuGraphAddKernelNode(built, [], 0, parameters), "INVALID_VALUE")

    bad = ok(cu.cuGraphCreate(0))
    parameters.func, parameters.blockDimX = kernels.store, 1
    parameters.kernelParams = ((8,), (ctypes.c_uint64,))
    ok(cu.cuGraphAddKernelNode(bad, [], 0, parameters))
    ok(cu.cuGraphLaunch(ok(cu.cuGraphInstantiate(bad, 0)), 0))
    refused(cu.cuCtxSynchronize(), "ILLEGAL_ADDRESS")
    assert int(ok(cu.cuCtxGetCurrent())) == int(context)


@software_gpu()
def test_a_grid_waits_for_itself_as_the_device_runtime_asks() -> None:
    """Numba's grid sync: functions of libcudadevrt's, which are calls into the driver."""
    primary()
    module = ok(cu.cuModuleLoadData(GRID_SYNC.encode()))
    kernel = ok(cu.cuModuleGetFunction(module, b"rounds"))
    blocks, threads, rounds = 6, 64, 5
    total, out = ok(cu.cuMemAlloc(4 * rounds)), ok(cu.cuMemAlloc(4 * blocks * threads))
    ok(cu.cuMemsetD32(total, 0, rounds))
    parameters = ((int(total), int(out), rounds), (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32))
    ok(cu.cuLaunchCooperativeKernel(kernel, blocks, 1, 1, threads, 1, 1, 0, 0, parameters))
    assert words(total, rounds) == [blocks * threads] * rounds
    # Each thread counted the rounds in which it found that all had been there.
    assert words(out, blocks * threads) == [rounds] * (blocks * threads)
    ok(cu.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, parameters, 0))
    assert words(out, 1) == [999]  # not a cooperative launch: there is no grid to wait for


@software_gpu()
def test_the_stack_is_as_large_as_the_limit() -> None:
    primary()
    module = ok(cu.cuModuleLoadData(RECURSION.encode()))
    kernel = ok(cu.cuModuleGetFunction(module, b"recurse"))
    out = ok(cu.cuMemAlloc(4))
    deep = ((int(out), 3000), (ctypes.c_uint64, ctypes.c_uint32))
    ok(cu.cuCtxSetLimit(cu.CUlimit.CU_LIMIT_STACK_SIZE, 512 << 10))
    ok(cu.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, deep, 0))
    assert words(out, 1) == [3000]
    ok(cu.cuCtxSetLimit(cu.CUlimit.CU_LIMIT_STACK_SIZE, 1024))
    ok(cu.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, deep, 0))
    refused(cu.cuCtxSynchronize(), "HARDWARE_STACK_ERROR")
