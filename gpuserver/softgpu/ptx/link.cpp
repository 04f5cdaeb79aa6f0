// Name resolution across texts (PTX ISA, "Linking Directives").
#include "ptx/link.h"

#include "engine/engine.h"

namespace softgpu::ptx {

std::optional<Builtin> builtin_of(std::string_view name) {
    if (name == "vprintf") return Builtin::vprintf;
    if (name == "malloc") return Builtin::malloc;
    if (name == "free") return Builtin::free;
    if (name == "__assertfail") return Builtin::assertfail;
    return std::nullopt;
}

namespace {

[[noreturn]] void refuse(CompileError::Reason reason, const Module& module, int line, const std::string& what) {
    throw CompileError(reason, module.source_name, line,
                       module.source_name + ":" + std::to_string(line) + ": " + what);
}

class Linker {
  public:
    explicit Linker(std::vector<std::unique_ptr<Module>> modules) { linked_.modules = std::move(modules); }

    Linked run() {
        local_.resize(linked_.modules.size());
        for (uint32_t m = 0; m < linked_.modules.size(); ++m) {
            define_variables(m);
            define_functions(m);
        }
        body_variables();
        for (LinkedFunction& f : linked_.functions) {
            int line = f.function->line;
            for (std::string_view name : f.function->symbols)
                f.symbols.push_back(name.empty() ? Symbol{} : resolve(f.module, name, line));
        }
        for (size_t v = 0; v < linked_.variables.size(); ++v) {
            linked_.relocations.emplace_back();
            const LinkedVariable& lv = linked_.variables[v];
            for (const Relocation& r : lv.variable->relocations) {
                Symbol s = resolve(lv.module, r.name, r.line);
                if (s.kind == Symbol::Kind::function) linked_.functions[s.index].address_taken = true;
                linked_.relocations.back().push_back(s);
            }
        }
        mark_addresses();
        return std::move(linked_);
    }

  private:
    struct Definition {
        Symbol symbol;
        Linkage linkage;
    };

    // Returns false when an equal-named, preferred definition is already there.
    void define(uint32_t module, std::string_view name, Linkage linkage, Symbol symbol, int line) {
        if (linkage == Linkage::internal) {
            local_[module][name] = symbol;
            return;
        }
        auto [found, inserted] = exported_.try_emplace(name, Definition{symbol, linkage});
        if (inserted) return;
        Definition& known = found->second;
        auto weak = [](Linkage l) { return l == Linkage::weak || l == Linkage::common; };
        if (weak(linkage)) {
            bool larger = linkage == Linkage::common && known.linkage == Linkage::common &&
                          symbol.kind == Symbol::Kind::memory && known.symbol.kind == Symbol::Kind::memory &&
                          linked_.variables[symbol.index].variable->size >
                              linked_.variables[known.symbol.index].variable->size;
            if (larger) known = {symbol, linkage};
            return;
        }
        if (!weak(known.linkage))
            refuse(CompileError::Reason::duplicate_symbol, *linked_.modules[module], line,
                   "'" + std::string(name) + "' is already defined in another text");
        known = {symbol, linkage};
    }

    Symbol add_variable(uint32_t module, const Variable& v, bool exported) {
        if (v.space == Space::shared) {
            linked_.shared.push_back({&v, module, exported});
            return {Symbol::Kind::shared, static_cast<uint32_t>(linked_.shared.size() - 1)};
        }
        linked_.variables.push_back({&v, module, exported});
        return {Symbol::Kind::memory, static_cast<uint32_t>(linked_.variables.size() - 1)};
    }

    void define_variables(uint32_t m) {
        for (const Variable& v : linked_.modules[m]->variables) {
            if (v.space == Space::shared && v.size == 0) {
                local_[m][v.name] = {Symbol::Kind::dynamic_shared, 0};
                continue;
            }
            if (v.linkage == Linkage::external) continue;
            if (v.space != Space::shared && v.space != Space::global && v.space != Space::constant) continue;
            define(m, v.name, v.linkage, add_variable(m, v, true), v.line);
        }
    }

    void define_functions(uint32_t m) {
        for (const auto& f : linked_.modules[m]->functions) {
            if (!f->defined) continue;
            Symbol symbol{Symbol::Kind::function, static_cast<uint32_t>(linked_.functions.size())};
            linked_.functions.push_back({f.get(), m, {}, {}, false});
            define(m, f->name, f->linkage == Linkage::external ? Linkage::visible : f->linkage, symbol, f->line);
        }
    }

    // Shared, global and const variables declared inside functions live as long as the program.
    void body_variables() {
        for (LinkedFunction& f : linked_.functions) {
            for (const Variable& v : f.function->variables) {
                if (v.is_register || v.space == Space::param || v.space == Space::local || v.space == Space::reg)
                    f.variables.push_back({});
                else if (v.space == Space::shared && v.size == 0)
                    f.variables.push_back({Symbol::Kind::dynamic_shared, 0});
                else
                    f.variables.push_back(add_variable(f.module, v, false));
            }
        }
    }

    Symbol resolve(uint32_t module, std::string_view name, int line) {
        const Module& m = *linked_.modules[module];
        for (int hops = 0; hops < 8; ++hops) {
            auto alias = m.aliases.find(name);
            if (alias == m.aliases.end()) break;
            name = alias->second;
        }
        if (auto found = local_[module].find(name); found != local_[module].end()) return found->second;
        if (auto found = exported_.find(name); found != exported_.end()) return found->second.symbol;
        if (m.function_index.contains(name)) {
            if (auto builtin = builtin_of(name)) return {Symbol::Kind::builtin, static_cast<uint32_t>(*builtin)};
            refuse(CompileError::Reason::unresolved_symbol, m, line,
                   "function '" + std::string(name) + "' is declared but defined nowhere");
        }
        refuse(CompileError::Reason::unresolved_symbol, m, line, "'" + std::string(name) + "' is defined nowhere");
    }

    // A function whose name is an operand of anything but a direct call can be reached through a pointer.
    void mark_addresses() {
        for (const LinkedFunction& f : linked_.functions) {
            const Function& function = *f.function;
            std::vector<uint32_t> uses(f.symbols.size());
            for (const Operand& o : function.pool)
                if (o.kind == Operand::Kind::symbol) ++uses[o.index];
            for (const Instruction& i : function.code) {
                if (i.opcode != Opcode::call || i.operand_count < 2) continue;
                const Operand& target = function.operands(i)[1];
                if (target.kind == Operand::Kind::symbol) --uses[target.index];
            }
            for (size_t s = 0; s < uses.size(); ++s)
                if (uses[s] && f.symbols[s].kind == Symbol::Kind::function)
                    linked_.functions[f.symbols[s].index].address_taken = true;
        }
    }

    Linked linked_;
    std::vector<std::unordered_map<std::string_view, Symbol>> local_;
    std::unordered_map<std::string_view, Definition> exported_;
};

}  // namespace

Linked link(std::vector<std::unique_ptr<Module>> modules) { return Linker(std::move(modules)).run(); }

}  // namespace softgpu::ptx
