// cuFFT finds the kernels of a module it loaded by being called back with each.
#include <vector>

#include "tables/export_table.h"

namespace softgpu {
namespace {

using Visitor = void (*)(void* user, CUfunction function, uint64_t owner);

// The number of functions visited; 0 when the module cannot be read.
uint32_t for_each_function(CUcontext, CUmodule module, Visitor visit, void* user) {
    unsigned count = 0;
    if (!visit || cuModuleGetFunctionCount(&count, module) != CUDA_SUCCESS) return 0;
    std::vector<CUfunction> functions(count);
    if (count && cuModuleEnumerateFunctions(functions.data(), count, module) != CUDA_SUCCESS) return 0;
    for (CUfunction function : functions) visit(user, function, 0);
    return count;
}

}  // namespace

const void* module_iterator_table() {
    static auto& table = (*new SlotTable<"MODULE_ITERATOR", 105>).set(7, for_each_function);
    return table.address();
}

}  // namespace softgpu
