#include "device/copy_order.h"

#include <algorithm>
#include <mutex>

#include "device/device.h"
#include "device/event.h"

namespace softgpu {
namespace {

// Makes `later` wait for everything that `earlier` was given so far, even when a context has failed.
void wait_for(Stream& later, Stream& earlier) {
    auto marker = std::make_shared<Marker>();
    earlier.enqueue({[marker] { marker->complete(); }, true});
    later.enqueue({[marker] { marker->wait(); }, true});
}

}  // namespace

Contexts contexts_of_other_devices(const Stream& stream, const Copy& copy) {
    Contexts others;
    if (stream.type() != Stream::Type::legacy || !copy.bytes()) return others;
    const Context& own = stream.context();
    for (const CopyEnd* end : {&copy.from, &copy.to}) {
        if (end->side != CopyEnd::Side::device) continue;
        const auto allocation = memory_map().find(end->base);
        if (!allocation || !allocation->device || allocation->device == &own.device()) continue;
        auto context = find<Context>(allocation->context);
        if (!context) context = allocation->device->primary();
        if (context->alive() && std::ranges::find(others, context) == others.end()) others.push_back(context);
    }
    return others;
}

void issue_in_order_with(const Contexts& others, Stream& stream, const std::function<void()>& issue) {
    if (others.empty()) return issue();
    // Two copies in opposite directions must not each wait for what the other was given after it.
    static auto& order = *new std::mutex;
    const std::lock_guard lock(order);
    std::vector<std::shared_ptr<Stream>> streams;
    for (const auto& context : others) {
        if (context.get() != &stream.context()) streams.push_back(context->legacy_stream());
    }
    for (const auto& other : streams) wait_for(stream, *other);
    issue();
    for (const auto& other : streams) wait_for(*other, stream);
}

}  // namespace softgpu
