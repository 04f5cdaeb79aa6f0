// Copies of rectangles and boxes, as graphs hold them.
#pragma once

#include "cuda_api.h"

namespace gpuferry {

struct Server;

// Checks both sides of a copy, and names its host memory by its twin's address on the server.
CUresult localise_copy(Server& server, CUDA_MEMCPY3D& copy);

}  // namespace gpuferry
