// cuFFT finds the kernels of a module it loaded by being called back with each.
#include "tables/export_table.h"

namespace softgpu {

const void* module_iterator_table() {
    return gpuferry::private_tables::module_iterator<unknown_slot, cuModuleGetFunctionCount,
                                                     cuModuleEnumerateFunctions>();
}

}  // namespace softgpu
