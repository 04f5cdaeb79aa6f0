// The linker (cuLink*): collects PTX, compiles it together, gives out one image.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device/handle.h"
#include "image/compile.h"
#include "image/jit_options.h"

namespace softgpu {

class LinkState final : public Object {
  public:
    using Handle = CUlinkState;
    static constexpr Kind kind = Kind::link_state;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_HANDLE;

    LinkState(unsigned count, CUjit_option* names, void** values, int target)
        : options_(count, names, values), target_(target) {}

    // Checks the input as far as it can be without the others. Throws INVALID_PTX, INVALID_IMAGE, NO_BINARY_FOR_GPU,
    // INVALID_VALUE for a kind that does not exist, NOT_SUPPORTED for NVVM IR.
    void add(CUjitInputType type, const ImageBytes& bytes, const std::string& name);
    // The image lives as long as this. Throws INVALID_PTX for symbols that are missing or defined twice.
    const std::vector<std::byte>& complete();

  private:
    void add_input(CUjitInputType type, const ImageBytes& bytes, const std::string& name);

    std::mutex mutex_;
    JitOptions options_;
    const int target_;
    std::vector<NamedPtx> sources_;
    std::vector<std::byte> image_;
};

}  // namespace softgpu
