// cuModule*, cuLibrary*: one round trip loads an image and brings the names, attributes and parameter layouts of its
// functions.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "call.h"
#include "device_memory.h"
#include "functions.h"
#include "images.h"
#include "jit_options.h"
#include "shim_calls.h"
#include "twins.h"

namespace gpuferry {
namespace {

void read_details(Function& function, Decoder& fields) {
    auto attributes = fields.take_array<int32_t>(fields.take<uint64_t>());
    const auto layout = fields.take_array<uint32_t>(fields.take<uint64_t>());
    auto blocks = fields.take_array<int32_t>(fields.take<uint64_t>());
    if (!fields.good()) return;
    function.attributes = std::move(attributes);
    function.blocks_by_warps = std::move(blocks);
    for (size_t at = 0; at + 1 < layout.size(); at += 2) {
        const Parameter parameter{.offset = layout[at], .size = layout[at + 1]};
        function.parameter_bytes = std::max(function.parameter_bytes, parameter.offset + parameter.size);
        function.parameters.push_back(parameter);
    }
    function.dynamic_shared_limit = function.attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    function.described = true;
}

Function* add_function(Image& image, const std::string& name, Handle handle) {
    auto* function = new Function;
    function->handle = handle;
    function->image = &image;
    function->name = name;
    image.functions[name] = function;
    image.in_order.push_back(function);
    handles_table().adopt(handle, function);
    return function;
}

// Asks the worker for one function: a name that the load reply did not list, or one that it did not describe.
CUresult ask_for_function(Image& image, const char* name, Function*& function) {
    Call call(Op::find_function);
    call.handle(kind_of(image.handle), image.handle);
    call.text(name);
    call.ask();
    if (call.result()) return call.result();
    const auto handle = call.results().take<uint64_t>();
    if (!function) function = add_function(image, name, handle);
    read_details(*function, call.results());
    return CUDA_SUCCESS;
}

// The module that a library is in a context, where the reply names it.
Image* read_module(Image& library, const Context& context, Call& call) {
    const auto handle = call.results().take<uint64_t>();
    if (!handle) return nullptr;
    auto* module = new Image;  // it stays as long as the process, as all images do
    module->handle = handle;
    module->library = &library;
    call.adopt(handle, module);
    return library.modules[context.id] = module;
}

// The image that has the functions of this one.
Image* find_image(Kind kind, Handle handle) {
    auto* image = handles_table().find<Image>(kind, handle);
    return image && image->library ? image->library : image;
}

// Has the image's server load its code, and learns what is in it. Of what cannot be loaded nothing stays.
CUresult load_image(Image& image, std::span<const std::span<const char>> parts, JitOptions& jit, Call& call) {
    call.value<uint64_t>(image.linked);
    call.value<uint64_t>(parts.size());
    for (const std::span<const char> part : parts) {
        call.value<uint64_t>(part.size());
        call.bytes(part);
    }
    const bool answered = call.ask();
    if (answered) jit.take(call.results());
    if (call.result()) {
        handles_table().forget(image.handle);
        return call.result();
    }
    Decoder& results = call.results();
    const auto count = results.take<uint64_t>();
    for (uint64_t i = 0; results.good() && i < count; ++i) {
        const std::string name(results.take_text());
        Function* function = add_function(image, name, results.take<uint64_t>());
        if (results.take<uint64_t>()) read_details(*function, results);
    }
    for (const std::span<const char> part : parts) {
        for (const auto& [name, shape] : required_blocks(part)) {
            if (const auto found = image.functions.find(name); found != image.functions.end()) {
                found->second->required_block = shape;
            }
        }
    }
    const Context* context = current_context();
    if (image.is_library() && context && context->server == &call.server()) read_module(image, *context, call);
    return CUDA_SUCCESS;
}

CUresult load(Kind kind, const void* data, unsigned options, const CUjit_option* names, void** values, Handle& handle) {
    const CodeImage code = read_code_image(data);
    if (code.parts.empty()) return CUDA_ERROR_INVALID_IMAGE;
    auto image = std::make_unique<Image>();
    image->linked = code.linked;
    Call call(Op::load_image);
    call.create(kind, &handle, image.get());
    image->handle = handle;
    JitOptions jit;
    jit.put(call, options, names, values);
    if (const CUresult failure = load_image(*image, code.parts, jit, call)) return failure;
    if (kind == Kind::library && client().has_several_servers()) {
        for (const std::span<const char> part : code.parts) image->code.emplace_back(part.begin(), part.end());
    }
    image.release();  // it stays as long as the process: another thread may be looking at it
    return CUDA_SUCCESS;
}

// A managed variable is one for all GPUs: what another server has of it is joined with this process's own.
void join_managed(const std::string& name, const Global& global, const Image& there) {
    Call call(Op::find_global);
    call.handle(Kind::library, there.handle);
    call.value<uint64_t>(true);
    call.text(name.c_str());
    call.ask();
    if (call.result()) return;
    const auto where = call.results().take<uint64_t>();
    const auto length = call.results().take<uint64_t>();
    if (!call.results().take<uint64_t>()) return;
    if (const char* content = call.results().take_bytes(length)) {
        join_twin(global.address, call.server(), where, {content, length});
    }
}

// What a library is on a server: loaded there now, if it was not yet. Modules are where they are.
Image* find_image_on(Server& server, Image& image, CUresult& failure) {
    if (!image.is_library() || server_of(image.handle) == server.number) return &image;
    Image& original = image.original ? *image.original : image;
    if (server_of(original.handle) == server.number) return &original;
    const std::lock_guard held(original.lock);
    if (const auto found = original.elsewhere.find(server.number); found != original.elsewhere.end()) {
        return found->second;
    }
    auto there = std::make_unique<Image>();
    there->original = &original;
    there->linked = original.linked;
    Call call(Op::load_image);
    call.go_to(server);
    Handle handle = 0;
    call.create(Kind::library, &handle, there.get());
    there->handle = handle;
    JitOptions jit;  // the program's own were for the first load, and its log buffers may be gone
    jit.put(call, 0, nullptr, nullptr);
    const std::vector<std::span<const char>> parts(original.code.begin(), original.code.end());
    failure = load_image(*there, parts, jit, call);
    if (failure) return nullptr;
    for (const auto& [key, global] : original.globals) {
        if (global.managed) join_managed(key.second, global, *there);
    }
    return original.elsewhere[server.number] = there.release();
}

CUresult load_file(Kind kind, const char* path, unsigned options, const CUjit_option* names, void** values,
                   Handle& handle) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::vector<char> content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    content.push_back(0);  // PTX text has to end somewhere
    return load(kind, content.data(), options, names, values, handle);
}

CUresult unload(Image& image) {
    Call call(Op::unload_image);
    call.handle(kind_of(image.handle), image.handle);
    for (Function* function : image.in_order) handles_table().forget(function->handle);
    for (const auto& [context, module] : image.modules) handles_table().forget(module->handle);
    for (const auto& [name, global] : image.globals) {
        device_memory().remove_foreign(call.server(), global.address);
        if (global.managed) end_twin(global.address);
    }
    handles_table().forget(image.handle);
    return call.post_anywhere();  // the image's record stays: another thread may be looking at it
}

CUresult unload(Kind kind, Handle handle) {
    auto* image = handles_table().find<Image>(kind, handle);
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    for (const auto& [server, there] : image->elsewhere) unload(*there);
    return unload(*image);
}

CUresult get_function(Kind kind, Handle handle, const char* name, Function*& function) {
    Image* image = find_image(kind, handle);
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(image->lock);
    const auto found = image->functions.find(name);
    function = found == image->functions.end() ? nullptr : found->second;
    if (function && function->described) return CUDA_SUCCESS;
    return ask_for_function(*image, name, function);
}

CUresult get_global(Kind kind, Handle handle, const char* name, bool managed, CUdeviceptr* address, size_t* size) {
    auto* image = handles_table().find<Image>(kind, handle);
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    if (!name || (!address && !size)) return CUDA_ERROR_INVALID_VALUE;
    CUresult failure = CUDA_SUCCESS;
    const auto known_managed = [&] {
        const std::lock_guard held(image->lock);
        return image->globals.contains({0, name});
    };
    if (kind == Kind::library && !managed && client().has_several_servers() && current_context() && !known_managed()) {
        image = find_image_on(current_server(), *image, failure);
        if (!image) return failure;
    }
    const Context* context = current_context();
    const std::lock_guard held(image->lock);
    auto found = image->globals.find({0, name});
    if (found == image->globals.end()) found = image->globals.find({context ? context->id : 0, name});
    if (found == image->globals.end()) {
        Call call(Op::find_global);
        call.handle(kind, image->handle);
        call.value<uint64_t>(managed);
        call.text(name);
        call.ask();
        if (call.result()) return call.result();
        Global global;
        global.address = call.results().take<uint64_t>();
        global.size = call.results().take<uint64_t>();
        global.managed = call.results().take<uint64_t>();
        auto origin = Stretch::Origin::global;
        if (global.managed) {  // this process has it at the same address
            const char* content = call.results().take_bytes(global.size);
            if (!content) return CUDA_ERROR_UNKNOWN;
            failure = adopt_twin(call.server(), global.address, {content, global.size});
            if (failure) return failure;
            origin = Stretch::Origin::managed_variable;
        }
        const unsigned long long id = context && !global.managed ? context->id : 0;
        found = image->globals.emplace(std::pair(id, name), global).first;
        for (const auto& [number, there] : image->elsewhere) {
            if (global.managed) join_managed(name, global, *there);
        }
        const bool here = context && context->server == &call.server();
        const CUdevice device = here ? context->device : call.server().primary->device;
        device_memory().add_foreign(global.address, global.size, here ? context : nullptr, origin, device);
    }
    if (address) *address = found->second.address;
    if (size) *size = found->second.size;
    return CUDA_SUCCESS;
}

CUresult enumerate(Kind kind, Handle handle, Handle* functions, unsigned count) {
    Image* image = find_image(kind, handle);
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    if (!functions || !count) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(image->lock);
    for (unsigned i = 0; i < count && i < image->in_order.size(); ++i) functions[i] = image->in_order[i]->handle;
    return CUDA_SUCCESS;
}

CUresult count_functions(Kind kind, Handle handle, unsigned* count) {
    Image* image = find_image(kind, handle);
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(image->lock);
    *count = static_cast<unsigned>(image->in_order.size());
    return CUDA_SUCCESS;
}

CUresult refuse_library_options(const CUlibraryOption* options, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        if (options[i] != CU_LIBRARY_BINARY_IS_PRESERVED &&
            options[i] != CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    return CUDA_SUCCESS;
}

}  // namespace

Function* find_function_on(Server& server, CUfunction handle, CUresult& failure) {
    auto* function = handles_table().find<Function>(Kind::function, to_handle(handle));
    if (!function) {
        failure = CUDA_ERROR_INVALID_HANDLE;
        return nullptr;
    }
    Image* image = function->image;
    if (server_of(function->handle) != server.number && image->is_library()) [[unlikely]] {
        image = find_image_on(server, *image, failure);
        if (!image) return nullptr;
        const std::lock_guard held(image->lock);
        const auto found = image->functions.find(function->name);
        const std::string name = function->name;
        function = found == image->functions.end() ? nullptr : found->second;
        if (!function) failure = ask_for_function(*image, name.c_str(), function);
        if (failure) return nullptr;
    }
    if (!function->described) [[unlikely]] {
        const std::lock_guard held(function->image->lock);
        failure =
            function->described ? CUDA_SUCCESS : ask_for_function(*function->image, function->name.c_str(), function);
        if (failure) return nullptr;
    }
    return function;
}

Function* find_function(CUfunction handle, CUresult& failure) {
    return find_function_on(current_server(), handle, failure);
}

namespace shim {

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned numOptions, CUjit_option* options,
                            void** optionValues) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!module || !image || (numOptions && (!options || !optionValues))) return CUDA_ERROR_INVALID_VALUE;
    Handle handle = 0;
    const CUresult result = load(Kind::module, image, numOptions, options, optionValues, handle);
    if (!result) *module = from_handle<CUmodule>(handle);
    return result;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    return shim::cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* fatCubin) {
    return shim::cuModuleLoadDataEx(module, fatCubin, 0, nullptr, nullptr);
}

