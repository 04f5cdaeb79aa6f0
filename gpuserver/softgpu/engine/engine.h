// The border between the driver API (../api, ../device) and the execution of PTX (../ptx, this folder).
//
// A program is compiled once (`compile_program`), loaded once per context (`LoadedProgram`: its variables get
// addresses) and launched any number of times (`run_grid`). Device addresses are host addresses of this process; the
// driver's address space tells which are allocated (`AddressSpace`).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace softgpu {

struct Dim3 {
    uint32_t x = 1, y = 1, z = 1;
    [[nodiscard]] uint64_t volume() const { return uint64_t{x} * y * z; }
};

// What is wrong with a PTX text, and where. The driver turns it into CUDA_ERROR_INVALID_PTX (or
// UNSUPPORTED_PTX_VERSION, or NO_BINARY_FOR_GPU) plus a log line; the text goes to the JIT error log buffer too.
struct CompileError : std::runtime_error {
    enum class Reason { invalid_ptx, unsupported_version, unresolved_symbol, duplicate_symbol };
    CompileError(Reason why, std::string source_name, int line_number, const std::string& what)
        : std::runtime_error(what), reason(why), source(std::move(source_name)), line(line_number) {}
    Reason reason;
    std::string source;
    int line;
};

struct ParameterInfo {
    uint32_t offset = 0, size = 0, align = 1;  // bytes within the parameter buffer
};

struct KernelInfo {
    std::string name;
    std::vector<ParameterInfo> parameters;
    uint32_t parameter_bytes = 0;
    uint32_t static_shared_bytes = 0;
    uint32_t local_bytes = 0;        // per thread
    uint32_t registers = 0;          // per thread, an estimate in 32-bit registers, at most 255
    uint32_t max_threads = 1024;     // .maxntid / .reqntid, else the device's limit
    Dim3 required_block{0, 0, 0};    // .reqntid; zero when absent
    Dim3 required_cluster{0, 0, 0};  // .reqnctapercluster; zero when absent
    int ptx_version = 0;             // 90 for 9.0
    int target = 0;                  // 75 for sm_75
};

struct VariableInfo {
    enum class Space { global, constant };
    std::string name;
    Space space = Space::global;
    uint64_t size = 0;
    uint32_t align = 1;
    bool managed = false;  // .attribute(.managed)
};

struct PtxSource {
    std::string name;  // for messages
    std::string_view text;
    uint32_t max_registers = 0;  // what CU_JIT_MAX_REGISTERS asked for; 0: nothing
};

// Immutable; shared by every context that loads it.
class Program {
  public:
    virtual ~Program() = default;
    [[nodiscard]] virtual std::span<const KernelInfo> kernels() const = 0;
    [[nodiscard]] virtual std::span<const VariableInfo> variables() const = 0;
    // Functions that are not kernels but whose address a program may take (cuModuleGetFunction does not find them).
};

// Parse, link and compile one or more PTX texts into one program. Throws CompileError.
// `allow_unresolved` keeps unknown extern functions as calls that fault when reached (cuModuleLoadData refuses them).
std::shared_ptr<const Program> compile_program(std::span<const PtxSource> sources);

// A contiguous allocation: [begin, end). Empty when begin == end.
struct Range {
    uint64_t begin = 0, end = 0;
    bool writable = true;
};

struct Texture;

// What a kernel may touch. Implemented by the device's memory. Must be safe to call from many threads.
class AddressSpace {
  public:
    virtual ~AddressSpace() = default;
    // The accessible range that holds `address` (device, pinned, managed, registered, mapped memory), else an empty
    // one.
    [[nodiscard]] virtual Range find(uint64_t address) const = 0;
    // What texture and surface instructions find behind a handle; null for one that is none.
    [[nodiscard]] virtual std::shared_ptr<const Texture> texture(uint64_t /*handle*/) const { return nullptr; }
    // Changes whenever a range disappears, so that cached ranges can be dropped.
    [[nodiscard]] virtual uint64_t generation() const = 0;
};

struct DeviceServices {
    const AddressSpace* memory = nullptr;
    std::function<void(std::string_view)> print;           // device printf, one formatted piece at a time
    std::function<uint64_t(uint64_t size)> heap_allocate;  // in-kernel malloc; 0 when full
    std::function<void(uint64_t address)> heap_free;       // in-kernel free
    uint32_t multiprocessors = 1;
    uint64_t clock_hz = 1'000'000'000;
};

// A program in a context: where its variables live.
class LoadedProgram {
  public:
    virtual ~LoadedProgram() = default;
    [[nodiscard]] virtual const Program& program() const = 0;
    [[nodiscard]] virtual uint64_t variable_address(size_t variable) const = 0;
};

// `place(variable)` returns memory for a variable (at least size bytes, aligned); initial values and the addresses of
// other symbols inside them are written there. Throws CompileError for what cannot be resolved.
std::shared_ptr<const LoadedProgram> load_program(std::shared_ptr<const Program> program,
                                                  const std::function<uint64_t(const VariableInfo&)>& place);

struct Fault {
    enum class Kind {
        none,
        illegal_address,
        misaligned_address,
        illegal_instruction,  // an instruction the software GPU does not execute; `message` names it
        trap,                 // trap; or a call of something unresolved
        assertion,            // __assertfail; `message` is what CUDA prints on stderr
        invalid_pc,           // indirect call or branch to what is no function
        invalid_address_space,
        stack_overflow,
        cancelled,
    };
    Kind kind = Kind::none;
    std::string message;
};

struct Launch {
    std::shared_ptr<const LoadedProgram> program;
    size_t kernel = 0;  // index in program().kernels()
    Dim3 grid, block, cluster{1, 1, 1};
    uint32_t dynamic_shared_bytes = 0;
    std::vector<std::byte> parameters;
    bool cooperative = false;  // all blocks resident at once, whatever their number
    DeviceServices services;
    const std::atomic<bool>* cancel = nullptr;  // set: stop soon with Fault::cancelled
    uint32_t stack_bytes =
        0;  // per thread, for recursion and calls through pointers (CU_LIMIT_STACK_SIZE); at least 64 KiB
};

// Run a whole grid, on the calling thread and on a process-wide pool of one thread per further core. Several grids may
// run at once from several threads, and each makes progress even if another spins. Returns the first fault.
Fault run_grid(const Launch& launch);

}  // namespace softgpu
