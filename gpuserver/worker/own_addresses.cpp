#include "own_addresses.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace gpuferry::worker {
namespace {

constexpr rlim_t stack_room = 96ull << 40;  // bytes: what lies above 32 TiB is left to programs
constexpr rlim_t ordinary_stack = 8u << 20;
constexpr const char* limit_before = "GPUFERRY_STACK_LIMIT";

// The driver's threads get stacks of the size that the C library read from the limit when this process began.
void restore(rlim_t before) {
    rlimit limit{};
    getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_STACK, &limit);
    pthread_attr_t attributes;
    pthread_getattr_default_np(&attributes);
    pthread_attr_setstacksize(&attributes, before == RLIM_INFINITY ? ordinary_stack : before);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

}  // namespace

void leave_programs_addresses(char** words) {
    if (const char* before = std::getenv(limit_before)) {
        restore(std::strtoull(before, nullptr, 10));
        unsetenv(limit_before);
        return;
    }
    rlimit limit{};
    if (getrlimit(RLIMIT_STACK, &limit)) return;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = stack_room;
    if (limit.rlim_max < stack_room || setrlimit(RLIMIT_STACK, &limit)) return;
    setenv(limit_before, std::to_string(before).c_str(), 1);
    execv("/proc/self/exe", words);
    unsetenv(limit_before);
    restore(before);
}

}  // namespace gpuferry::worker
