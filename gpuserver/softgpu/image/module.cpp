#include "image/module.h"

#include <algorithm>
#include <cstring>

#include "device/device.h"
#include "device/release.h"
#include "log.h"

namespace softgpu {
namespace {

// A loaded program and the memory of its variables: the last launch that uses it frees both.
struct Residence {
    std::shared_ptr<const LoadedProgram> loaded;
    std::vector<AllocationPtr> variables;
    ~Residence() {
        for (const auto& allocation : variables) release_allocation(allocation);
    }
};

// The address of a variable that other contexts share; what it holds survives the loading of the program once more.
class SharedValues {
  public:
    void keep(const AllocationPtr& allocation) {
        const auto* bytes = reinterpret_cast<const char*>(allocation->begin);
        kept_.emplace_back(allocation, std::string(bytes, allocation->size));
    }
    void restore() const {
        for (const auto& [allocation, bytes] : kept_) {
            std::memcpy(reinterpret_cast<void*>(allocation->begin), bytes.data(), bytes.size());
        }
    }

  private:
    std::vector<std::pair<AllocationPtr, std::string>> kept_;
};

}  // namespace

size_t find_kernel(const Program& program, std::string_view name) {
    auto kernels = program.kernels();
    for (size_t i = 0; i < kernels.size(); ++i) {
        if (kernels[i].name == name) return i;
    }
    throw DriverError(CUDA_ERROR_NOT_FOUND, "there is no kernel " + std::string(name));
}

Module::Module(Context& context, std::shared_ptr<const LoadedProgram> loaded)
    : context_(context.shared_from_this()),
      loaded_(std::move(loaded)),
      functions_(loaded_->program().kernels().size()) {}

Module::~Module() {
    for (const auto& function : functions_) {
        if (function) withdraw<Function>(handle_of(*function));
    }
}

std::shared_ptr<Module> Module::load(Context& context, std::shared_ptr<const Program> program,
                                     SharedVariables* shared) {
    auto residence = std::make_shared<Residence>();
    SharedValues values;
    auto variables = program->variables();
    auto place = [&](const VariableInfo& variable) -> uint64_t {
        auto index = static_cast<size_t>(&variable - variables.data());
        if (shared && variable.managed) {
            if (auto found = shared->find(index); found != shared->end()) {
                values.keep(found->second);
                return found->second->begin;
            }
        }
        auto allocation =
            context.device().allocate(variable.managed ? nullptr : &context, std::max<uint64_t>(variable.size, 1),
                                      variable.managed ? MemoryKind::managed : MemoryKind::device,
                                      std::max<uint64_t>(variable.align, allocation_granule), true);
        if (shared && variable.managed) {
            shared->emplace(index, allocation);
        } else {
            residence->variables.push_back(allocation);
        }
        return allocation->begin;
    };
    try {
        residence->loaded = load_program(std::move(program), place);
    } catch (const CompileError& error) {
        log_line(LogLevel::warning, error.source + ", line " + std::to_string(error.line) + ": " + error.what());
        throw DriverError(CUDA_ERROR_INVALID_PTX, error.what());
    }
    values.restore();
    std::shared_ptr<const LoadedProgram> loaded(residence, residence->loaded.get());
    std::shared_ptr<Module> module(new Module(context, std::move(loaded)));
    publish(module);
    context.adopt(module->handle_value());
    return module;
}

void Module::unload(const std::shared_ptr<Module>& module) {
    withdraw<Module>(handle_of(*module));
    if (auto context = module->context()) context->disown(module->handle_value());
    std::lock_guard lock(module->mutex_);
    for (auto& function : module->functions_) {
        if (function) withdraw<Function>(handle_of(*function));
        function.reset();
    }
}

std::shared_ptr<Function> Module::function(size_t kernel) {
    std::lock_guard lock(mutex_);
    auto& function = functions_.at(kernel);
    if (!function) {
        auto made = std::make_shared<Function>();
        made->name = program().kernels()[kernel].name;
        made->context = context_;
        made->program = loaded_;
        made->kernel_index = kernel;
        made->owner = handle_value();
        publish(made);
        function = std::move(made);
    }
    return function;
}

std::shared_ptr<Function> Module::function(std::string_view name) {
    return function(find_kernel(program(), name));
}

std::shared_ptr<Function> Module::existing_function(size_t kernel) {
    std::lock_guard lock(mutex_);
    return functions_.at(kernel);
}

Module::Variable Module::variable(std::string_view name) const {
    auto variables = program().variables();
    for (size_t i = 0; i < variables.size(); ++i) {
        if (variables[i].name == name) return {loaded_->variable_address(i), variables[i].size, variables[i].managed};
    }
    throw DriverError(CUDA_ERROR_NOT_FOUND, "there is no variable " + std::string(name));
}

}  // namespace softgpu
