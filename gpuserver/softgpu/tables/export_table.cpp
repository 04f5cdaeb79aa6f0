// cuGetExportTable: which private tables there are.
#include "tables/export_table.h"

#include <cstdio>
#include <string>

#include "exports/caller.h"
#include "log.h"

namespace softgpu {
namespace {

namespace ids = gpuferry::private_tables;

constexpr ids::ExportTable tables[] = {
    {ids::cudart_interface_id, cudart_interface_table},
    {ids::callback_hooks_id, callback_hooks_table},
    {ids::tools_tls_id, tools_tls_table},
    {ids::context_local_storage_id, context_local_storage_table},
    {ids::context_checks_id, context_checks_table},
    {ids::integrity_check_id, integrity_check_table},
    {ids::object_ids_id, object_ids_table},
    {ids::module_iterator_id, module_iterator_table},
    {ids::tools_extension_id, ids::tools_extension},
    // What the client's library does without.
    {{0x0c, 0xa5, 0x0b, 0x8c, 0x10, 0x04, 0x92, 0x9a, 0x89, 0xa7, 0xd0, 0xdf, 0x10, 0xe7, 0x72, 0x86},
     context_create_bypass_table},
    {{0xb1, 0x05, 0x41, 0xe1, 0xf7, 0xc7, 0xc7, 0x4a, 0x9f, 0x64, 0xf2, 0x23, 0xbe, 0x99, 0xf1, 0xe2},
     device_extended_table},
    {{0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9}, error_log_table},
};

std::string hexadecimal(const CUuuid& id) {
    std::string text;
    for (const char byte : id.bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
        text += digits;
    }
    return text;
}

}  // namespace

CUresult unknown_slot(const char* table, size_t slot) {
    if (const std::string said = ids::complaint_of(table, slot); !said.empty()) log_line(LogLevel::warning, said);
    return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace softgpu

extern "C" CUresult CUDAAPI cuGetExportTable(const void** ppExportTable, const CUuuid* pExportTableId) {
    using namespace softgpu;
    if (!ppExportTable || !pExportTableId) return CUDA_ERROR_INVALID_VALUE;
    *ppExportTable = nullptr;
    const auto* table = ids::find_table(tables, *pExportTableId);
    if (!table) {
        log_line(LogLevel::debug, "there is no private table " + hexadecimal(*pExportTableId));
        return CUDA_ERROR_INVALID_VALUE;
    }
    *ppExportTable = table->address();
    if (table->address == cudart_interface_table) note_runtime(caller_of_entry_point(__builtin_return_address(0)));
    if (tracing()) log_line(LogLevel::trace, "private table " + hexadecimal(*pExportTableId) + " handed out");
    return CUDA_SUCCESS;
}
