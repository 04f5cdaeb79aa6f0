// What the client knows about modules and functions, from the replies to loads.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "contexts.h"

namespace gpuferry {

struct Parameter {
    uint32_t offset = 0, size = 0;  // bytes
};

struct Function;

// A module or a library.
struct Image {
    Handle handle = 0;
    Handle module = 0;  // of a library: the module that cuLibraryGetModule gave, once asked
    std::mutex lock;    // guards the following
    std::map<std::string, Function*> functions;
    std::vector<Function*> in_order;
    std::map<std::string, std::pair<CUdeviceptr, size_t>> globals;
};

struct Function {
    Handle handle = 0;
    Image* image = nullptr;
    std::string name;
    bool described = false;
    std::vector<int> attributes;  // by CUfunction_attribute; `no_attribute` where the driver has none
    std::vector<Parameter> parameters;
    uint32_t parameter_bytes = 0;
    std::vector<int>
        blocks_by_warps;  // blocks of 1, 2, … warps that fit on a multiprocessor, without dynamic shared memory
    std::atomic<bool> launched = false;
    std::atomic<int> dynamic_shared_limit = 0;  // bytes; CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

    [[nodiscard]] int attribute(int which) const {
        return static_cast<size_t>(which) < attributes.size() ? attributes[static_cast<size_t>(which)] : 0;
    }
};

// The function of a handle, described; null with `failure` set when it is none.
Function* find_function(CUfunction handle, CUresult& failure);

}  // namespace gpuferry
