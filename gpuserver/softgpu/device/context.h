// Contexts: what a thread works in. Streams, events, modules, allocations belong to one and end with it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "device/device.h"
#include "device/handle.h"

namespace softgpu {

class Stream;
class Context;

// What kernels of one context may touch.
class ContextMemory final : public AddressSpace {
  public:
    explicit ContextMemory(const Context& context) : context_(context) {}
    [[nodiscard]] Range find(uint64_t address) const override;
    [[nodiscard]] std::shared_ptr<const Texture> texture(uint64_t handle) const override;
    [[nodiscard]] uint64_t generation() const override;

  private:
    const Context& context_;
};

class Context final : public Object, public std::enable_shared_from_this<Context> {
  public:
    using Handle = CUcontext;
    static constexpr Kind kind = Kind::context;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_CONTEXT;

    Context(Device& device, bool primary);
    ~Context() override;

    [[nodiscard]] Device& device() const { return device_; }
    [[nodiscard]] bool is_primary() const { return primary_; }
    // Unique in the process; a primary context gets a new one each time it is made active.
    [[nodiscard]] uint64_t id() const { return id_.load(); }
    [[nodiscard]] bool alive() const { return alive_.load(std::memory_order_acquire); }

    // --- the calling thread's stack of contexts
    // The current context, or null.
    static std::shared_ptr<Context> current();
    // The current context. Throws INVALID_CONTEXT, CONTEXT_IS_DESTROYED, or the sticky error.
    static Context& require_current();
    // The same, but a failed context is fine (calls that CUDA lets through after a fault).
    static Context& require_current_even_failed();
    static void push(std::shared_ptr<Context> context);
    static std::shared_ptr<Context> pop();
    static void set_current(std::shared_ptr<Context> context);

    // --- life
    void activate(unsigned flags);
    // Waits for the work in flight, ends everything that belongs to the context, clears the sticky error.
    void tear_down();
    // A handle whose object ends with the context (module, stream, event, array ...).
    void adopt(uint64_t handle_value);
    void disown(uint64_t handle_value);
    // Runs when the context is torn down, before its objects go; the last added first.
    void on_tear_down(std::function<void()> action);

    // --- errors
    // The sticky error, CUDA_SUCCESS while all is well.
    [[nodiscard]] CUresult failure() const { return failure_.load(std::memory_order_acquire); }
    void fail(CUresult error, const std::string& message);
    void require_unfailed() const;
    // Set when kernels in flight must stop (exit of the process).
    [[nodiscard]] const std::atomic<bool>& cancel_flag() const { return cancel_; }
    void cancel() { cancel_.store(true); }

    // --- memory
    [[nodiscard]] const ContextMemory& memory() const { return memory_view_; }
    // Peers whose memory this context's kernels may touch: a bit per device.
    [[nodiscard]] uint64_t peers() const { return peers_.load(std::memory_order_acquire); }
    void set_peer(const Device& peer, bool enabled);

    // --- streams
    [[nodiscard]] std::shared_ptr<Stream> legacy_stream();
    // The calling thread's own default stream.
    [[nodiscard]] std::shared_ptr<Stream> thread_stream();
    [[nodiscard]] std::vector<std::shared_ptr<Stream>> streams() const;
    void enlist(const std::shared_ptr<Stream>& stream);
    // Waits for everything issued so far; device printf output reaches stdout. Throws the sticky error.
    void synchronize();
    // The same without the throw.
    void drain();

    // --- device printf and the in-kernel heap
    void print(std::string_view piece);
    void flush_print();
    uint64_t heap_allocate(uint64_t size);
    void heap_free(uint64_t address);
    [[nodiscard]] DeviceServices services();

    // --- settings
    std::atomic<unsigned> flags{0};
    std::atomic<int> cache_config{CU_FUNC_CACHE_PREFER_NONE};
    std::atomic<int> shared_config{CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE};
    std::array<std::atomic<size_t>, CU_LIMIT_MAX> limits{};
    std::atomic<int> retained{0};  // primary: cuDevicePrimaryCtxRetain
    std::atomic<unsigned> api_version{3020};
    // Makes the order in which work is issued one order, so that the legacy stream can wait for all before it.
    std::mutex issue_mutex;

  private:
    void reset_limits();

    Device& device_;
    const bool primary_;
    std::atomic<uint64_t> id_{0};
    std::atomic<bool> alive_{false};
    std::atomic<CUresult> failure_{CUDA_SUCCESS};
    std::atomic<bool> cancel_{false};
    std::atomic<uint64_t> peers_{0};
    ContextMemory memory_view_;

    mutable std::mutex mutex_;  // what follows
    std::string failure_message_;
    std::unordered_set<uint64_t> objects_;
    std::vector<std::function<void()>> tear_down_actions_;
    std::shared_ptr<Stream> legacy_;
    std::vector<std::weak_ptr<Stream>> streams_;
    uint64_t heap_used_ = 0;

    std::mutex print_mutex_;
    std::string print_buffer_;
};

// Every living context of a device, or of all devices when null.
std::vector<std::shared_ptr<Context>> living_contexts(const Device* device = nullptr);

}  // namespace softgpu