CUresult cuModuleLoad(CUmodule* module, const char* fname) {
    if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!module || !fname) return CUDA_ERROR_INVALID_VALUE;
    Handle handle = 0;
    const CUresult result = load_file(Kind::module, fname, 0, nullptr, nullptr, handle);
    if (!result) *module = from_handle<CUmodule>(handle);
    return result;
}

CUresult cuModuleUnload(CUmodule hmod) {
    const auto* image = handles_table().find<Image>(Kind::module, to_handle(hmod));
    if (image && image->library) return CUDA_ERROR_NOT_PERMITTED;
    return unload(Kind::module, to_handle(hmod));
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jitOptions, void** jitOptionsValues,
                           unsigned numJitOptions, CUlibraryOption* libraryOptions, void**,
                           unsigned numLibraryOptions) {
    if (!library || !code || (numJitOptions && (!jitOptions || !jitOptionsValues))) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = refuse_library_options(libraryOptions, numLibraryOptions)) return failure;
    Handle handle = 0;
    const CUresult result = load(Kind::library, code, numJitOptions, jitOptions, jitOptionsValues, handle);
    if (!result) *library = from_handle<CUlibrary>(handle);
    return result;
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* fileName, CUjit_option* jitOptions,
                               void** jitOptionsValues, unsigned numJitOptions, CUlibraryOption* libraryOptions, void**,
                               unsigned numLibraryOptions) {
    if (!library || !fileName || (numJitOptions && (!jitOptions || !jitOptionsValues))) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult failure = refuse_library_options(libraryOptions, numLibraryOptions)) return failure;
    Handle handle = 0;
    const CUresult result = load_file(Kind::library, fileName, numJitOptions, jitOptions, jitOptionsValues, handle);
    if (!result) *library = from_handle<CUlibrary>(handle);
    return result;
}

