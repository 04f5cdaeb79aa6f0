// Host functions in streams: the program's functions run in this process when the server says that their turn in the
// stream has come, and the stream goes on when they return.
#pragma once

#include <cstdint>

#include "cuda_api.h"

namespace gpuferry {

struct Server;

// A function of the program's: a host function, or the older form of a stream's callback.
struct HostFunction {
    CUhostFn function = nullptr;
    void* data = nullptr;
    CUstreamCallback callback = nullptr;
    CUstream stream = nullptr;
};

// Runs a function in the stream's turn.
CUresult post_host_function(CUstream stream, const HostFunction& function);
// Gives a function an id that the server calls it by: once, or whenever a graph that holds it runs.
uint64_t add_host_function(Server& server, const HostFunction& function, bool stays);
void remove_host_function(uint64_t id);
// False when there is no such function.
bool find_host_function(uint64_t id, HostFunction& function);
// Whether the calling thread runs a host function now: it may not call CUDA.
bool inside_host_function();

// The turn of the function with this id has come. Called by whichever thread reads replies.
void run_host_function(const Server& server, uint64_t id);
// Whether any host function has been posted that has not returned yet.
bool host_functions_pending();
// Whether there ever was one.
bool host_functions_used();

}  // namespace gpuferry
