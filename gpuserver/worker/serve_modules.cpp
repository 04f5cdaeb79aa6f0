// Modules and libraries: one request loads an image, and its reply says all that the client will want to know.
#include <vector>

#include "jit_options.h"
#include "launch_frame.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

// Beyond this many functions the reply carries names alone, and a function is described when it is first asked for:
// describing makes the driver load it.
constexpr unsigned described_at_load = 64;

constexpr int last_attribute = CU_FUNC_ATTRIBUTE_MAX - 1;

// Functions of modules and kernels of libraries answer the same questions through different calls.
struct Describer {
    bool library = false;
    CUdevice device = 0;

    CUresult attribute(int* value, int which, void* function) const {
        const auto attribute = static_cast<CUfunction_attribute>(which);
        return library ? driver.cuKernelGetAttribute(value, attribute, static_cast<CUkernel>(function), device)
                       : driver.cuFuncGetAttribute(value, attribute, static_cast<CUfunction>(function));
    }
    CUresult parameter(void* function, size_t index, size_t* offset, size_t* size) const {
        return library ? driver.cuKernelGetParamInfo(static_cast<CUkernel>(function), index, offset, size)
                       : driver.cuFuncGetParamInfo(static_cast<CUfunction>(function), index, offset, size);
    }
};

// What nvcc's start-up code registers for separately compiled code: fatbins that the driver links.
struct LinkedWrapper {
    uint32_t magic = 0x466243b1, version = 2;
    const void* fatbin = nullptr;
    const void* const* linked = nullptr;  // NULL-terminated
};
constexpr uint64_t most_parts = 1u << 16;

// What the client needs to validate and encode launches. Raises nothing; an attribute that the driver lacks is
// `no_attribute`.
CUresult describe(const Describer& about, void* function, Encoder& answer) {
    std::vector<int32_t> attributes;
    for (int which = 0; which <= last_attribute; ++which) {
        int value = 0;
        const CUresult result = about.attribute(&value, which, function);
        if (which == 0 && result != CUDA_SUCCESS) return result;
        attributes.push_back(result == CUDA_SUCCESS ? value : no_attribute);
    }
    std::vector<uint32_t> layout;  // pairs: offset, size
    while (layout.size() < 2 * 4096) {
        size_t offset = 0, size = 0;
        if (about.parameter(function, layout.size() / 2, &offset, &size)) break;
        layout.push_back(static_cast<uint32_t>(offset));
        layout.push_back(static_cast<uint32_t>(size));
    }
    answer.put<uint64_t>(attributes.size());
    answer.put_bytes(attributes.data(), attributes.size() * sizeof(int32_t));
    answer.put<uint64_t>(layout.size());
    answer.put_bytes(layout.data(), layout.size() * sizeof(uint32_t));
    std::vector<int32_t> blocks;  // that fit on a multiprocessor, by the block's size in warps
    for (int threads = 32; threads <= 1024; threads += 32) {
        int fitting = 0;
        if (driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(&fitting, static_cast<CUfunction>(function), threads, 0))
            break;
        blocks.push_back(fitting);
    }
    answer.put<uint64_t>(blocks.size());
    answer.put_bytes(blocks.data(), blocks.size() * sizeof(int32_t));
    return CUDA_SUCCESS;
}

template <class Function, class Count, class Enumerate, class Name>
void put_functions(Session& session, const Describer& about, Handle owner, Answer& out, Count count,
                   Enumerate enumerate, Name name) {
    Encoder answer(out.payload);
    unsigned number = 0;
    if (count(&number)) number = 0;
    std::vector<Function> functions(number);
    if (number && enumerate(functions.data(), number)) functions.clear();
    const bool with_details = functions.size() <= described_at_load;
    answer.put<uint64_t>(functions.size());
    for (const Function function : functions) {
        const char* text = nullptr;
        if (name(&text, function) || !text) text = "";
        answer.put_text(text);
        answer.put<uint64_t>(session.objects.name_of(Kind::function, function, owner));
        Bytes details;
        Encoder encoder(details);
        const bool described = with_details && describe(about, function, encoder) == CUDA_SUCCESS;
        answer.put<uint64_t>(described);
        if (described) answer.put_bytes(details.data(), details.size());
    }
}

