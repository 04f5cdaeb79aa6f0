// Joins parsed PTX texts into one set of functions and variables, with every name resolved.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ptx/ast.h"

namespace softgpu::ptx {

// Functions that the device runtime provides and no text defines.
enum class Builtin : uint8_t { vprintf, malloc, free, assertfail };
std::optional<Builtin> builtin_of(std::string_view name);

struct Symbol {
    enum class Kind : uint8_t {
        unresolved,
        memory,          // index: Linked::variables (global and const space)
        shared,          // index: Linked::shared
        dynamic_shared,  // extern shared: the launch decides its size
        function,        // index: Linked::functions
        builtin,         // index: Builtin
    };
    Kind kind = Kind::unresolved;
    uint32_t index = 0;
};

struct LinkedVariable {
    const Variable* variable = nullptr;
    uint32_t module = 0;
    bool exported = false;  // found by name from outside
};

struct LinkedFunction {
    const Function* function = nullptr;
    uint32_t module = 0;
    std::vector<Symbol> symbols;    // of Function::symbols
    std::vector<Symbol> variables;  // of Function::variables: memory or shared ones, else unresolved
    bool address_taken = false;
};

struct Linked {
    std::vector<std::unique_ptr<Module>> modules;
    std::vector<LinkedVariable> variables;
    std::vector<LinkedVariable> shared;
    std::vector<LinkedFunction> functions;
    // Symbol of each relocation of variables[i], in order.
    std::vector<std::vector<Symbol>> relocations;
};

// Throws CompileError (unresolved_symbol, duplicate_symbol).
Linked link(std::vector<std::unique_ptr<Module>> modules);

}  // namespace softgpu::ptx
