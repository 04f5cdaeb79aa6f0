// The registry of handles: sharded by serial, so that calls of many threads do not meet.
#include "device/handle.h"

#include <array>
#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace softgpu {
namespace {

constexpr size_t shard_count = 32;
constexpr int kind_shift = 40;  // 36 bits of serial below, handles stay below 2^47

struct Shard {
    std::shared_mutex mutex;
    std::unordered_map<uint64_t, std::shared_ptr<Object>> objects;
};

// Never destroyed: programs call from exit handlers.
std::array<Shard, shard_count>& shards() {
    static auto& all = *new std::array<Shard, shard_count>;
    return all;
}

Shard& shard_of(uint64_t value) {
    return shards()[(value >> 4) % shard_count];
}

}  // namespace

uint64_t register_object(Kind kind, const std::shared_ptr<Object>& object) {
    static std::atomic<uint64_t> next_serial{1};
    const uint64_t serial = next_serial.fetch_add(1, std::memory_order_relaxed);
    const uint64_t value = uint64_t{static_cast<uint8_t>(kind)} << kind_shift | serial << 4;
    object->value_ = value;
    Shard& shard = shard_of(value);
    const std::unique_lock lock(shard.mutex);
    shard.objects.emplace(value, object);
    return value;
}

std::shared_ptr<Object> find_object(Kind kind, uint64_t value) noexcept {
    if (value >> kind_shift != static_cast<uint8_t>(kind)) return nullptr;
    Shard& shard = shard_of(value);
    const std::shared_lock lock(shard.mutex);
    const auto found = shard.objects.find(value);
    return found == shard.objects.end() ? nullptr : found->second;
}

std::shared_ptr<Object> remove_object(Kind kind, uint64_t value) noexcept {
    return value >> kind_shift == static_cast<uint8_t>(kind) ? remove_object(value) : nullptr;
}

std::shared_ptr<Object> remove_object(uint64_t value) noexcept {
    Shard& shard = shard_of(value);
    const std::unique_lock lock(shard.mutex);
    const auto found = shard.objects.find(value);
    if (found == shard.objects.end()) return nullptr;
    auto object = std::move(found->second);
    shard.objects.erase(found);
    return object;
}

}  // namespace softgpu
