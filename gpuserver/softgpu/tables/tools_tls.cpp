// What profilers ask about the calling thread; cuBLAS and cuFFT do too.
#include "api/entry.h"
#include "device/context.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult get_current_context(CUcontext* context) {
    return entry("TOOLS_TLS.get_current_context", [&] {
        check_value(context != nullptr, "no place for the context");
        auto current = Context::current();
        *context = current ? handle_of(*current) : nullptr;
    });
}

}  // namespace

const void* tools_tls_table() {
    static auto& table = (*new SlotTable<"TOOLS_TLS", 4>).set(2, get_current_context);
    return table.address();
}

}  // namespace softgpu
