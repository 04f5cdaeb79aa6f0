// What the client knows about modules and functions, from the replies to loads.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "contexts.h"
#include "required_blocks.h"

namespace gpuferry {

struct Parameter {
    uint32_t offset = 0, size = 0;  // bytes
};

struct Function;

// A variable of an image, in one context.
struct Global {
    CUdeviceptr address = 0;
    size_t size = 0;  // bytes
    bool managed = false;
};

// A module or a library. A library belongs to no context: where the program uses several servers, it is loaded on each
// when it is first used there.
struct Image {
    Handle handle = 0;
    Image* library = nullptr;   // of a module that a library is in a context: its functions are the library's
    Image* original = nullptr;  // of what stands for the program's library on another server
    bool linked = false;
    std::vector<std::vector<char>> code;  // of a library that other servers may need
    std::mutex lock;                      // guards the following
    std::map<std::string, Function*> functions;
    std::vector<Function*> in_order;
    // By the id of the context, 0 for what is the same in all of them.
    std::map<std::pair<unsigned long long, std::string>, Global> globals;
    std::map<unsigned, Image*> elsewhere;          // by server
    std::map<unsigned long long, Image*> modules;  // of a library: what it is in a context, by the context's id

    [[nodiscard]] bool is_library() const { return kind_of(handle) == Kind::library; }
};

struct Function {
    Handle handle = 0;
    Image* image = nullptr;
    std::string name;
    bool described = false;
    std::vector<int> attributes;  // by CUfunction_attribute; `no_attribute` where the driver has none
    std::vector<Parameter> parameters;
    uint32_t parameter_bytes = 0;
    BlockShape required_block{};  // zeroes where it requires none
    std::vector<int>
        blocks_by_warps;  // blocks of 1, 2, … warps that fit on a multiprocessor, without dynamic shared memory
    std::atomic<bool> launched = false;
    std::atomic<int> dynamic_shared_limit = 0;  // bytes; CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

    [[nodiscard]] int attribute(int which) const {
        return static_cast<size_t>(which) < attributes.size() ? attributes[static_cast<size_t>(which)] : 0;
    }
};

// The function of a handle, described; null with `failure` set when it is none. Of a library's kernel, what it is on
// the server of the current context, or on another.
Function* find_function(CUfunction handle, CUresult& failure);
Function* find_function_on(Server& server, CUfunction handle, CUresult& failure);

}  // namespace gpuferry
