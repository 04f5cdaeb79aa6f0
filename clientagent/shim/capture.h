// Whether a stream is being captured.
#pragma once

#include "cuda_api.h"

namespace gpuferry {

// Answers at home while the process has no capture under way. A stream that may not be used now says why.
CUresult ask_capturing(CUstream stream, bool& capturing);

}  // namespace gpuferry
