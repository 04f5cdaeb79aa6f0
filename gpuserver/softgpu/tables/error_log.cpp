// Where the runtime writes its own diagnostics ("Block Dimensions (%u,%u,%u) exceed ..."): shown at debug level.
#include <cstdarg>
#include <cstdio>
#include <string>

#include "log.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

CUresult log_error(const char* category, uint32_t, const char* format, va_list* arguments) {
    if (!format || !arguments) return CUDA_ERROR_INVALID_VALUE;
    char text[1024];
    va_list copy;
    va_copy(copy, *arguments);
    std::vsnprintf(text, sizeof text, format, copy);
    va_end(copy);
    log_line(LogLevel::debug, std::string(category ? category : "runtime") + ": " + text);
    return CUDA_SUCCESS;
}

// Asked for after a runtime's call has failed; what it is to answer is not known, and a refusal is taken well.
CUresult refuse(const void*) {
    return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace

const void* error_log_table() {
    static auto& table = (*new SlotTable<"ERROR_LOG", 3>).set(1, log_error).set(2, refuse);
    return table.address();
}

}  // namespace softgpu
