// The engine's C interface for tests; see testing.h.
#include "engine/testing.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "engine/engine.h"

namespace {

using namespace softgpu;

// A fixed set of ranges.
class Ranges : public AddressSpace {
  public:
    void add(uint64_t begin, uint64_t size, bool writable) {
        std::lock_guard lock(mutex_);
        if (size) ranges_[begin] = {begin, begin + size, writable};
    }
    void remove(uint64_t begin) {
        std::lock_guard lock(mutex_);
        ranges_.erase(begin);
        generation_.fetch_add(1);
    }
    [[nodiscard]] Range find(uint64_t address) const override {
        std::lock_guard lock(mutex_);
        auto after = ranges_.upper_bound(address);
        if (after == ranges_.begin()) return {};
        const Range& range = std::prev(after)->second;
        return address < range.end ? range : Range{};
    }
    [[nodiscard]] uint64_t generation() const override { return generation_.load(); }

  private:
    mutable std::mutex mutex_;
    std::map<uint64_t, Range> ranges_;
    std::atomic<uint64_t> generation_{1};
};

struct TestProgram {
    std::shared_ptr<const LoadedProgram> loaded;
    Ranges ranges;
    std::vector<void*> owned;
    std::map<uint64_t, void*> heap;
    std::mutex mutex;
    std::string output, shown;
    ~TestProgram() {
        loaded.reset();
        for (void* memory : owned) std::free(memory);
        for (auto& [address, memory] : heap) std::free(memory);
    }
};

void put_text(char* out, uint64_t size, std::string_view text) {
    if (!out || size == 0) return;
    size_t count = std::min<size_t>(size - 1, text.size());
    std::memcpy(out, text.data(), count);
    out[count] = '\0';
}

TestProgram* from(void* program) { return static_cast<TestProgram*>(program); }

}  // namespace

#define SOFTGPU_TEST_API extern "C" __attribute__((visibility("default")))

SOFTGPU_TEST_API void* softgpu_test_link(const char* const* texts, uint32_t count, char* error, uint64_t error_size) {
    auto program = std::make_unique<TestProgram>();
    try {
        std::vector<PtxSource> sources;
        for (uint32_t i = 0; i < count; ++i) sources.push_back({count == 1 ? "ptx" : "ptx" + std::to_string(i), texts[i]});
        program->loaded = load_program(compile_program(sources), [&](const VariableInfo& v) {
            size_t align = std::max<size_t>(v.align, 16);
            void* memory = std::aligned_alloc(align, (std::max<size_t>(v.size, 1) + align - 1) / align * align);
            if (!memory) throw std::bad_alloc();
            program->owned.push_back(memory);
            program->ranges.add(reinterpret_cast<uint64_t>(memory), v.size, true);
            return reinterpret_cast<uint64_t>(memory);
        });
    } catch (const std::exception& failure) {
        put_text(error, error_size, failure.what());
        return nullptr;
    }
    return program.release();
}

SOFTGPU_TEST_API void* softgpu_test_compile(const char* text, char* error, uint64_t error_size) {
    return softgpu_test_link(&text, 1, error, error_size);
}

SOFTGPU_TEST_API void softgpu_test_release(void* program) { delete from(program); }

SOFTGPU_TEST_API int32_t softgpu_test_kernel(void* program, const char* name) {
    auto kernels = from(program)->loaded->program().kernels();
    for (size_t i = 0; i < kernels.size(); ++i)
        if (kernels[i].name == name) return static_cast<int32_t>(i);
    return -1;
}

SOFTGPU_TEST_API int64_t softgpu_test_parameter(void* program, uint32_t kernel, uint32_t parameter, uint64_t* size) {
    const auto& parameters = from(program)->loaded->program().kernels()[kernel].parameters;
    if (parameter >= parameters.size()) return -1;
    if (size) *size = parameters[parameter].size;
    return parameters[parameter].offset;
}

SOFTGPU_TEST_API void softgpu_test_resources(void* program, uint32_t kernel, uint32_t* shared, uint32_t* local,
                                             uint32_t* registers) {
    const KernelInfo& info = from(program)->loaded->program().kernels()[kernel];
    *shared = info.static_shared_bytes;
    *local = info.local_bytes;
    *registers = info.registers;
}

SOFTGPU_TEST_API void* softgpu_test_variable(void* program, const char* name, uint64_t* size) {
    const LoadedProgram& loaded = *from(program)->loaded;
    auto variables = loaded.program().variables();
    for (size_t i = 0; i < variables.size(); ++i) {
        if (variables[i].name != name) continue;
        if (size) *size = variables[i].size;
        return reinterpret_cast<void*>(loaded.variable_address(i));
    }
    return nullptr;
}

SOFTGPU_TEST_API int32_t softgpu_test_run(void* program, uint32_t kernel, const softgpu_test_launch* request,
                                          char* message, uint64_t message_size) {
    TestProgram& test = *from(program);
    Launch launch;
    launch.program = test.loaded;
    launch.kernel = kernel;
    launch.grid = {request->grid[0], request->grid[1], request->grid[2]};
    launch.block = {request->block[0], request->block[1], request->block[2]};
    launch.dynamic_shared_bytes = request->dynamic_shared_bytes;
    launch.cooperative = request->cooperative != 0;
    const auto* bytes = static_cast<const std::byte*>(request->parameters);
    launch.parameters.assign(bytes, bytes + request->parameter_bytes);
    launch.services.memory = &test.ranges;
    launch.services.print = [&test](std::string_view text) {
        std::lock_guard lock(test.mutex);
        test.output += text;
    };
    launch.services.heap_allocate = [&test](uint64_t size) -> uint64_t {
        void* memory = std::malloc(std::max<uint64_t>(size, 1));
        if (!memory) return 0;
        auto address = reinterpret_cast<uint64_t>(memory);
        std::lock_guard lock(test.mutex);
        test.heap[address] = memory;
        test.ranges.add(address, size, true);
        return address;
    };
    launch.services.heap_free = [&test](uint64_t address) {
        std::lock_guard lock(test.mutex);
        auto found = test.heap.find(address);
        if (found == test.heap.end()) return;
        test.ranges.remove(address);
        std::free(found->second);
        test.heap.erase(found);
    };
    launch.services.multiprocessors = 4;
    for (uint64_t i = 0; i < request->buffer_count; ++i) {
        const softgpu_test_buffer& b = request->buffers[i];
        test.ranges.add(reinterpret_cast<uint64_t>(b.data), b.size, b.writable != 0);
    }
    Fault fault = run_grid(launch);
    for (uint64_t i = 0; i < request->buffer_count; ++i)
        test.ranges.remove(reinterpret_cast<uint64_t>(request->buffers[i].data));
    put_text(message, message_size, fault.message);
    return static_cast<int32_t>(fault.kind);
}

SOFTGPU_TEST_API const char* softgpu_test_output(void* program) {
    TestProgram& test = *from(program);
    std::lock_guard lock(test.mutex);
    test.shown = test.output;
    return test.shown.c_str();
}
