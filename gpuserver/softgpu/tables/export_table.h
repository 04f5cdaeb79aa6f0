// The private tables of the software driver (private_tables.h), one file each.
#pragma once

#include "device/cuda_types.h"
#include "private_tables.h"

namespace softgpu {

// Says once which slot it was.
CUresult unknown_slot(const char* table, size_t slot);

template <gpuferry::private_tables::TableName Name, size_t Words>
using SlotTable = gpuferry::private_tables::SlotTable<Name, Words, unknown_slot>;

// The tables, each in the file of its name.
const void* cudart_interface_table();
const void* callback_hooks_table();
const void* tools_tls_table();
const void* context_local_storage_table();
const void* context_checks_table();
const void* integrity_check_table();
const void* context_create_bypass_table();
const void* device_extended_table();
const void* error_log_table();
const void* object_ids_table();
const void* module_iterator_table();

}  // namespace softgpu
