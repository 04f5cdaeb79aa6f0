// Launches: the parameters arrive as the packed buffer that the kernel's layout describes.
#include <array>

#include "launch_frame.h"
#include "session.h"

namespace gpuferry::worker {

void serve_launch(Request& in, Answer& out) {
    const auto function = in.handle<CUfunction>(Kind::function);
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto frame = in.value<LaunchFrame>();
    if (frame.attributes > most_launch_attributes || frame.parameter_bytes > most_parameter_bytes) in.fields().spoil();
    if (!in.good()) return out.refuse(in);
    // The driver may want more than 8-byte alignment.
    alignas(16) std::array<char, 4096> small;
    size_t size = frame.parameter_bytes;
    char* parameters = size <= small.size() ? small.data() : in.room<char>(size);
    const char* sent = in.fields().take_bytes(size);
    std::array<CUlaunchAttribute, most_launch_attributes> attributes;
    const char* sent_attributes = in.fields().take_bytes(frame.attributes * sizeof(CUlaunchAttribute));
    if (!in.good()) return out.refuse(in);
    std::memcpy(parameters, sent, size);
    if (frame.attributes) std::memcpy(attributes.data(), sent_attributes, frame.attributes * sizeof(CUlaunchAttribute));
    for (unsigned i = 0; i < frame.attributes; ++i) {
        if (!localise(in, attributes[i])) return out.refuse(in);
    }

    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, parameters, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    if (frame.attributes == 0) {
        out.result = driver.cuLaunchKernel(function, frame.grid[0], frame.grid[1], frame.grid[2], frame.block[0],
                                           frame.block[1], frame.block[2], frame.shared_bytes, stream, nullptr, extra);
        return;
    }
    CUlaunchConfig config{};
    config.gridDimX = frame.grid[0], config.gridDimY = frame.grid[1], config.gridDimZ = frame.grid[2];
    config.blockDimX = frame.block[0], config.blockDimY = frame.block[1], config.blockDimZ = frame.block[2];
    config.sharedMemBytes = frame.shared_bytes;
    config.hStream = stream;
    config.attrs = attributes.data();
    config.numAttrs = frame.attributes;
    out.result = driver.cuLaunchKernelEx(&config, function, nullptr, extra);
}

}  // namespace gpuferry::worker
