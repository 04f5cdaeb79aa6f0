// Thread state behind a pthread key: its destructor runs when a thread ends but not in exit().
#include "device/thread_state.h"

#include <pthread.h>

#include "device/capture.h"
#include "device/stream.h"

namespace softgpu {

ThreadState& thread_state() {
    static thread_local ThreadState* mine = nullptr;
    if (mine) return *mine;
    static const pthread_key_t key = [] {
        pthread_key_t made = 0;
        pthread_key_create(&made, [](void* state) {
            mine = nullptr;
            auto* ending = static_cast<ThreadState*>(state);
            for (const auto& [context, stream] : ending->streams) abandon_capture(*stream);
            delete ending;
        });
        return made;
    }();
    mine = new ThreadState;
    pthread_setspecific(key, mine);
    return *mine;
}

}  // namespace softgpu
