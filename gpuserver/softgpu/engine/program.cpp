// Programs: compile_program, load_program, and the kernels' code made when it is first needed.
#include "engine/program.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "engine/lower.h"
#include "ptx/cooperative_groups.h"
#include "ptx/parser.h"

namespace softgpu {

namespace {

// Kernels of programs up to this size are compiled at once, so that what is wrong with them shows when the program is
// loaded. Those of the big libraries wait for their first launch.
constexpr size_t eager_instructions = 20000;

}  // namespace

CompiledProgram::CompiledProgram(ptx::Linked linked) : linked_(std::move(linked)) {
    handles_ = std::make_unique<FunctionHandle[]>(std::max<size_t>(1, linked_.functions.size()));
    describe_variables();
    size_t instructions = 0;
    for (const ptx::LinkedFunction& f : linked_.functions) instructions += f.function->code.size();
    for (uint32_t f = 0; f < linked_.functions.size(); ++f)
        if (linked_.functions[f].function->kernel) kernel_function_.push_back(f);
    code_.resize(kernel_function_.size());
    describe_kernels();
    if (instructions > eager_instructions) return;
    for (size_t k = 0; k < kernels_.size(); ++k) {
        const Code& c = code(k);
        kernels_[k].static_shared_bytes = c.static_shared_bytes;
        kernels_[k].local_bytes = c.local_bytes;
        kernels_[k].registers = limited_registers(kernel_function_[k], c.registers);
    }
}

void CompiledProgram::describe_variables() {
    for (const ptx::LinkedVariable& lv : linked_.variables) {
        VariableInfo info;
        info.name = lv.exported ? std::string(lv.variable->name) : std::string();
        info.space =
            lv.variable->space == ptx::Space::constant ? VariableInfo::Space::constant : VariableInfo::Space::global;
        info.size = lv.variable->size;
        info.align = lv.variable->align;
        info.managed = lv.variable->managed;
        variables_.push_back(std::move(info));
    }
}

namespace {

// What can be said of a kernel without compiling it: the shared variables and functions its text reaches.
class Reach {
  public:
    explicit Reach(const ptx::Linked& linked) : linked_(linked), seen_(linked.functions.size(), false) {}
    void visit(uint32_t root) {
        std::vector<uint32_t> work{root};
        seen_[root] = true;
        while (!work.empty()) {
            const ptx::LinkedFunction& f = linked_.functions[work.back()];
            work.pop_back();
            registers = std::max<size_t>(registers, f.function->registers.size());
            uint64_t local = 0;
            for (const ptx::Variable& v : f.function->variables)
                if (v.space == ptx::Space::local) local += v.size;
            local_bytes = std::max(local_bytes, local);
            auto use = [&](const ptx::Symbol& s) {
                if (s.kind == ptx::Symbol::Kind::shared) {
                    const ptx::Variable& v = *linked_.shared[s.index].variable;
                    if (std::find(shared_.begin(), shared_.end(), s.index) == shared_.end()) {
                        shared_.push_back(s.index);
                        shared_bytes = (shared_bytes + v.align - 1) / v.align * v.align + v.size;
                    }
                } else if (s.kind == ptx::Symbol::Kind::function && !seen_[s.index]) {
                    seen_[s.index] = true;
                    work.push_back(s.index);
                }
            };
            for (const ptx::Symbol& s : f.symbols) use(s);
            for (const ptx::Symbol& s : f.variables) use(s);
        }
    }
    uint64_t shared_bytes = 0, local_bytes = 0;
    size_t registers = 0;

