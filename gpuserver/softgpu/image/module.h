// A program in a context: its functions and where its variables live.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "device/context.h"
#include "device/function.h"
#include "device/handle.h"
#include "device/memory.h"

namespace softgpu {

// Memory of variables that belongs to something longer-lived than the module (a library's managed variables).
using SharedVariables = std::map<size_t, AllocationPtr>;

class Module final : public Object {
  public:
    using Handle = CUmodule;
    static constexpr Kind kind = Kind::module;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    // Loads `program` into `context` and gives it a handle that ends with the context. Managed variables go to
    // `shared`, which keeps their values when they are there already. Throws OUT_OF_MEMORY, INVALID_PTX.
    static std::shared_ptr<Module> load(Context& context, std::shared_ptr<const Program> program,
                                        SharedVariables* shared = nullptr);
    // Takes the handle and those of its functions away. Launches in flight keep what they use.
    static void unload(const std::shared_ptr<Module>& module);
    ~Module() override;

    [[nodiscard]] const Program& program() const { return loaded_->program(); }
    [[nodiscard]] std::shared_ptr<Context> context() const { return context_.lock(); }

    // The function of a kernel; the same object each time.
    std::shared_ptr<Function> function(size_t kernel);
    // Throws NOT_FOUND.
    std::shared_ptr<Function> function(std::string_view name);
    // The function when it was asked for before, else null.
    std::shared_ptr<Function> existing_function(size_t kernel);

    struct Variable {
        uint64_t address, size;
        bool managed;
    };
    // Throws NOT_FOUND.
    [[nodiscard]] Variable variable(std::string_view name) const;

    bool of_library = false;  // unloaded with the library only

  private:
    Module(Context& context, std::shared_ptr<const LoadedProgram> loaded);

    const std::weak_ptr<Context> context_;
    const std::shared_ptr<const LoadedProgram> loaded_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<Function>> functions_;  // by kernel; null until asked for
};

// The index of a kernel in a program. Throws NOT_FOUND.
size_t find_kernel(const Program& program, std::string_view name);

}  // namespace softgpu
