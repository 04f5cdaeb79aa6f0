// Fuzz entry of the PTX parser, the linker and the lowering: whatever the text is, a Program or a CompileError comes
// back. What compiles also runs, one small block, so that no kernel can touch what is not its own: it gets no memory
// but its variables.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/engine.h"

namespace {

using namespace softgpu;

class Variables : public AddressSpace {
  public:
    ~Variables() override {
        for (const Range& range : ranges_) std::free(reinterpret_cast<void*>(range.begin));
    }
    uint64_t place(const VariableInfo& v) {
        if (v.size > 1 << 20) throw std::bad_alloc();
        const size_t align = v.align < 16 ? 16 : v.align;
        void* memory = std::aligned_alloc(align, (v.size + align) / align * align);
        if (!memory) throw std::bad_alloc();
        const auto begin = reinterpret_cast<uint64_t>(memory);
        ranges_.push_back({begin, begin + v.size, true});
        return begin;
    }
    [[nodiscard]] Range find(uint64_t address) const override {
        for (const Range& range : ranges_)
            if (address >= range.begin && address < range.end) return range;
        return {};
    }
    [[nodiscard]] uint64_t generation() const override { return 1; }

  private:
    std::vector<Range> ranges_;
};

// Ends launches that take too long: mutated loops need not end.
class Watchdog {
  public:
    Watchdog() : thread_([this] { watch(); }) {}
    ~Watchdog() {
        over_ = true;
        thread_.join();
    }
    std::atomic<bool> cancel{false};
    std::atomic<int64_t> deadline{0};
    static int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::milliseconds(1); }

  private:
    void watch() {
        while (!over_) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            const int64_t end = deadline;
            if (end != 0 && now() > end) cancel = true;
        }
    }
    std::atomic<bool> over_{false};
    std::thread thread_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size > 1 << 18) return 0;
    static Watchdog watchdog;
    const PtxSource source{"fuzz", {reinterpret_cast<const char*>(data), size}};
    try {
        auto program = compile_program({&source, 1});
        Variables variables;
        auto loaded = load_program(program, [&](const VariableInfo& v) { return variables.place(v); });
        for (size_t k = 0; k < program->kernels().size() && k < 4; ++k) {
            const KernelInfo& kernel = program->kernels()[k];
            if (kernel.static_shared_bytes > 1 << 20 || kernel.local_bytes > 1 << 20) continue;
            Launch launch;
            launch.program = loaded;
            launch.kernel = k;
            launch.grid = {2, 1, 1};
            launch.block = {40, 1, 1};
            launch.dynamic_shared_bytes = 256;
            launch.parameters.resize(kernel.parameter_bytes);
            launch.services.memory = &variables;
            launch.services.print = [](std::string_view) {};
            launch.cancel = &watchdog.cancel;
            watchdog.cancel = false;
            watchdog.deadline = Watchdog::now() + 20;
            run_grid(launch);
            watchdog.deadline = 0;
        }
    } catch (const CompileError&) {
    } catch (const std::bad_alloc&) {
    }
    return 0;
}
