// A C interface to the engine for tests (ctypes): compile PTX text, launch kernels on host buffers, read what they
// printed. No driver API in between. Built as the shared library `softgpu_engine_test`, which is not installed.
//
// ctypes prototype of each function: pointers as c_void_p or c_char_p, sizes as c_uint64, counts as c_uint32.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Memory that a kernel may touch: [data, data + size) of this process.
struct softgpu_test_buffer {
    void* data;
    uint64_t size;
    uint32_t writable;
};

struct softgpu_test_launch {
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared_bytes;
    uint32_t cooperative;
    const void* parameters;  // the parameter buffer, laid out as PTX says (see softgpu_test_parameter)
    uint64_t parameter_bytes;
    const struct softgpu_test_buffer* buffers;
    uint64_t buffer_count;
};

// Compiles and loads `text` (NUL-terminated). NULL on error: then `error` holds "source:line: what".
void* softgpu_test_compile(const char* text, char* error, uint64_t error_size);
// Several texts linked into one program.
void* softgpu_test_link(const char* const* texts, uint32_t count, char* error, uint64_t error_size);
void softgpu_test_release(void* program);

// Index of a kernel, -1 when there is none of that name.
int32_t softgpu_test_kernel(void* program, const char* name);
// Offset of a parameter in the parameter buffer, -1 when there is none; its size through `size` unless NULL.
int64_t softgpu_test_parameter(void* program, uint32_t kernel, uint32_t parameter, uint64_t* size);
// shared, local bytes and registers of a kernel.
void softgpu_test_resources(void* program, uint32_t kernel, uint32_t* shared, uint32_t* local, uint32_t* registers);
// Address of a .global or .const variable (always accessible to the program's kernels), NULL when there is none.
void* softgpu_test_variable(void* program, const char* name, uint64_t* size);

// Runs a kernel to its end. Returns softgpu::Fault::Kind (0: none; then `message` is empty):
// 1 illegal_address, 2 misaligned_address, 3 illegal_instruction, 4 trap, 5 assertion, 6 invalid_pc,
// 7 invalid_address_space, 8 stack_overflow, 9 cancelled.
int32_t softgpu_test_run(void* program, uint32_t kernel, const struct softgpu_test_launch* launch, char* message,
                         uint64_t message_size);

// What kernels of this program printed so far; valid until the next call with it.
const char* softgpu_test_output(void* program);

#ifdef __cplusplus
}
#endif
