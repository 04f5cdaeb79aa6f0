// Streams that wait for a value in memory: the program, or another stream, opens their way.
#pragma once

#include "cuda_api.h"

namespace gpuferry {

// Whether a stream may be waiting for a value: what is posted to it runs at a time that the program decides.
bool value_wait_pending();
// The stream has been seen to be done with all its work.
void note_waits_over(CUstream stream);

}  // namespace gpuferry
