// Host memory that kernels reach: mapped, registered and managed memory has a twin on the server, of the same bytes.
//
// Both ends keep what they last agreed on. What the program has changed since is sent before device work is posted;
// what the device has changed comes with the replies that make device work visible. Bytes are compared one by one, so
// that both sides may write to one page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cuda_api.h"

namespace gpuferry {

// Addresses for host memory that the server can have at the same place; 0 when there are none left.
uint64_t take_host_addresses(uint64_t size);
void give_host_addresses_back(uint64_t address, uint64_t size);
bool is_host_address(uint64_t address);

// Gives memory of this process a twin at `server_address`. `charged` counts it against the GPU's slice.
CUresult make_twin(void* memory, uint64_t server_address, uint64_t size, bool charged, CUdevice device);
// Where the device finds these bytes of host memory: in the twin that they have or get. Pageable memory gets one for
// the life of the process; its bytes travel with the launches of graphs, and nothing breaks when the program has freed
// it.
CUresult find_server_address(const void* memory, size_t size, uint64_t& server_address);
// The other way round; null where there is no twin.
void* find_client_address(uint64_t server_address);
// Memory that the server's driver placed and host and device share: it gets the same address here, and these bytes.
CUresult adopt_twin(uint64_t address, std::span<const char> content);
// The twin ends. Device work that may use it must be over.
void end_twin(uint64_t server_address);
bool in_twin(const void* memory, size_t size);

// Before device work is posted: sends what the program has changed. `parameters` are those of a launch: a pointer
// among them into pinned memory gives that memory a twin.
CUresult prepare_device_work(std::span<const char> parameters = {});
// The same before a graph is launched: pageable memory that graphs copy from counts as well.
CUresult prepare_graph_launch();
// What the device has changed.
void apply_device_changes(uint64_t server_address, std::span<const char> bytes);

}  // namespace gpuferry
