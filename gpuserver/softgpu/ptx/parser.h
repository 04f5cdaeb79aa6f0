// Reads one PTX text into its parsed form.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ptx/ast.h"

namespace softgpu::ptx {

// Throws CompileError (invalid_ptx, unsupported_version, duplicate_symbol) with the line and what was expected.
std::unique_ptr<Module> parse(std::string source_name, std::string_view text);

}  // namespace softgpu::ptx
