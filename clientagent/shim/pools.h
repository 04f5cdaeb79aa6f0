// What the rest of the client has to know of pools: which memory is theirs.
#pragma once

#include "contexts.h"

namespace gpuferry {

// cuMemFree of memory that may have come from a pool; `of_pool` says whether it did.
CUresult free_of_pool(CUdeviceptr address, bool& of_pool);
// Whether this is a piece of a pool on the host, which cuMemFreeHost does not free.
bool is_of_host_pool(const void* memory);
// Whether the pool is another process's.
bool is_imported_pool(CUmemoryPool pool);
// The context ends, and its memory with it.
void forget_pool_blocks(const Context* context);

}  // namespace gpuferry