  private:
    const ptx::Linked& linked_;
    std::vector<bool> seen_;
    std::vector<uint32_t> shared_;
};

}  // namespace

void CompiledProgram::describe_kernels() {
    for (uint32_t f : kernel_function_) {
        const ptx::LinkedFunction& lf = linked_.functions[f];
        const ptx::Function& function = *lf.function;
        const ptx::Module& module = *linked_.modules[lf.module];
        KernelInfo info;
        info.name = function.name;
        info.ptx_version = module.version;
        info.target = module.target;
        uint64_t end = 0;
        for (uint32_t p = 0; p < function.parameter_count; ++p) {
            const ptx::Variable& v = function.variables[p];
            end = (end + v.align - 1) / v.align * v.align;
            info.parameters.push_back({static_cast<uint32_t>(end), static_cast<uint32_t>(v.size), v.align});
            end += v.size;
            if (end > 1 << 20)
                throw CompileError(CompileError::Reason::invalid_ptx, module.source_name, function.line,
                                   module.source_name + ":" + std::to_string(function.line) + ": kernel '" + info.name +
                                       "' has too many bytes of parameters");
        }
        info.parameter_bytes = static_cast<uint32_t>(end);
        auto volume = [](const std::array<uint32_t, 3>& d) { return uint64_t{d[0]} * d[1] * d[2]; };
        if (function.required_threads[0]) {
            info.required_block = {function.required_threads[0], function.required_threads[1],
                                   function.required_threads[2]};
            info.max_threads = static_cast<uint32_t>(std::min<uint64_t>(1024, volume(function.required_threads)));
        } else if (function.max_threads[0]) {
            info.max_threads = static_cast<uint32_t>(std::min<uint64_t>(1024, volume(function.max_threads)));
        }
        if (function.required_cluster[0])
            info.required_cluster = {function.required_cluster[0], function.required_cluster[1],
                                     function.required_cluster[2]};
        Reach reach(linked_);
        reach.visit(f);
        info.static_shared_bytes = static_cast<uint32_t>(reach.shared_bytes);
        info.local_bytes = static_cast<uint32_t>(reach.local_bytes);
        info.registers = limited_registers(f, static_cast<uint32_t>(std::clamp<size_t>(reach.registers / 4, 16, 255)));
        kernels_.push_back(std::move(info));
    }
}

uint32_t CompiledProgram::limited_registers(uint32_t function, uint32_t registers) const {
    constexpr uint32_t fewest = 16;  // a kernel gets that many whatever it is limited to
    const ptx::LinkedFunction& linked = linked_.functions[function];
    for (uint32_t limit : {linked.function->max_registers, linked_.modules[linked.module]->max_registers})
        if (limit) registers = std::min(registers, std::max(limit, fewest));
    return registers;
}

const Code& CompiledProgram::code(size_t kernel) const {
    std::lock_guard lock(mutex_);
    if (!code_[kernel]) code_[kernel] = Lowering(*this, kernel_function_[kernel]).run();
    return *code_[kernel];
}

int64_t CompiledProgram::function_at(uint64_t address) const {
    const auto begin = reinterpret_cast<uint64_t>(handles_.get());
    if (address < begin || (address - begin) % sizeof(FunctionHandle) != 0) return -1;
    const uint64_t index = (address - begin) / sizeof(FunctionHandle);
    return index < linked_.functions.size() ? static_cast<int64_t>(index) : -1;
}

void LoadedImage::Free::operator()(std::byte* p) const {
    ::operator delete[](p, std::align_val_t{64});
}

const std::byte* LoadedImage::constants_end(size_t kernel) const {
    std::lock_guard lock(mutex_);
    const Code& code = program_->code(kernel);
    auto& copy = constants_[kernel];
    if (!copy) {
        const size_t size = std::max<size_t>(64, code.constants.size());
        copy.reset(static_cast<std::byte*>(::operator new[](size, std::align_val_t{64})));
        std::ranges::copy(code.constants, copy.get());
        for (const ConstantAddress& a : code.addresses) {
            const uint64_t base = a.function ? program_->function_address(a.index) : addresses_[a.index];
            const uint64_t value = base + static_cast<uint64_t>(a.addend);
            for (uint32_t l = 0; l < lanes; ++l) std::memcpy(copy.get() + a.offset + l * 8, &value, 8);
        }
    }
    return copy.get() + code.constants.size();
}

std::shared_ptr<const Program> compile_program(std::span<const PtxSource> sources) {
    std::vector<std::unique_ptr<ptx::Module>> modules;
    for (const PtxSource& source : sources) {
        modules.push_back(ptx::parse(source.name, source.text));
        modules.back()->max_registers = source.max_registers;
    }
    const bool cooperative = std::ranges::any_of(modules, [](const auto& module) {
        return std::ranges::any_of(module->function_index, [](const auto& function) {
            return function.first.starts_with(ptx::cooperative_groups_prefix);
        });
    });
    if (cooperative) {
        modules.push_back(ptx::parse("cooperative groups", ptx::cooperative_groups_text()));
    }
    return std::make_shared<const CompiledProgram>(ptx::link(std::move(modules)));
}

std::shared_ptr<const LoadedProgram> load_program(std::shared_ptr<const Program> program,
                                                  const std::function<uint64_t(const VariableInfo&)>& place) {
    auto compiled = std::static_pointer_cast<const CompiledProgram>(std::move(program));
    const ptx::Linked& linked = compiled->linked();
    std::vector<uint64_t> addresses;
    for (const VariableInfo& v : compiled->variables()) addresses.push_back(place(v));
    for (size_t v = 0; v < addresses.size(); ++v) {
        const ptx::Variable& variable = *linked.variables[v].variable;
        auto* memory = reinterpret_cast<std::byte*>(addresses[v]);
        std::memset(memory, 0, variable.size);
        const size_t given = std::min<size_t>(variable.initial.size(), variable.size);
        if (given) std::memcpy(memory, variable.initial.data(), given);
        for (size_t r = 0; r < variable.relocations.size(); ++r) {
            const ptx::Relocation& relocation = variable.relocations[r];
            const ptx::Symbol& symbol = linked.relocations[v][r];
            uint64_t base = 0;
            if (symbol.kind == ptx::Symbol::Kind::memory)
                base = addresses[symbol.index];
            else if (symbol.kind == ptx::Symbol::Kind::function)
                base = compiled->function_address(symbol.index);
            else
                throw CompileError(CompileError::Reason::unresolved_symbol, "", relocation.line,
                                   "line " + std::to_string(relocation.line) + ": the address of '" +
                                       std::string(relocation.name) + "' is not known before a launch");
            const uint64_t value = (base + static_cast<uint64_t>(relocation.addend)) >> relocation.shift;
            std::memcpy(memory + relocation.offset, &value, relocation.size);
        }
    }
    return std::make_shared<const LoadedImage>(std::move(compiled), std::move(addresses));
}

}  // namespace softgpu
