// Doing the work that streams and graphs hold.
#include "device/work.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "device/error.h"
#include "device/graph.h"

namespace softgpu {
namespace {

CUresult error_of(Fault::Kind kind) {
    switch (kind) {
        case Fault::Kind::none:
            return CUDA_SUCCESS;
        case Fault::Kind::illegal_address:
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        case Fault::Kind::misaligned_address:
            return CUDA_ERROR_MISALIGNED_ADDRESS;
        case Fault::Kind::illegal_instruction:
            return CUDA_ERROR_ILLEGAL_INSTRUCTION;
        case Fault::Kind::trap:
            return CUDA_ERROR_LAUNCH_FAILED;
        case Fault::Kind::assertion:
            return CUDA_ERROR_ASSERT;
        case Fault::Kind::invalid_pc:
            return CUDA_ERROR_INVALID_PC;
        case Fault::Kind::invalid_address_space:
            return CUDA_ERROR_INVALID_ADDRESS_SPACE;
        case Fault::Kind::stack_overflow:
            return CUDA_ERROR_HARDWARE_STACK_ERROR;
        case Fault::Kind::cancelled:
            return CUDA_ERROR_LAUNCH_FAILED;
    }
    return CUDA_ERROR_LAUNCH_FAILED;
}

template <class Word>
bool satisfied(Word now, Word wanted, unsigned flags) {
    switch (flags & 3) {
        case CU_STREAM_WAIT_VALUE_GEQ:
            return static_cast<std::make_signed_t<Word>>(now - wanted) >= 0;
        case CU_STREAM_WAIT_VALUE_EQ:
            return now == wanted;
        case CU_STREAM_WAIT_VALUE_AND:
            return (now & wanted) != 0;
        default:
            return (~(now | wanted)) != 0;
    }
}

template <class Word>
void wait_value(CUdeviceptr address, Word wanted, unsigned flags, const Context& context) {
    const std::atomic_ref<Word> word(*reinterpret_cast<Word*>(address));
    auto pause = std::chrono::microseconds(5);
    while (!satisfied(word.load(std::memory_order_acquire), wanted, flags)) {
        if (context.cancel_flag().load() || context.failure() != CUDA_SUCCESS) return;
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, std::chrono::microseconds(500));
    }
}

template <class Word>
void write_value(CUdeviceptr address, Word value) {
    std::atomic_ref<Word>(*reinterpret_cast<Word*>(address)).store(value, std::memory_order_release);
}

template <class Word>
void update_value(CUdeviceptr address, Word value, CUstreamAtomicReductionOpType operation) {
    const std::atomic_ref<Word> word(*reinterpret_cast<Word*>(address));
    if (operation == CU_STREAM_ATOMIC_REDUCTION_OP_ADD) word.fetch_add(value);
    if (operation == CU_STREAM_ATOMIC_REDUCTION_OP_AND) word.fetch_and(value);
    if (operation == CU_STREAM_ATOMIC_REDUCTION_OP_OR) word.fetch_or(value);
}

void check_word(CUdeviceptr address, size_t bytes) {
    check_value(address % bytes == 0, "the address is not aligned");
    const auto allocation = memory_map().find(address);
    check_value(allocation && allocation->end() - address >= bytes, "the address is in no allocation");
}

template <class Shape>
void describe(CUDA_MEMCPY3D& d, const CopyEnd& end, bool source, const Shape& copy) {
    const auto type = end.array                             ? CU_MEMORYTYPE_ARRAY
                      : end.side == CopyEnd::Side::pageable ? CU_MEMORYTYPE_HOST
                      : end.side == CopyEnd::Side::pinned   ? CU_MEMORYTYPE_HOST
                                                            : CU_MEMORYTYPE_DEVICE;
    const uint64_t offset = end.array ? end.base - end.array->base() : 0;
    const uint64_t height = end.pitch && end.slice ? end.slice / end.pitch : copy.height;
    if (source) {
        d.srcMemoryType = type;
        d.srcPitch = end.pitch ? end.pitch : copy.width;
        d.srcHeight = height;
        if (end.array) {
            d.srcArray = handle_of(*end.array);
            d.srcXInBytes = offset % end.array->pitch();
        } else if (type == CU_MEMORYTYPE_HOST) {
            d.srcHost = reinterpret_cast<const void*>(end.base);
        } else {
            d.srcDevice = end.base;
        }
    } else {
        d.dstMemoryType = type;
        d.dstPitch = end.pitch ? end.pitch : copy.width;
        d.dstHeight = height;
        if (end.array) {
            d.dstArray = handle_of(*end.array);
            d.dstXInBytes = offset % end.array->pitch();
        } else if (type == CU_MEMORYTYPE_HOST) {
            d.dstHost = reinterpret_cast<void*>(end.base);
        } else {
            d.dstDevice = end.base;
        }
    }
}

}  // namespace

