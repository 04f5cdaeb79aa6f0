// Thread state behind a pthread key: its destructor runs when a thread ends but not in exit().
#include "device/thread_state.h"

#include <pthread.h>

#include "device/stream.h"

namespace softgpu {

ThreadState& thread_state() {
    static thread_local ThreadState* mine = nullptr;
    if (mine) return *mine;
    static const pthread_key_t key = [] {
        pthread_key_t made = 0;
        pthread_key_create(&made, [](void* state) {
            mine = nullptr;
            delete static_cast<ThreadState*>(state);
        });
        return made;
    }();
    mine = new ThreadState;
    pthread_setspecific(key, mine);
    return *mine;
}

}  // namespace softgpu
