// Work of the device whose end nobody can see but by waiting for it: uploads, whose bytes are taken when they are
// posted, and requests that only make or end objects. PyTorch waits for the stream after every tensor that it moves to
// the GPU; where there is nothing but such work, that wait is posted too, and costs no round trip.
//
// All other work is loud: it may fail, or change what the program sees in its own memory. What the program posts after
// the posted wait still finds the uploads done, in whatever stream: the worker's dispatcher waits for them in its turn.
#pragma once

#include "contexts.h"

namespace gpuferry {

bool is_quiet(Op op);

// A stream across contexts: default streams have the same handle in all of them.
uint64_t stream_key(const Context* context, Handle stream);
constexpr uint64_t unknown_stream = 1;  // the key of work that names none

// After a loud request was posted.
void note_loud(uint64_t stream_key, uint64_t number);

// After the reply to a request of this number that waited for all work of the stream.
void note_waited(uint64_t stream_key, uint64_t number);

// Whether the stream has had no loud work since it was last waited for, and nobody could see that the wait is posted.
bool holds_only_quiet_work(CUstream stream);

}  // namespace gpuferry