CUgraphNodeType type_of(const Work& work) {
    struct Visitor {
        CUgraphNodeType operator()(const EmptyWork&) { return CU_GRAPH_NODE_TYPE_EMPTY; }
        CUgraphNodeType operator()(const KernelWork&) { return CU_GRAPH_NODE_TYPE_KERNEL; }
        CUgraphNodeType operator()(const CopyWork&) { return CU_GRAPH_NODE_TYPE_MEMCPY; }
        CUgraphNodeType operator()(const SetWork&) { return CU_GRAPH_NODE_TYPE_MEMSET; }
        CUgraphNodeType operator()(const HostWork&) { return CU_GRAPH_NODE_TYPE_HOST; }
        CUgraphNodeType operator()(const RecordWork&) { return CU_GRAPH_NODE_TYPE_EVENT_RECORD; }
        CUgraphNodeType operator()(const WaitWork&) { return CU_GRAPH_NODE_TYPE_WAIT_EVENT; }
        CUgraphNodeType operator()(const BatchWork&) { return CU_GRAPH_NODE_TYPE_BATCH_MEM_OP; }
        CUgraphNodeType operator()(const AllocWork&) { return CU_GRAPH_NODE_TYPE_MEM_ALLOC; }
        CUgraphNodeType operator()(const FreeWork&) { return CU_GRAPH_NODE_TYPE_MEM_FREE; }
        CUgraphNodeType operator()(const ChildWork&) { return CU_GRAPH_NODE_TYPE_GRAPH; }
    };
    return std::visit(Visitor{}, work);
}

CopyWork CopyWork::of(const Copy& copy) {
    CopyWork work;
    work.copy = copy;
    work.description.WidthInBytes = copy.width;
    work.description.Height = copy.height;
    work.description.Depth = copy.depth;
    describe(work.description, copy.from, true, copy);
    describe(work.description, copy.to, false, copy);
    if (const auto context = Context::current()) work.context = handle_of(*context);
    return work;
}

CopyWork CopyWork::of(const CUDA_MEMCPY3D& description, CUcontext context) {
    return {plan_copy(description), description, context};
}

void perform_kernel(const KernelWork& work) {
    const auto context = work.function->context.lock();
    if (!context || !context->alive()) {
        throw DriverError(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the kernel's context was destroyed");
    }
    Launch launch;
    launch.program = work.function->program;
    launch.kernel = work.function->kernel_index;
    launch.grid = work.grid;
    launch.block = work.block;
    launch.cluster = work.options.cluster;
    launch.dynamic_shared_bytes = work.shared_bytes;
    launch.parameters = work.parameters;
    launch.cooperative = work.options.cooperative;
    launch.services = context->services();
    launch.cancel = &context->cancel_flag();
    launch.stack_bytes = static_cast<uint32_t>(context->limits[CU_LIMIT_STACK_SIZE].load());
    const Fault fault = [&] {
        const BusyDevice busy(context->device().usage());
        return run_grid(launch);
    }();
    if (fault.kind == Fault::Kind::none) return;
    const bool named = fault.message.starts_with("kernel ");
    const std::string message = named ? fault.message : "kernel " + work.function->name + ": " + fault.message;
    const CUresult error = error_of(fault.kind);
    if (fault.kind == Fault::Kind::assertion) {
        context->flush_print();
        // As CUDA does, on stderr whatever the log level.
        std::fprintf(stderr, "%s\n", fault.message.c_str());
    }
    context->fail(error, message);
    throw DriverError(error, message);
}

void perform_host_function(CUhostFn function, void* data) {
    const HostFunctionScope scope;
    function(data);
}

void check_batch(const std::vector<CUstreamBatchMemOpParams>& operations) {
    for (const auto& entry : operations) {
        switch (entry.operation) {
            case CU_STREAM_MEM_OP_WAIT_VALUE_32:
            case CU_STREAM_MEM_OP_WRITE_VALUE_32:
                check_word(entry.waitValue.address, 4);
                break;
            case CU_STREAM_MEM_OP_WAIT_VALUE_64:
            case CU_STREAM_MEM_OP_WRITE_VALUE_64:
                check_word(entry.waitValue.address, 8);
                break;
            case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
                check_word(entry.atomicReduction.address,
                           entry.atomicReduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_64 ? 8 : 4);
                break;
            case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
            case CU_STREAM_MEM_OP_BARRIER:
                break;
            default:
                throw DriverError(CUDA_ERROR_INVALID_VALUE, "unknown stream memory operation");
        }
    }
}

void perform_batch(const BatchWork& work, const Context& context) {
    for (const auto& entry : work.operations) {
        switch (entry.operation) {
            case CU_STREAM_MEM_OP_WAIT_VALUE_32:
                wait_value<uint32_t>(entry.waitValue.address, entry.waitValue.value, entry.waitValue.flags, context);
                break;
            case CU_STREAM_MEM_OP_WAIT_VALUE_64:
                wait_value<uint64_t>(entry.waitValue.address, entry.waitValue.value64, entry.waitValue.flags, context);
                break;
            case CU_STREAM_MEM_OP_WRITE_VALUE_32:
                write_value<uint32_t>(entry.writeValue.address, entry.writeValue.value);
                break;
            case CU_STREAM_MEM_OP_WRITE_VALUE_64:
                write_value<uint64_t>(entry.writeValue.address, entry.writeValue.value64);
                break;
            case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
                if (entry.atomicReduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_64) {
                    update_value<uint64_t>(entry.atomicReduction.address, entry.atomicReduction.value,
                                           entry.atomicReduction.reductionOp);
                } else {
                    update_value<uint32_t>(entry.atomicReduction.address, entry.atomicReduction.value,
                                           entry.atomicReduction.reductionOp);
                }
                break;
            default:
                std::atomic_thread_fence(std::memory_order_seq_cst);
                break;
        }
    }
}

}  // namespace softgpu