void load_module(Request& in, Answer& out, Handle name, JitOptions& options, const void* image) {
    CUmodule module = nullptr;
    out.result =
        driver.cuModuleLoadDataEx(&module, image, options.count(), options.names.data(), options.values.data());
    Encoder answer(out.payload);
    options.put_results(answer);
    if (out.result) return;
    in.bind(name, out.result, module, in.context());
    put_functions<CUfunction>(
        in.session, {}, name, out, [&](unsigned* n) { return driver.cuModuleGetFunctionCount(n, module); },
        [&](CUfunction* all, unsigned n) { return driver.cuModuleEnumerateFunctions(all, n, module); },
        [](const char** text, CUfunction function) { return driver.cuFuncGetName(text, function); });
}

void load_library(Request& in, Answer& out, Handle name, JitOptions& options, const void* image) {
    CUlibrary library = nullptr;
    out.result = driver.cuLibraryLoadData(&library, image, options.names.data(), options.values.data(), options.count(),
                                          nullptr, nullptr, 0);
    Encoder answer(out.payload);
    options.put_results(answer);
    if (out.result) return;
    in.bind(name, out.result, library, 0);
    const Describer about{true, in.session.devices[in.session.device_of_current()].device};
    put_functions<CUkernel>(
        in.session, about, name, out, [&](unsigned* n) { return driver.cuLibraryGetKernelCount(n, library); },
        [&](CUkernel* all, unsigned n) { return driver.cuLibraryEnumerateKernels(all, n, library); },
        [](const char** text, CUkernel kernel) { return driver.cuKernelGetName(text, kernel); });
    // CUDA's runtime asks for it next: the module that the library is in the current context, 0 where that fails.
    CUmodule module = nullptr;
    if (!in.session.current() || driver.cuLibraryGetModule(&module, library)) module = nullptr;
    answer.put(in.session.objects.name_of(Kind::module, module, name));
}

}  // namespace

void serve_load_image(Request& in, Answer& out) {
    const auto name = in.value<uint64_t>();
    JitOptions options(in);
    const bool linked = in.value<uint64_t>();
    const auto count = in.value<uint64_t>();
    // The driver may keep reading behind a PTX text's end: it gets copies of its own, with a zero behind each.
    std::vector<std::string> parts;
    while (in.good() && parts.size() < std::min(count, most_parts)) parts.emplace_back(in.fields().take_text());
    if (!in.good() || parts.empty() || parts.front().empty() || (!linked && count != 1)) return out.refuse(in);
    std::vector<const void*> others;
    for (size_t i = 1; i < parts.size(); ++i) others.push_back(parts[i].c_str());
    others.push_back(nullptr);
    const LinkedWrapper wrapper{.fatbin = parts.front().c_str(), .linked = others.data()};
    const void* image = linked ? static_cast<const void*>(&wrapper) : parts.front().c_str();
    if (kind_of(name) == Kind::module) return load_module(in, out, name, options, image);
    if (kind_of(name) == Kind::library) return load_library(in, out, name, options, image);
    out.refuse(in);
}

