// The private tables of the client's library (private_tables.h): all are answered in this process.
#pragma once

#include "contexts.h"
#include "private_tables.h"

namespace gpuferry {

// Says once which slot it was.
CUresult unknown_slot(const char* table, size_t slot);

template <private_tables::TableName Name, size_t Words>
using SlotTable = private_tables::SlotTable<Name, Words, unknown_slot>;

const void* cudart_interface_table();
const void* callback_hooks_table();
const void* tools_tls_table();
const void* context_local_storage_table();
const void* context_checks_table();
const void* integrity_check_table();
const void* object_ids_table();
const void* module_iterator_table();

// A context that ends: its local storage goes, each value through the function that was given with it.
void drop_context_local_storage(const Context* context);

}  // namespace gpuferry
