// Names of results that may be asked for without a session.
#pragma once

#include "cuda_api.h"

namespace gpuferry {

// Null for a result that can only come from a server.
const char* known_error_name(CUresult error);

}  // namespace gpuferry
