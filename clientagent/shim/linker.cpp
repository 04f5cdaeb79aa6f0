// cuLink*: the server's driver links; the inputs go up, the image comes back.
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <vector>

#include "call.h"
#include "jit_options.h"
#include "shim_calls.h"

namespace gpuferry {
namespace {

struct LinkState {
    JitOptions jit;           // the program's log buffers, which are filled when linking ends
    std::vector<char> image;  // owned by the link state, as CUDA says
};

LinkState* find_state(CUlinkState state) {
    return handles_table().find<LinkState>(Kind::link_state, to_handle(state));
}

CUresult add(CUlinkState state, CUjitInputType type, const char* data, size_t size, const char* name, unsigned count,
             CUjit_option* options, void** values) {
    if (!find_state(state)) return CUDA_ERROR_INVALID_HANDLE;
    if (!data || !size || (count && (!options || !values))) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::add_to_link);
    call.handle(Kind::link_state, state);
    call.value<int64_t>(type);
    call.text(name ? name : "");
    JitOptions().put(call, count, options, values);
    call.value<uint64_t>(size);
    call.bytes({data, size});
    call.ask();
    return call.result();
}

}  // namespace

namespace shim {

CUresult cuLinkCreate_v2(unsigned numOptions, CUjit_option* options, void** optionValues, CUlinkState* stateOut) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!stateOut || (numOptions && (!options || !optionValues))) return CUDA_ERROR_INVALID_VALUE;
    auto* state = new LinkState;
    Call call(Op::create_link);
    call.create(Kind::link_state, stateOut, state);
    state->jit.put(call, numOptions, options, optionValues);
    return call.post();
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t size, const char* name,
                          unsigned numOptions, CUjit_option* options, void** optionValues) {
    return add(state, type, static_cast<const char*>(data), size, name, numOptions, options, optionValues);
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path, unsigned numOptions,
                          CUjit_option* options, void** optionValues) {
    if (!path) return CUDA_ERROR_INVALID_VALUE;
    std::ifstream file(path, std::ios::binary);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (type == CU_JIT_INPUT_PTX) content.push_back(0);
    return add(state, type, content.data(), content.size(), path, numOptions, options, optionValues);
}

CUresult cuLinkComplete(CUlinkState state, void** cubinOut, size_t* sizeOut) {
    LinkState* found = find_state(state);
    if (!found) return CUDA_ERROR_INVALID_HANDLE;
    if (!cubinOut) return CUDA_ERROR_INVALID_VALUE;
    Call call(Op::complete_link);
    call.handle(Kind::link_state, state);
    if (call.ask()) found->jit.take(call.results());
    if (call.result()) return call.result();
    const std::string_view image = call.results().take_text();
    found->image.assign(image.begin(), image.end());
    *cubinOut = found->image.data();
    if (sizeOut) *sizeOut = found->image.size();
    return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state) {
    LinkState* found = find_state(state);
    if (!found) return CUDA_ERROR_INVALID_HANDLE;
    Call call(Op::destroy_link);
    call.handle(Kind::link_state, state);
    const CUresult result = call.post_anywhere();
    handles_table().forget(to_handle(state));
    delete found;
    return result;
}

}  // namespace shim
}  // namespace gpuferry
