// The runtime asks before it uses a context that it did not make.
#include "tables/export_table.h"

namespace softgpu {

const void* context_checks_table() {
    return gpuferry::private_tables::context_checks<unknown_slot>();
}

}  // namespace softgpu
