// What the device runtime (libcudadevrt) asks of a driver for cooperative groups, in PTX of our own.
#pragma once

#include <string_view>

namespace softgpu::ptx {

// Functions of these names are declared by who links libcudadevrt and defined by `cooperative_groups_text`.
inline constexpr std::string_view cooperative_groups_prefix = "__cuda_syscall_CGS_";

// Barrier, size and rank of a cooperatively launched grid. The handle of the grid is the address of its workspace
// (engine/grid.h); the barrier's counter is the workspace's third word and fourth.
std::string_view cooperative_groups_text();

}  // namespace softgpu::ptx
