// nvml.h with every version of a function under its own name, and all of them exported.
#pragma once

#ifndef NVML_NO_UNVERSIONED_FUNC_DEFS
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#endif
#pragma GCC visibility push(default)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <nvml.h>
extern "C" nvmlReturn_t nvmlInternalGetExportTable(const void** table, const void* id);
#pragma GCC diagnostic pop
#pragma GCC visibility pop

namespace softgpu {

// Logs the name of a function that the software GPU does not have, once in the life of the process, at debug level:
// monitoring tools ask every device for everything.
void log_unsupported(const char* function);

}  // namespace softgpu
