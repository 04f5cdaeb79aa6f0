#include "nvml_session.h"

#include <dlfcn.h>

#include <cstdlib>
#include <stdexcept>

#include "nvml_error_text.h"

namespace gpuferry::worker {
namespace {

constexpr uint32_t largest_question = 2u << 20;

// Stands in for any entry point that the library lacks: the callee ignores the arguments.
nvmlReturn_t library_lacks_it() {
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

template <class Function>
Function find(void* library, const char* symbol) {
    return reinterpret_cast<Function>(dlsym(library, symbol));
}

std::string text_of(nvmlReturn_t (*read)(nvmlDevice_t, char*, unsigned), nvmlDevice_t device) {
    char text[128] = {};
    return read(device, text, sizeof text - 1) == NVML_SUCCESS ? text : "";
}

}  // namespace

NvmlTable nvml;

nvmlDevice_t NvmlRequest::device() {
    const auto index = fields_.take<uint64_t>();
    if (index < session.gpus.size()) return session.gpus[index].handle;
    fields_.spoil();
    return nullptr;
}

std::vector<NvmlGpu> parse_gpus(const std::string& text) {
    std::vector<NvmlGpu> gpus;
    for (size_t start = 0; start < text.size();) {
        const size_t end = std::min(text.find(',', start), text.size());
        const std::string word = text.substr(start, end - start);
        const size_t colon = word.find(':');
        if (colon == std::string::npos) throw std::runtime_error("--gpus wants GPU:MIB,…, not " + word);
        gpus.push_back({word.substr(0, colon), std::strtoull(word.c_str() + colon + 1, nullptr, 10) << 20, nullptr});
        start = end + 1;
    }
    return gpus;
}

nvmlReturn_t NvmlSession::open(std::string& why) {
    void* library = dlopen(library_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        why = "it has no NVML to read (" + library_ + "): install the NVIDIA driver's libnvidia-ml there";
        return NVML_ERROR_LIBRARY_NOT_FOUND;
    }
    for (const NvmlEntry& entry : nvml_entries) {
        void* found = dlsym(library, entry.symbol);
        if (!found) found = reinterpret_cast<void*>(&library_lacks_it);
        std::memcpy(reinterpret_cast<char*>(&nvml) + entry.offset, &found, sizeof found);
    }
    const auto initialise = find<decltype(&::nvmlInit_v2)>(library, "nvmlInit_v2");
    const auto by_index = find<decltype(&::nvmlDeviceGetHandleByIndex_v2)>(library, "nvmlDeviceGetHandleByIndex_v2");
    const auto by_uuid = find<decltype(&::nvmlDeviceGetHandleByUUID)>(library, "nvmlDeviceGetHandleByUUID");
    nvmlReturn_t result = initialise && by_index && by_uuid ? initialise() : NVML_ERROR_FUNCTION_NOT_FOUND;
    for (NvmlGpu& gpu : gpus) {
        if (result) break;
        const bool number = !gpu.name.empty() && gpu.name.find_first_not_of("0123456789") == std::string::npos;
        result = number ? by_index(static_cast<unsigned>(std::strtoul(gpu.name.c_str(), nullptr, 10)), &gpu.handle)
                        : by_uuid(gpu.name.c_str(), &gpu.handle);
    }
    if (result) why = std::string("its NVML does not answer: ") + nvml_error_text(result);
    return result;
}

void serve_nvml_open(NvmlRequest& in) {
    std::string why;
    in.result = in.session.open(why);
    Encoder out(in.payload);
    if (in.result) return out.put_text(why);
    out.put<uint64_t>(in.session.gpus.size());
    for (const NvmlGpu& gpu : in.session.gpus) {
        nvmlPciInfo_t place{};
        if (nvml.nvmlDeviceGetPciInfo_v3(gpu.handle, &place)) place.busId[0] = '\0';
        out.put<uint64_t>(gpu.slice);
        out.put_text(text_of(nvml.nvmlDeviceGetUUID, gpu.handle));
        out.put_text(place.busId);
        out.put_text(text_of(nvml.nvmlDeviceGetSerial, gpu.handle));
    }
}

void NvmlSession::serve() {
    std::vector<char> question;
    RequestHeader header;
    bool opened = false;
    while (connection_.receive(&header, sizeof header)) {
        if (header.bytes > largest_question || header.bytes % 8) throw TransportError("a frame of a wrong size");
        question.resize(header.bytes);
        if (header.bytes && !connection_.receive(question.data(), question.size())) return;
        NvmlRequest in(*this, question);
        const bool opening = header.op == static_cast<uint16_t>(NvmlOp::open);
        const NvmlHandler handler = opening == opened ? nullptr : nvml_handler_of(header.op);
        if (handler) {
            handler(in);
        } else {
            in.result = NVML_ERROR_NOT_SUPPORTED;
        }
        opened |= opening && in.result == NVML_SUCCESS;
        ReplyHeader reply;
        reply.number = header.number;
        reply.bytes = static_cast<uint32_t>(in.payload.size());
        reply.result = in.result;
        iovec parts[2] = {{&reply, sizeof reply}, {in.payload.data(), in.payload.size()}};
        connection_.send(parts, 2);
    }
}

}  // namespace gpuferry::worker
