// Host functions in streams: the program's functions run in this process when the server says that their turn in the
// stream has come, and the stream goes on when they return.
#pragma once

#include <cstdint>

namespace gpuferry {

// The turn of the function with this id has come. Called by whichever thread reads replies.
void run_host_function(uint64_t id);
// Whether any host function has been posted that has not returned yet.
bool host_functions_pending();

}  // namespace gpuferry
