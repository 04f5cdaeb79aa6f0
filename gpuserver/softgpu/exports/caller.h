// Which part of the process calls: the CUDA runtime, or a program that uses the driver API itself.
//
// A runtime is known by the private table that every one of them asks for, be it libcudart.so or linked into a library
// or program; the loaded object (executable or shared library) that asked holds it.
#pragma once

namespace softgpu {

// Remembers the loaded object that holds `address` as one with a CUDA runtime in it.
void note_runtime(const void* address);

// Whether the loaded object that holds `address` has asked for what runtimes ask for.
bool is_in_runtime(const void* address);

// Of an entry point: `returns_to` is its return address. The address behind it when a tracing function of ours lies
// between it and the caller.
const void* caller_of_entry_point(const void* returns_to);

// Of a tracing function: who called it, for `caller_of_entry_point` of this thread.
void note_traced_caller(const void* returns_to);

}  // namespace softgpu
