// Host memory that kernels reach: mapped, registered and managed memory has a twin on each server whose GPUs may use
// it, of the same bytes.
//
// Both ends keep what they last agreed on. What the program has changed since is sent before device work is posted;
// what the device has changed comes with the replies that make device work visible. Only bytes that have changed are
// written at the other end, so that both sides may write to one page at the same time. What one server's GPU has
// changed is to the other servers a change of the program's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "changed_bytes.h"
#include "cuda_api.h"

namespace gpuferry {

struct Device;
struct Server;

// Addresses for host memory that the server can have at the same place; 0 when there are none left.
uint64_t take_host_addresses(uint64_t size);
void give_host_addresses_back(uint64_t address, uint64_t size);
bool is_host_address(uint64_t address);

// Gives memory of this process a twin at `address` on the current context's server, and on all others: its address may
// be in anything that a kernel reads. With a device, it counts against the GPU's slice.
CUresult make_twin(void* memory, uint64_t address, uint64_t size, const Device* charged = nullptr);
// The same for registered memory, which the program may give back to the system at any time. The first `skipped` bytes
// are other things of the program's, which stay here.
CUresult make_registered_twin(void* memory, uint64_t address, uint64_t size, uint64_t skipped);
// Where the server's GPUs find these bytes of host memory: in the twin that they have or get. Pageable memory gets one
// for the life of the process; its bytes travel with the launches of graphs, and nothing breaks when the program has
// freed it.
CUresult find_server_address(Server& server, const void* memory, size_t size, uint64_t& server_address);
// The other way round; null where there is no twin.
void* find_client_address(const Server& server, uint64_t server_address);
// Gives registered memory a twin at its own address, if every server has room there; false where one has not.
bool make_twin_in_place(void* memory, uint64_t size, uint64_t skipped);
// Memory that a server's driver placed and host and device share: it gets the same address here, and these bytes.
CUresult adopt_twin(Server& server, uint64_t address, std::span<const char> content);
// What another server has placed at `server_address` is the memory that was adopted at `address`.
void join_twin(uint64_t address, Server& server, uint64_t server_address, std::span<const char> content);
// The twin ends on all servers. Device work that may use it must be over.
void end_twin(uint64_t address);
bool in_twin(const void* memory, size_t size);
// Whether there is any: memory that the program and a GPU both reach.
bool any_twin();

// Before device work is posted to this server: sends what the program has changed. `parameters` are those of a launch:
// a pointer among them into pinned memory gives that memory a twin.
CUresult prepare_device_work(Server& server, std::span<const char> parameters = {});
// The same before a graph is launched: pageable memory that graphs copy from counts as well.
CUresult prepare_graph_launch(Server& server);
// What the server's GPUs have changed.
void apply_device_changes(const Server& server, uint64_t server_address, const ChangedBytes& changed,
                          std::span<const char> bytes);

// A stream waits for this word (4 or 8 bytes) of host memory, which has a twin: what the program wrote before the word
// is there when the stream sees it.
void watch_word(const void* word, size_t size);

}  // namespace gpuferry
