// Libraries (cuLibrary*): a program that is loaded into each context when one of its kernels is first used there.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "image/module.h"

namespace softgpu {

class Library;

// A kernel of a library, in no context. Shares its handle's namespace with functions: runtime 13 launches kernels by
// this handle.
class Kernel final : public Object {
  public:
    using Handle = CUkernel;
    static constexpr Kind kind = Kind::function;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    Kernel(std::weak_ptr<Library> library, size_t index) : library_(std::move(library)), index_(index) {}

    // Throws INVALID_HANDLE when its library is gone.
    [[nodiscard]] std::shared_ptr<Library> library() const;
    [[nodiscard]] const KernelInfo& info() const;
    // What it is in a context.
    std::shared_ptr<Function> function(Context& context);

    int attribute(CUfunction_attribute attribute, const Device& device);
    // Settable attributes by device; they reach contexts where the kernel is loaded, and those where it will be.
    void set_attribute(CUfunction_attribute attribute, int value, const Device& device);
    void set_cache_config(CUfunc_cache config, const Device& device);

  private:
    const std::weak_ptr<Library> library_;
    const size_t index_;
    std::mutex mutex_;
    std::map<int, std::map<CUfunction_attribute, int>> attributes_;  // by device ordinal
    std::map<int, CUfunc_cache> cache_configs_;
};

class Library final : public Object, public std::enable_shared_from_this<Library> {
  public:
    using Handle = CUlibrary;
    static constexpr Kind kind = Kind::library;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    explicit Library(std::shared_ptr<const Program> program);
    ~Library() override;
    // Takes all handles away and unloads it from every context.
    static void unload(const std::shared_ptr<Library>& library);

    [[nodiscard]] const Program& program() const { return *program_; }
    std::shared_ptr<Kernel> kernel(size_t index);
    // Throws NOT_FOUND.
    std::shared_ptr<Kernel> kernel(std::string_view name);

    // Its module in a context, loaded when it is not there yet.
    std::shared_ptr<Module> module(Context& context);
    // Its modules in the living contexts of a device.
    std::vector<std::shared_ptr<Module>> modules(const Device& device);
    // A managed variable; needs a context only when the library is loaded nowhere yet. Throws NOT_FOUND.
    Module::Variable managed(std::string_view name);

  private:
    const std::shared_ptr<const Program> program_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<Kernel>> kernels_;       // null until asked for
    std::map<uint64_t, std::weak_ptr<Module>> modules_;  // by context id
    SharedVariables managed_;
};

// What a program means by a CUfunction: a function or a kernel. Throws INVALID_HANDLE.
std::shared_ptr<Object> require_function_or_kernel(uint64_t handle);
std::shared_ptr<Kernel> require_kernel(CUkernel handle);

}  // namespace softgpu
