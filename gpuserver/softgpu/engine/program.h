// Compiled programs: kernels' code made on first use, and what a context adds to it.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "engine/code.h"
#include "engine/engine.h"
#include "ptx/link.h"

namespace softgpu {

// What stands for a function where its address is taken: unique, and never accessible memory.
struct alignas(16) FunctionHandle {
    uint64_t words[2] = {};
};

class CompiledProgram : public Program {
  public:
    explicit CompiledProgram(ptx::Linked linked);
    [[nodiscard]] std::span<const KernelInfo> kernels() const override { return kernels_; }
    [[nodiscard]] std::span<const VariableInfo> variables() const override { return variables_; }

    // The code of a kernel; compiled on first use. Throws CompileError.
    const Code& code(size_t kernel) const;
    [[nodiscard]] const ptx::Linked& linked() const { return linked_; }
    [[nodiscard]] uint64_t function_address(uint32_t function) const {
        return reinterpret_cast<uint64_t>(&handles_[function]);
    }
    // The linked function that an address stands for, -1 when it is none.
    [[nodiscard]] int64_t function_at(uint64_t address) const;
    [[nodiscard]] uint32_t variable_of(uint32_t linked_variable) const { return linked_variable; }

  private:
    void describe_kernels();
    // `registers`, within what .maxnreg and CU_JIT_MAX_REGISTERS allow.
    [[nodiscard]] uint32_t limited_registers(uint32_t function, uint32_t registers) const;
    void describe_variables();

    ptx::Linked linked_;
    std::vector<KernelInfo> kernels_;
    std::vector<VariableInfo> variables_;
    std::vector<uint32_t> kernel_function_;
    std::unique_ptr<FunctionHandle[]> handles_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<const Code>> code_;
};

class LoadedImage : public LoadedProgram {
  public:
    LoadedImage(std::shared_ptr<const CompiledProgram> program, std::vector<uint64_t> addresses)
        : program_(std::move(program)), addresses_(std::move(addresses)) {}
    [[nodiscard]] const Program& program() const override { return *program_; }
    [[nodiscard]] const CompiledProgram& compiled() const { return *program_; }
    [[nodiscard]] uint64_t variable_address(size_t variable) const override { return addresses_[variable]; }
    // The end of the kernel's constants, addresses filled in.
    const std::byte* constants_end(size_t kernel) const;

  private:
    std::shared_ptr<const CompiledProgram> program_;
    std::vector<uint64_t> addresses_;
    struct Free {
        void operator()(std::byte* p) const;
    };
    mutable std::mutex mutex_;
    mutable std::map<size_t, std::unique_ptr<std::byte[], Free>> constants_;
};

}  // namespace softgpu
