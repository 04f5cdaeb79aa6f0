// Buffers of flags by which profilers tell the runtime which of its functions they want to see. Nobody does: all zero.
#include "tables/export_table.h"

namespace softgpu {
namespace {

// The unit of the counts that the runtime gets is not known: the buffers are large enough for 32-bit words.
uint32_t functions[1024];
uint32_t domains[16];

void get_function_flags(void** buffer, size_t* count) {
    *buffer = functions;
    *count = std::size(functions);
}

void get_domain_flags(void** buffer, size_t* count) {
    *buffer = domains;
    *count = 14;
}

}  // namespace

const void* tools_runtime_callback_hooks_table() {
    static auto& table =
        (*new SlotTable<"TOOLS_RUNTIME_CALLBACK_HOOKS", 7>).set(2, get_function_flags).set(6, get_domain_flags);
    return table.address();
}

}  // namespace softgpu
