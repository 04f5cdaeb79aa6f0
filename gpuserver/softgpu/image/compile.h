// From an image to a program: reads the PTX out and hands it to the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "image/image.h"
#include "image/jit_options.h"

namespace softgpu {

// A PTX text under the name that messages give it.
struct NamedPtx {
    std::string name, text;
    uint32_t max_registers = 0;  // of its kernels; 0: no limit
};

// Compiles and links. The same texts give the same program while it lives. Errors go to `options`' log and are thrown
// as DriverError: INVALID_PTX, UNSUPPORTED_PTX_VERSION, or what a linker gives for symbols.
std::shared_ptr<const Program> compile_ptx(const std::vector<NamedPtx>& sources, JitOptions& options);

// Throws and logs what is wrong with one text whatever it will be linked with: symbols may be missing.
void check_ptx(const NamedPtx& source, JitOptions& options);

// Reads and compiles a whole image. Throws ImageError too.
std::shared_ptr<const Program> compile_image(const ImageBytes& bytes, int target, JitOptions& options);

// What the calling thread's device runs at most: 90 for compute capability 9.0. Device 0's without a context.
int current_target();

// A file's bytes with a NUL behind them. Throws DriverError: FILE_NOT_FOUND, INVALID_IMAGE when it is too large.
std::vector<std::byte> read_image_file(const char* path);

}  // namespace softgpu
