#include "image/library.h"

#include "device/device.h"
#include "device/release.h"
#include "image/attributes.h"

namespace softgpu {

// --- kernels

std::shared_ptr<Library> Kernel::library() const {
    auto library = library_.lock();
    if (!library) throw DriverError(CUDA_ERROR_INVALID_HANDLE, "the kernel's library was unloaded");
    return library;
}

const KernelInfo& Kernel::info() const {
    return library()->program().kernels()[index_];
}

std::shared_ptr<Function> Kernel::function(Context& context) {
    auto module = library()->module(context);
    if (auto function = module->existing_function(index_)) return function;
    auto function = module->function(index_);
    int device = context.device().ordinal();
    std::lock_guard lock(mutex_);
    for (auto [attribute, value] : attributes_[device]) set_function_attribute(*function, attribute, value);
    if (auto config = cache_configs_.find(device); config != cache_configs_.end()) {
        function->cache_config = config->second;
    }
    return function;
}

int Kernel::attribute(CUfunction_attribute attribute, const Device& device) {
    int value = kernel_attribute(info(), device, attribute);
    std::lock_guard lock(mutex_);
    auto set = attributes_[device.ordinal()].find(attribute);
    return set == attributes_[device.ordinal()].end() ? value : set->second;
}

void Kernel::set_attribute(CUfunction_attribute attribute, int value, const Device& device) {
    check_function_attribute(info(), device, attribute, value);
    auto modules = library()->modules(device);
    std::lock_guard lock(mutex_);
    attributes_[device.ordinal()][attribute] = value;
    for (const auto& module : modules) set_function_attribute(*module->function(index_), attribute, value);
}

void Kernel::set_cache_config(CUfunc_cache config, const Device& device) {
    auto modules = library()->modules(device);
    std::lock_guard lock(mutex_);
    cache_configs_[device.ordinal()] = config;
    for (const auto& module : modules) module->function(index_)->cache_config = config;
}

// --- libraries

Library::Library(std::shared_ptr<const Program> program)
    : program_(std::move(program)), kernels_(program_->kernels().size()) {}

Library::~Library() {
    for (const auto& [index, allocation] : managed_) release_allocation(allocation);
}

void Library::unload(const std::shared_ptr<Library>& library) {
    withdraw<Library>(handle_of(*library));
    std::lock_guard lock(library->mutex_);
    for (auto& kernel : library->kernels_) {
        if (kernel) withdraw<Kernel>(handle_of(*kernel));
        kernel.reset();
    }
    for (const auto& [context, weak] : library->modules_) {
        if (auto module = weak.lock()) Module::unload(module);
    }
    library->modules_.clear();
}

std::shared_ptr<Kernel> Library::kernel(size_t index) {
    std::lock_guard lock(mutex_);
    auto& kernel = kernels_.at(index);
    if (!kernel) {
        kernel = std::make_shared<Kernel>(weak_from_this(), index);
        publish(kernel);
    }
    return kernel;
}

std::shared_ptr<Kernel> Library::kernel(std::string_view name) {
    return kernel(find_kernel(*program_, name));
}

std::shared_ptr<Module> Library::module(Context& context) {
    std::lock_guard lock(mutex_);
    auto& weak = modules_[context.id()];
    if (auto module = weak.lock()) return module;
    auto module = Module::load(context, program_, &managed_);
    module->of_library = true;
    weak = module;
    return module;
}

std::vector<std::shared_ptr<Module>> Library::modules(const Device& device) {
    std::vector<std::shared_ptr<Module>> found;
    std::lock_guard lock(mutex_);
    for (const auto& [id, weak] : modules_) {
        auto module = weak.lock();
        auto context = module ? module->context() : nullptr;
        if (context && context->alive() && context->id() == id && &context->device() == &device) {
            found.push_back(std::move(module));
        }
    }
    return found;
}

Module::Variable Library::managed(std::string_view name) {
    auto variables = program_->variables();
    for (size_t i = 0; i < variables.size(); ++i) {
        if (!variables[i].managed || variables[i].name != name) continue;
        {
            std::lock_guard lock(mutex_);
            if (auto found = managed_.find(i); found != managed_.end()) {
                return {found->second->begin, variables[i].size, true};
            }
        }
        return module(Context::require_current())->variable(name);
    }
    throw DriverError(CUDA_ERROR_NOT_FOUND, "there is no managed variable " + std::string(name));
}

// --- one namespace of functions and kernels

std::shared_ptr<Object> require_function_or_kernel(uint64_t handle) {
    auto object = find_object(Kind::function, handle);
    if (!object) throw DriverError(CUDA_ERROR_INVALID_HANDLE, "neither a function nor a kernel");
    return object;
}

std::shared_ptr<Kernel> require_kernel(CUkernel handle) {
    auto kernel = std::dynamic_pointer_cast<Kernel>(require_function_or_kernel(to_value(handle)));
    if (!kernel) throw DriverError(CUDA_ERROR_INVALID_HANDLE, "a function is no kernel");
    return kernel;
}

std::shared_ptr<Function> resolve_function(CUfunction handle) {
    auto object = require_function_or_kernel(to_value(handle));
    if (auto function = std::dynamic_pointer_cast<Function>(object)) return function;
    return std::static_pointer_cast<Kernel>(object)->function(Context::require_current());
}

}  // namespace softgpu
