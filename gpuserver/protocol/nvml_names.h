// nvml.h with every version of a function under its own name, and all of them exported.
#pragma once

#ifndef NVML_NO_UNVERSIONED_FUNC_DEFS
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#endif
#pragma GCC visibility push(default)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <nvml.h>
// Exported by NVIDIA's library and used by nvidia-smi, but in no header.
extern "C" nvmlReturn_t nvmlInternalGetExportTable(const void** table, const void* id);
#pragma GCC diagnostic pop
#pragma GCC visibility pop
