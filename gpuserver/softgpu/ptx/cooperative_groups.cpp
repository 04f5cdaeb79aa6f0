#include "ptx/cooperative_groups.h"

namespace softgpu::ptx {

std::string_view cooperative_groups_text() {
    return R"(
.version 7.0
.target sm_70
.address_size 64

// Scope 1 is the grid. Zero, which is no handle, unless the launch is cooperative.
.weak .func (.param .b64 handle) __cuda_syscall_CGS_get_intrinsic_handle(.param .b32 scope)
{
    .reg .pred %other;
    .reg .b32 %scope, %high, %low;
    .reg .b64 %workspace;
    ld.param.b32 %scope, [scope];
    mov.b32 %high, %envreg1;
    mov.b32 %low, %envreg2;
    mov.b64 %workspace, {%low, %high};
    setp.ne.u32 %other, %scope, 1;
    selp.b64 %workspace, 0, %workspace, %other;
    st.param.b64 [handle], %workspace;
    ret;
}

// Waits until every block of the grid has arrived. Flag 1: one thread of the block calls for all of them.
.weak .func (.param .b32 error) __cuda_syscall_CGS_sync(.param .b64 handle, .param .b32 flags)
{
    .reg .pred %missing, %leads, %alone, %waits;
    .reg .b32 %flags, %x, %y, %z;
    .reg .b64 %workspace, %blocks, %factor, %ticket, %all, %now;
    ld.param.b64 %workspace, [handle];
    ld.param.b32 %flags, [flags];
    setp.eq.u64 %missing, %workspace, 0;
    @%missing bra REFUSED;
    and.b32 %flags, %flags, 1;
    setp.ne.u32 %alone, %flags, 0;
    mov.pred %leads, %alone;
    @%alone bra ARRIVE;
    bar.sync 0;
    mov.u32 %x, %tid.x;
    mov.u32 %y, %tid.y;
    mov.u32 %z, %tid.z;
    or.b32 %x, %x, %y;
    or.b32 %x, %x, %z;
    setp.eq.u32 %leads, %x, 0;
ARRIVE:
    @!%leads bra ARRIVED;
    mov.u32 %x, %nctaid.x;
    mov.u32 %y, %nctaid.y;
    mov.u32 %z, %nctaid.z;
    cvt.u64.u32 %blocks, %x;
    cvt.u64.u32 %factor, %y;
    mul.lo.u64 %blocks, %blocks, %factor;
    cvt.u64.u32 %factor, %z;
    mul.lo.u64 %blocks, %blocks, %factor;
    // The counter only grows: this round ends at the next multiple of the number of blocks.
    fence.acq_rel.gpu;
    atom.add.u64 %ticket, [%workspace + 8], 1;
    div.u64 %all, %ticket, %blocks;
    add.u64 %all, %all, 1;
    mul.lo.u64 %all, %all, %blocks;
WAIT:
    ld.acquire.gpu.u64 %now, [%workspace + 8];
    setp.lt.u64 %waits, %now, %all;
    @%waits bra WAIT;
    fence.acq_rel.gpu;
ARRIVED:
    @%alone bra DONE;
    bar.sync 0;
DONE:
    st.param.b32 [error], 0;
    ret;
REFUSED:
    st.param.b32 [error], 1;
    ret;
}

// Threads of the grid, and grids (one: launches over several devices are no more).
.weak .func (.param .b32 error) __cuda_syscall_CGS_get_size(.param .b64 threads, .param .b64 grids, .param .b64 handle)
{
    .reg .pred %missing;
    .reg .b32 %size, %factor;
    .reg .b64 %to;
    mov.u32 %size, %nctaid.x;
    mov.u32 %factor, %nctaid.y;
    mul.lo.u32 %size, %size, %factor;
    mov.u32 %factor, %nctaid.z;
    mul.lo.u32 %size, %size, %factor;
    mov.u32 %factor, %ntid.x;
    mul.lo.u32 %size, %size, %factor;
    mov.u32 %factor, %ntid.y;
    mul.lo.u32 %size, %size, %factor;
    mov.u32 %factor, %ntid.z;
    mul.lo.u32 %size, %size, %factor;
    ld.param.b64 %to, [threads];
    setp.eq.u64 %missing, %to, 0;
    @!%missing st.u32 [%to], %size;
    ld.param.b64 %to, [grids];
    setp.eq.u64 %missing, %to, 0;
    @!%missing st.u32 [%to], 1;
    st.param.b32 [error], 0;
    ret;
}

// The calling thread's number in the grid, and the grid's number (zero).
.weak .func (.param .b32 error) __cuda_syscall_CGS_get_rank(.param .b64 thread, .param .b64 grid, .param .b64 handle)
{
    .reg .pred %missing;
    .reg .b32 %block, %rank, %size;
    .reg .b64 %to;
    mov.u32 %block, %ctaid.z;
    mov.u32 %size, %nctaid.y;
    mul.lo.u32 %block, %block, %size;
    mov.u32 %size, %ctaid.y;
    add.u32 %block, %block, %size;
    mov.u32 %size, %nctaid.x;
    mul.lo.u32 %block, %block, %size;
    mov.u32 %size, %ctaid.x;
    add.u32 %block, %block, %size;
    mov.u32 %rank, %ntid.z;
    mul.lo.u32 %rank, %block, %rank;
    mov.u32 %size, %tid.z;
    add.u32 %rank, %rank, %size;
    mov.u32 %size, %ntid.y;
    mul.lo.u32 %rank, %rank, %size;
    mov.u32 %size, %tid.y;
    add.u32 %rank, %rank, %size;
    mov.u32 %size, %ntid.x;
    mul.lo.u32 %rank, %rank, %size;
    mov.u32 %size, %tid.x;
    add.u32 %rank, %rank, %size;
    ld.param.b64 %to, [thread];
    setp.eq.u64 %missing, %to, 0;
    @!%missing st.u32 [%to], %rank;
    ld.param.b64 %to, [grid];
    setp.eq.u64 %missing, %to, 0;
    @!%missing st.u32 [%to], 0;
    st.param.b32 [error], 0;
    ret;
}
)";
}

}  // namespace softgpu::ptx