void serve_unload_image(Request& in, Answer& out) {
    const auto name = in.value<uint64_t>();
    const Kind kind = kind_of(name);
    const Object* object = in.session.objects.find(kind, name);
    if (!in.good() || !object || (kind != Kind::module && kind != Kind::library)) {
        out.result = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    in.session.finish_uploads();  // its variables go with it
    out.result = kind == Kind::module ? driver.cuModuleUnload(static_cast<CUmodule>(object->real))
                                      : driver.cuLibraryUnload(static_cast<CUlibrary>(object->real));
    if (!out.result) in.session.objects.forget(name);
}

// One function by name, where the load reply did not describe it.
void serve_find_function(Request& in, Answer& out) {
    const auto owner = in.value<uint64_t>();
    const char* const text = in.text();
    const bool library = kind_of(owner) == Kind::library;
    const Object* object = in.session.objects.find(library ? Kind::library : Kind::module, owner);
    if (!in.good() || !object || !text) {
        out.result = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    void* function = nullptr;
    if (library) {
        CUkernel kernel = nullptr;
        out.result = driver.cuLibraryGetKernel(&kernel, static_cast<CUlibrary>(object->real), text);
        function = kernel;
    } else {
        CUfunction found = nullptr;
        out.result = driver.cuModuleGetFunction(&found, static_cast<CUmodule>(object->real), text);
        function = found;
    }
    if (out.result) return;
    Encoder answer(out.payload);
    answer.put<uint64_t>(in.session.objects.name_of(Kind::function, function, owner));
    const Describer about{library, in.session.devices[in.session.device_of_current()].device};
    out.result = describe(about, function, answer);
}

void serve_find_global(Request& in, Answer& out) {
    const auto owner = in.value<uint64_t>();
    const auto managed = in.value<uint64_t>();
    const char* const text = in.text();
    const bool library = kind_of(owner) == Kind::library;
    const Object* object = in.session.objects.find(library ? Kind::library : Kind::module, owner);
    if (!in.good() || !object || !text) {
        out.result = CUDA_ERROR_INVALID_HANDLE;
        return;
    }
    CUdeviceptr address = 0;
    size_t size = 0;
    if (!library) {
        out.result = driver.cuModuleGetGlobal_v2(&address, &size, static_cast<CUmodule>(object->real), text);
    } else if (managed) {
        out.result = driver.cuLibraryGetManaged(&address, &size, static_cast<CUlibrary>(object->real), text);
    } else {
        out.result = driver.cuLibraryGetGlobal(&address, &size, static_cast<CUlibrary>(object->real), text);
    }
    Encoder answer(out.payload);
    answer.put<uint64_t>(address);
    answer.put<uint64_t>(size);
    unsigned shared = 0;
    if (out.result || driver.cuPointerGetAttribute(&shared, CU_POINTER_ATTRIBUTE_IS_MANAGED, address)) shared = 0;
    answer.put<uint64_t>(shared);
    if (!shared) return;
    in.session.twins.adopt(address, size);
    answer.put_bytes(reinterpret_cast<const char*>(address), size);
}

void serve_library_module(Request& in, Answer& out) {
    const auto library = in.handle<CUlibrary>(Kind::library);
    if (!in.good()) return out.refuse(in);
    CUmodule module = nullptr;
    out.result = driver.cuLibraryGetModule(&module, library);
    if (!out.result) out.put_handle(in, Kind::module, module, in.last(Kind::library));
}

void serve_set_function_attribute(Request& in, Answer& out) {
    const auto function = in.handle<CUfunction>(Kind::function);
    const auto attribute = static_cast<CUfunction_attribute>(in.value<int64_t>());
    const auto value = static_cast<int>(in.value<int64_t>());
    const auto device = in.value<int64_t>();
    const Object* owner = nullptr;
    if (const Object* object = in.session.objects.find(Kind::function, in.last(Kind::function))) {
        owner = in.session.objects.find(Kind::library, object->owner);
    }
    if (!in.good() || !function) return out.refuse(in);
    if (owner) {
        const auto index = device < 0 ? in.session.device_of_current() : static_cast<size_t>(device);
        if (index >= in.session.devices.size()) return out.refuse(in);
        auto* kernel = reinterpret_cast<CUkernel>(function);
        out.result = driver.cuKernelSetAttribute(attribute, value, kernel, in.session.devices[index].device);
    } else {
        out.result = driver.cuFuncSetAttribute(function, attribute, value);
    }
}

}  // namespace gpuferry::worker
