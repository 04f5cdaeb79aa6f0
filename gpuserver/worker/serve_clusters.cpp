// Occupancy of clusters.
#include <array>

#include "launch_frame.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

template <class Ask>
void answer_number(Request& in, Answer& out, Ask ask) {
    const auto function = in.handle<CUfunction>(Kind::function);
    const auto stream = in.handle<CUstream>(Kind::stream);
    const auto frame = in.value<LaunchFrame>();
    if (frame.attributes > most_launch_attributes) in.fields().spoil();
    if (!in.good()) return out.refuse(in);
    std::array<CUlaunchAttribute, most_launch_attributes> attributes;
    const char* sent = in.fields().take_bytes(frame.attributes * sizeof(CUlaunchAttribute));
    if (!in.good()) return out.refuse(in);
    if (frame.attributes) std::memcpy(attributes.data(), sent, frame.attributes * sizeof(CUlaunchAttribute));
    for (unsigned i = 0; i < frame.attributes; ++i) {
        if (!localise(in, attributes[i])) return out.refuse(in);
    }
    CUlaunchConfig config{};
    config.gridDimX = frame.grid[0], config.gridDimY = frame.grid[1], config.gridDimZ = frame.grid[2];
    config.blockDimX = frame.block[0], config.blockDimY = frame.block[1], config.blockDimZ = frame.block[2];
    config.sharedMemBytes = frame.shared_bytes;
    config.hStream = stream;
    config.attrs = attributes.data();
    config.numAttrs = frame.attributes;
    int number = 0;
    out.result = ask(&number, function, &config);
    if (!out.result) Encoder(out.payload).put<int64_t>(number);
}

}  // namespace

void serve_most_clusters(Request& in, Answer& out) {
    answer_number(in, out, driver.cuOccupancyMaxActiveClusters);
}
void serve_largest_cluster(Request& in, Answer& out) {
    answer_number(in, out, driver.cuOccupancyMaxPotentialClusterSize);
}

}  // namespace gpuferry::worker
