// cuGetExportTable.
#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

constexpr private_tables::ExportTable export_tables[] = {
    {private_tables::cudart_interface_id, cudart_interface_table},
    {private_tables::callback_hooks_id, callback_hooks_table},
    {private_tables::tools_tls_id, tools_tls_table},
    {private_tables::context_local_storage_id, context_local_storage_table},
    {private_tables::context_checks_id, context_checks_table},
    {private_tables::integrity_check_id, integrity_check_table},
    {private_tables::object_ids_id, object_ids_table},
    {private_tables::module_iterator_id, module_iterator_table},
    {private_tables::tools_extension_id, private_tables::tools_extension},
};

}  // namespace

CUresult unknown_slot(const char* table, size_t slot) {
    if (const std::string said = private_tables::complaint_of(table, slot); !said.empty()) say(said);
    return CUDA_ERROR_NOT_SUPPORTED;
}

namespace shim {

CUresult cuGetExportTable(const void** ppExportTable, const CUuuid* pExportTableId) {
    if (!ppExportTable || !pExportTableId) return CUDA_ERROR_INVALID_VALUE;
    const auto* table = private_tables::find_table(export_tables, *pExportTableId);
    *ppExportTable = table ? table->address() : nullptr;
    return table ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace shim
}  // namespace gpuferry
