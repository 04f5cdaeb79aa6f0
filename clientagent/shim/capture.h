// Whether a stream is being captured.
#pragma once

#include "cuda_api.h"

namespace gpuferry {

// Answers at home while the process has no capture under way. A stream that may not be used now says why.
CUresult ask_capturing(CUstream stream, bool& capturing);

// Whether this process has any capture under way.
bool capture_under_way();
// Refuses a call that is not allowed while streams are captured, by the mode of the captures and of the calling thread;
// the captures fail with it, as CUDA's do.
CUresult forbid_during_capture();

}  // namespace gpuferry
