// Contexts as the client sees them: which is current in which thread, and whether a sticky error has ended one.
#pragma once

#include "client.h"

namespace gpuferry {

struct Context {
    Handle handle = 0;
    Server* server = nullptr;
    CUdevice device = 0;
    bool primary = false;
    unsigned flags = 0;
    unsigned long long id = 0;
    int retained = 0;  // of a primary context: cuDevicePrimaryCtxRetain without Release, whatever was reset since
    std::atomic<bool> active = false;  // a primary context: retained, and not reset since
    std::atomic<bool> destroyed = false;
    std::atomic<CUresult> sticky = CUDA_SUCCESS;
};

void open_contexts(const Snapshot& snapshot);

// The calling thread's current context; null when there is none.
Context* current_context();
// The server of the current context's GPU; where none is current, the first.
Server& current_server();
// The server that a stream's work goes to.
Server& server_of_stream(CUstream stream);
// The context of a device that is there without anybody's doing.
Context* primary_context(CUdevice device);
// Null for no context; an unknown handle is no context either, with `known` false.
Context* find_context(CUcontext handle, bool& known);

// Whether calls may be made in this context: none, one that is gone, and one that has failed say so.
CUresult check_usable(const Context* context);

// Errors after which every call in their context fails the same way.
bool is_sticky(CUresult error);

// The stream that NULL stands for in the calling thread: the legacy one, or its own (inside `_ptsz`/`_ptds` calls).
class PerThreadStreamScope {
  public:
    PerThreadStreamScope();
    ~PerThreadStreamScope();
    PerThreadStreamScope(const PerThreadStreamScope&) = delete;
    PerThreadStreamScope& operator=(const PerThreadStreamScope&) = delete;

  private:
    bool before_;
};

// Makes a context the calling thread's current one for a while, whatever is current, and whether or not the program
// holds it: with it goes the default stream of its GPU.
class ContextScope {
  public:
    explicit ContextScope(const Context& context);
    ~ContextScope();
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;

  private:
    bool per_thread_before_;
    const Context* trusted_before_;
};

// The handle that goes to the server for a stream as the program names it. A thread's own default stream is made when
// it is first used.
Handle resolve_stream(CUstream stream);

// Whether there ever was a stream that goes its own way beside the default one.
bool non_blocking_streams_used();

// After the reply to a request of this number that waited for all work of a stream: as long as nothing more is posted
// by any thread, a wait for the same stream in this thread has nothing to wait for. cudart waits again after each
// blocking copy.
void note_stream_idle(CUstream stream, uint64_t number);
bool is_stream_idle(CUstream stream);

}  // namespace gpuferry