CUresult cuLibraryUnload(CUlibrary library) {
    return unload(Kind::library, to_handle(library));
}

CUresult cuModuleGetFunction(CUfunction* hfunc, CUmodule hmod, const char* name) {
    if (!hfunc) return CUDA_ERROR_INVALID_VALUE;
    Function* function = nullptr;
    const CUresult result = get_function(Kind::module, to_handle(hmod), name, function);
    if (!result) *hfunc = from_handle<CUfunction>(function->handle);
    return result;
}

CUresult cuLibraryGetKernel(CUkernel* pKernel, CUlibrary library, const char* name) {
    if (!pKernel) return CUDA_ERROR_INVALID_VALUE;
    Function* function = nullptr;
    const CUresult result = get_function(Kind::library, to_handle(library), name, function);
    if (!result) *pKernel = from_handle<CUkernel>(function->handle);
    return result;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* dptr, size_t* bytes, CUmodule hmod, const char* name) {
    return get_global(Kind::module, to_handle(hmod), name, false, dptr, bytes);
}

CUresult cuLibraryGetGlobal(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    return get_global(Kind::library, to_handle(library), name, false, dptr, bytes);
}

CUresult cuLibraryGetManaged(CUdeviceptr* dptr, size_t* bytes, CUlibrary library, const char* name) {
    return get_global(Kind::library, to_handle(library), name, true, dptr, bytes);
}

CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule mod) {
    return count_functions(Kind::module, to_handle(mod), count);
}
CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary lib) {
    return count_functions(Kind::library, to_handle(lib), count);
}
CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned numFunctions, CUmodule mod) {
    return enumerate(Kind::module, to_handle(mod), reinterpret_cast<Handle*>(functions), numFunctions);
}
CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned numKernels, CUlibrary lib) {
    return enumerate(Kind::library, to_handle(lib), reinterpret_cast<Handle*>(kernels), numKernels);
}

CUresult cuLibraryGetModule(CUmodule* pMod, CUlibrary library) {
    auto* image = handles_table().find<Image>(Kind::library, to_handle(library));
    if (!image) return CUDA_ERROR_INVALID_HANDLE;
    if (!pMod) return CUDA_ERROR_INVALID_VALUE;
    CUresult failure = CUDA_SUCCESS;
    image = find_image_on(current_server(), *image, failure);
    if (!image) return failure;
    const Context* context = current_context();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    const std::lock_guard held(image->lock);
    const auto found = image->modules.find(context->id);
    const Image* module = found == image->modules.end() ? nullptr : found->second;
    if (!module) {
        Call call(Op::library_module);
        call.handle(Kind::library, image->handle);
        call.ask();
        if (call.result()) return call.result();
        module = read_module(*image, *context, call);
        if (!module) return CUDA_ERROR_INVALID_HANDLE;
    }
    *pMod = from_handle<CUmodule>(module->handle);
    return CUDA_SUCCESS;
}

}  // namespace shim
}  // namespace gpuferry
