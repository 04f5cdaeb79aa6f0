// Flags of profilers: nobody sets them.
#include "tables/export_table.h"

namespace softgpu {

const void* callback_hooks_table() {
    return gpuferry::private_tables::callback_hooks<unknown_slot>();
}

}  // namespace softgpu
