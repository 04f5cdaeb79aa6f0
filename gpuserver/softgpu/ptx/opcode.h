// Every opcode of PTX ISA 9, and the special registers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace softgpu::ptx {

// X(name): an opcode whose name is a valid C++ identifier; Y(identifier, name): one that is not.
#define SOFTGPU_PTX_OPCODES(X, Y)                                                                                      \
    X(abs) X(activemask) X(add) X(addc) X(alloca) Y(and_, "and") X(applypriority) X(atom) X(bar) X(barrier) X(bfe)    \
    X(bfi) X(bfind) X(bmsk) X(bra) X(brev) X(brkpt) X(brx) X(call) X(clusterlaunchcontrol) X(clz) X(cnot) X(copysign) \
    X(cos) X(cp) X(createpolicy) X(cvt) X(cvta) X(discard) X(div) X(dp2a) X(dp4a) X(elect) X(ex2) X(exit) X(fence)     \
    X(fma) X(fns) X(getctarank) X(griddepcontrol) X(isspacep) X(istypep) X(ld) X(ldmatrix) X(ldu) X(lg2) X(lop3)      \
    X(mad) X(mad24) X(madc) X(mapa) X(match) X(max) X(mbarrier) X(membar) X(min) X(mma) X(mov) X(movmatrix) X(mul)    \
    X(mul24) X(multimem) X(nanosleep) X(neg) Y(not_, "not") Y(or_, "or") X(pmevent) X(popc) X(prefetch) X(prefetchu)  \
    X(prmt) X(rcp) X(red) X(redux) X(rem) X(ret) X(rsqrt) X(sad) X(selp) X(set) X(setmaxnreg) X(setp) X(shf) X(shfl)  \
    X(shl) X(shr) X(sin) X(slct) X(sqrt) X(st) X(stackrestore) X(stacksave) X(stmatrix) X(sub) X(subc) X(suld)        \
    X(suq) X(sured) X(sust) X(szext) X(tanh) X(tcgen05) X(tensormap) X(testp) X(tex) X(tld4) X(trap) X(txq)          \
    X(vabsdiff) X(vabsdiff2) X(vabsdiff4) X(vadd) X(vadd2) X(vadd4) X(vavrg2) X(vavrg4) X(vmad) X(vmax) X(vmax2)      \
    X(vmax4) X(vmin) X(vmin2) X(vmin4) X(vote) X(vset) X(vset2) X(vset4) X(vshl) X(vshr) X(vsub) X(vsub2) X(vsub4)   \
    X(wgmma) X(wmma) Y(xor_, "xor")

enum class Opcode : uint8_t {
#define X(name) name,
#define Y(identifier, name) identifier,
    SOFTGPU_PTX_OPCODES(X, Y)
#undef X
#undef Y
};

std::optional<Opcode> opcode_of(std::string_view name);
const char* name_of(Opcode opcode);

enum class Special : uint8_t {
    tid,
    ntid,
    laneid,
    warpid,
    nwarpid,
    ctaid,
    nctaid,
    smid,
    nsmid,
    gridid,
    is_explicit_cluster,
    clusterid,
    nclusterid,
    cluster_ctaid,
    cluster_nctaid,
    cluster_ctarank,
    cluster_nctarank,
    lanemask_eq,
    lanemask_le,
    lanemask_lt,
    lanemask_ge,
    lanemask_gt,
    clock,
    clock_hi,
    clock64,
    pm,        // %pm0 .. %pm7
    pm64,      // %pm0_64 ..
    envreg,    // component holds the number
    globaltimer,
    globaltimer_lo,
    globaltimer_hi,
    reserved_smem_offset,  // component: 0 begin, 1 end, 2 cap, 3 and 4 offsets 0 and 1
    total_smem_size,
    aggr_smem_size,
    dynamic_smem_size,
    current_graph_exec,
};

struct SpecialName {
    Special special;
    uint32_t component;  // 0 .. 3 for x y z w; the number of %envreg and %pm
    bool vector;         // takes .x .y .z
    bool wide;           // 64 bits
};
// `name` with its leading %, without the component.
std::optional<SpecialName> special_of(std::string_view name);

}  // namespace softgpu::ptx
