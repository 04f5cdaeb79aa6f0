#include "stats.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "client.h"
#include "device_memory.h"

namespace gpuferry {
namespace {

std::atomic<uint64_t> calls[static_cast<int>(Op::count)];

const char* const class_names[] = {"LOCAL", "CACHED", "CREATE", "ASYNC", "SYNC", "CUSTOM", "REFUSED", "not yet"};
constexpr size_t class_count = std::size(class_names);

// What the blocking round trips were for, over all servers.
void print_waits() {
    std::fprintf(stderr, "gpuferry stats: waited for");
    for (size_t op = 0; op < static_cast<size_t>(Op::count); ++op) {
        uint64_t count = 0;
        for (const auto& server : client().servers()) {
            if (server->link) count += server->link->counts.round_trips_by_op[op];
        }
        if (!count) continue;
        std::fprintf(stderr, " %s=%llu", op_name(static_cast<Op>(op)), static_cast<unsigned long long>(count));
    }
    std::fprintf(stderr, "\n");
}

void print() {
    uint64_t by_class[class_count] = {}, all = 0;
    for (int op = 0; op < static_cast<int>(Op::count); ++op) {
        const uint64_t count = calls[op];
        by_class[static_cast<int>(op_class(static_cast<Op>(op)))] += count;
        all += count;
    }
    std::fprintf(stderr, "gpuferry stats: calls %llu", static_cast<unsigned long long>(all));
    for (size_t i = 0; i < class_count; ++i) {
        if (by_class[i]) std::fprintf(stderr, " %s=%llu", class_names[i], static_cast<unsigned long long>(by_class[i]));
    }
    if (client().servers().empty() || !client().home().link) {
        std::fprintf(stderr, " (no session)\n");
        return;
    }
    LinkCounts c;  // of all servers together
    for (const auto& server : client().servers()) {
        if (!server->link) continue;
        const LinkCounts& one = server->link->counts;
        c.round_trips += one.round_trips, c.posts += one.posts, c.sends += one.sends;
        c.bytes_out += one.bytes_out, c.bytes_in += one.bytes_in, c.waited_ns += one.waited_ns;
    }
    std::fprintf(
        stderr,
        "\ngpuferry stats: round_trips %llu posts %llu sends %llu bytes_out %llu bytes_in %llu waited_us %llu\n",
        static_cast<unsigned long long>(c.round_trips), static_cast<unsigned long long>(c.posts),
        static_cast<unsigned long long>(c.sends), static_cast<unsigned long long>(c.bytes_out),
        static_cast<unsigned long long>(c.bytes_in), static_cast<unsigned long long>(c.waited_ns / 1000));
    print_waits();
}

// At exit: what was posted leaves before the process does.
__attribute__((destructor)) void finish() {
    if (client().state() == ClientState::forked) return;
    for (const auto& server : client().servers()) {
        if (server->link) server->link->flush();
    }
    device_memory().account().close();
    const char* wanted = std::getenv("GPUFERRY_STATS");
    if (wanted && *wanted && *wanted != '0') print();
}

}  // namespace

void count_call(Op op) {
    calls[static_cast<int>(op)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace gpuferry
