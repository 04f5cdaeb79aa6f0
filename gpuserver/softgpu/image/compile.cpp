#include "image/compile.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "device/context.h"
#include "log.h"

namespace softgpu {
namespace {

CUresult code_of(CompileError::Reason reason) {
    return reason == CompileError::Reason::unsupported_version ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION
                                                               : CUDA_ERROR_INVALID_PTX;
}

[[noreturn]] void refuse(const CompileError& error, JitOptions& options) {
    std::string line = "ptxas " + error.source + ", line " + std::to_string(error.line) + "; error   : " + error.what();
    options.complain(line);
    options.complain("ptxas fatal   : Ptx assembly aborted due to errors");
    log_line(LogLevel::warning, line);
    throw DriverError(code_of(error.reason), line);
}

// Programs that live, by what they were made of.
struct Cache {
    std::mutex mutex;
    std::unordered_map<std::string, std::weak_ptr<const Program>> programs;
};

Cache& cache() {
    static auto& one = *new Cache;
    return one;
}

// For whoever looks for a fault in this library: GPUFERRY_SOFTGPU_DUMP names a folder that gets every PTX text.
void dump(const std::vector<NamedPtx>& sources) {
    const char* folder = std::getenv("GPUFERRY_SOFTGPU_DUMP");
    if (!folder || !*folder) return;
    static std::atomic<int> number{0};
    for (const auto& source : sources) {
        std::string name = std::to_string(::getpid()) + "-" + std::to_string(number++) + ".ptx";
        std::ofstream(std::string(folder) + "/" + name) << source.text;
    }
}

std::string key_of(const std::vector<NamedPtx>& sources) {
    std::string key;
    for (const auto& source : sources) {
        key += source.text;
        key += '\0';
        key += std::to_string(source.max_registers);
        key += '\0';
    }
    return key;
}

}  // namespace

std::shared_ptr<const Program> compile_ptx(const std::vector<NamedPtx>& sources, JitOptions& options) {
    std::string key = key_of(sources);
    {
        std::lock_guard lock(cache().mutex);
        auto found = cache().programs.find(key);
        if (found != cache().programs.end()) {
            if (auto program = found->second.lock()) return program;
        }
    }
    dump(sources);
    std::vector<PtxSource> texts;
    for (const auto& source : sources) texts.push_back({source.name, source.text, source.max_registers});
    std::shared_ptr<const Program> program;
    try {
        program = compile_program(texts);
    } catch (const CompileError& error) {
        refuse(error, options);
    }
    std::lock_guard lock(cache().mutex);
    std::erase_if(cache().programs, [](const auto& entry) { return entry.second.expired(); });
    cache().programs[std::move(key)] = program;
    return program;
}

void check_ptx(const NamedPtx& source, JitOptions& options) {
    PtxSource text{source.name, source.text};
    try {
        compile_program({&text, 1});
    } catch (const CompileError& error) {
        if (error.reason == CompileError::Reason::unresolved_symbol) return;
        refuse(error, options);
    }
}

std::shared_ptr<const Program> compile_image(const ImageBytes& bytes, int target, JitOptions& options) {
    Image image;
    try {
        image = read_image(bytes, target);
    } catch (const ImageError& error) {
        options.complain(error.what());
        log_line(LogLevel::warning, std::string("code image: ") + error.what());
        throw;
    }
    std::vector<NamedPtx> sources;
    // What was linked keeps the limit that it was linked with.
    const uint32_t max_registers = image.linked ? image.max_registers : options.max_registers();
    for (auto& text : image.ptx) sources.push_back({"application ptx input", std::move(text), max_registers});
    return compile_ptx(sources, options);
}

int current_target() {
    auto context = Context::current();
    const DeviceConfig& device = context ? context->device().config() : require_device(0).config();
    return device.capability_major * 10 + device.capability_minor;
}

std::vector<std::byte> read_image_file(const char* path) {
    check_value(path != nullptr, "no file name");
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    if (!stream) throw DriverError(CUDA_ERROR_FILE_NOT_FOUND, std::string(path) + " cannot be read");
    auto size = static_cast<int64_t>(stream.tellg());
    if (size < 0 || static_cast<uint64_t>(size) > max_image_bytes) {
        throw DriverError(CUDA_ERROR_INVALID_IMAGE, std::string(path) + " is no image");
    }
    std::vector<std::byte> bytes(static_cast<size_t>(size) + 1);
    stream.seekg(0);
    if (!stream.read(reinterpret_cast<char*>(bytes.data()), size)) {
        throw DriverError(CUDA_ERROR_FILE_NOT_FOUND, std::string(path) + " cannot be read");
    }
    return bytes;
}

}  // namespace softgpu
