// NVIDIA's private tables, which its runtime and libraries ask for with cuGetExportTable: arrays of function pointers
// under a UUID. All are answered in this process. Slots that no public program is known to call fail loudly.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "contexts.h"

namespace gpuferry {

// A table's name where a template can take it.
template <size_t Length>
struct TableName {
    char text[Length];
    // NOLINTNEXTLINE: implicit, so that a literal is enough.
    constexpr TableName(const char (&literal)[Length]) { std::copy_n(literal, Length, text); }
};

// Says once which slot it was.
CUresult unknown_slot(const char* table, size_t slot);

// What every slot is until `set` puts a function there. Word 0 is the table's size in bytes.
template <TableName Name, size_t Words>
class SlotTable {
  public:
    SlotTable() { fill(std::make_index_sequence<Words>()); }

    template <class Result, class... Parameters>
    SlotTable& set(size_t slot, Result (*function)(Parameters...)) {
        words_[slot] = reinterpret_cast<const void*>(function);
        return *this;
    }
    [[nodiscard]] const void* address() const { return words_.data(); }

  private:
    template <size_t Slot>
    static CUresult unknown() {
        return unknown_slot(Name.text, Slot);
    }
    template <size_t... Slots>
    void fill(std::index_sequence<Slots...>) {
        ((words_[Slots] = reinterpret_cast<const void*>(&unknown<Slots>)), ...);
        words_[0] = reinterpret_cast<const void*>(Words * sizeof(void*));
    }
    std::array<const void*, Words> words_{};
};

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
