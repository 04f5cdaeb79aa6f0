// NVIDIA's private tables, which its runtime and libraries ask for with cuGetExportTable: arrays of function pointers
// under a UUID. What the software driver and the client's library say alike is here; each has files of its own for the
// slots that it answers itself. Only slots that public programs are known to call are answered: any other says which
// one it was and returns CUDA_ERROR_NOT_SUPPORTED.
#pragma once

#ifndef __CUDA_API_VERSION_INTERNAL  // as the generated headers include it
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "md2.h"

namespace gpuferry::private_tables {

using TableId = std::array<uint8_t, 16>;

inline constexpr TableId cudart_interface_id{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a,
                                             0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9};
inline constexpr TableId callback_hooks_id{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74,
                                           0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66};
inline constexpr TableId tools_tls_id{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47,
                                      0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc};
inline constexpr TableId context_local_storage_id{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11,
                                                  0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93};
inline constexpr TableId context_checks_id{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43,
                                           0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e};
inline constexpr TableId integrity_check_id{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b,
                                            0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2};
inline constexpr TableId object_ids_id{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48,
                                       0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2};
inline constexpr TableId module_iterator_id{0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d,
                                            0x83, 0x5c, 0xe1, 0x82, 0xaf, 0xf1, 0x99, 0x1e};
inline constexpr TableId tools_extension_id{0x7c, 0xb6, 0x3f, 0x9b, 0x9c, 0xa4, 0x8e, 0x42,
                                            0xa4, 0x84, 0xbe, 0xb6, 0x6e, 0x6a, 0xed, 0x7f};

struct ExportTable {
    TableId id;
    const void* (*address)();
};

// CUPTI asks for it before anything else and does without each slot that its size does not reach: here it ends behind
// its size. Without the table every function of CUPTI fails, and JAX then does without the GPU.
inline const void* tools_extension() {
    static constexpr size_t table[] = {sizeof(size_t)};
    return table;
}

// The table of that id, or null.
inline const ExportTable* find_table(std::span<const ExportTable> tables, const CUuuid& id) {
    const auto found = std::ranges::find_if(
        tables, [&](const ExportTable& table) { return !std::memcmp(table.id.data(), id.bytes, table.id.size()); });
    return found == tables.end() ? nullptr : &*found;
}

// What to say of a slot that nobody is known to call, the first time that somebody does; else nothing.
inline std::string complaint_of(const char* table, size_t slot) {
    static std::mutex mutex;
    static auto& named = *new std::set<std::string>;
    const std::string name = std::string(table) + "[" + std::to_string(slot) + "]";
    const std::lock_guard lock(mutex);
    return named.insert(name).second ? "private driver function " + name + " is not known" : "";
}

// A table's name where a template can take it.
template <size_t Length>
struct TableName {
    char text[Length];
    // NOLINTNEXTLINE: implicit, so that a literal is enough.
    constexpr TableName(const char (&literal)[Length]) { std::copy_n(literal, Length, text); }
};

// What every slot is until `set` puts a function there: a call of Unknown(name, slot). Word 0 is the table's size in
// bytes.
template <TableName Name, size_t Words, CUresult (*Unknown)(const char* table, size_t slot)>
class SlotTable {
  public:
    SlotTable() { fill(std::make_index_sequence<Words>()); }

    template <class Result, class... Parameters>
    SlotTable& set(size_t slot, Result (*function)(Parameters...)) {
        words_[slot] = reinterpret_cast<const void*>(function);
        return *this;
    }
    [[nodiscard]] const void* address() const { return words_.data(); }

  private:
    template <size_t Slot>
    static CUresult unknown() {
        return Unknown(Name.text, Slot);
    }
    template <size_t... Slots>
    void fill(std::index_sequence<Slots...>) {
        ((words_[Slots] = reinterpret_cast<const void*>(&unknown<Slots>)), ...);
        words_[0] = reinterpret_cast<const void*>(Words * sizeof(void*));
    }
    std::array<const void*, Words> words_{};
};

// What the CUDA runtime uses of the driver beyond its public functions. `LoadModule` is cuModuleLoadData;
// `GetPrimaryContext` tells a primary context's handle without retaining it: it stays inactive.
template <auto Unknown, CUresult (*LoadModule)(CUmodule*, const void*),
          CUresult (*GetPrimaryContext)(CUcontext*, CUdevice)>
const void* cudart_interface() {
    using Any = void*;
    static auto& table =
        (*new SlotTable<"CUDART_INTERFACE", 13, Unknown>)
            .set(
                1, +[](CUmodule* module, const void* wrapper) { return LoadModule(module, wrapper); })
            .set(2, GetPrimaryContext)
            // That of runtime 11.
            .set(
                6,
                +[](CUmodule* module, const void* wrapper, Any, Any, uint32_t) { return LoadModule(module, wrapper); })
            // Runtime 11 says at exit that a fatbin's static storage goes away; its module was unloaded before.
            .set(
                7, +[](const void*) {})
            .set(
                8, +[](const void* fatbin, CUmodule* module, Any, Any, uint32_t) { return LoadModule(module, fatbin); })
            // Loads the compilers: they are part of the software driver, or on the server.
            .set(12, +[] { return CUDA_SUCCESS; });
    return table.address();
}

// Buffers of flags by which profilers tell the runtime which of its functions they want to see. Nobody does: all zero.
template <auto Unknown>
const void* callback_hooks() {
    // The unit of the counts that the runtime gets is not known: the buffers are large enough for 32-bit words.
    static uint32_t function_flags[1024], domain_flags[16];
    constexpr auto get_function_flags = [](void** buffer, size_t* count) {
        *buffer = function_flags;
        *count = std::size(function_flags);
    };
    constexpr auto get_domain_flags = [](void** buffer, size_t* count) {
        *buffer = domain_flags;
        *count = 14;
    };
    static auto& table = (*new SlotTable<"TOOLS_RUNTIME_CALLBACK_HOOKS", 7, Unknown>)
                             .set(2, +get_function_flags)
                             .set(6, +get_domain_flags);
    return table.address();
}

// The runtime asks before it uses a context that it did not make.
template <auto Unknown>
const void* context_checks() {
    constexpr auto check_context = [](CUcontext, uint32_t* result, const void**) {
        if (result) *result = 0;
        return result ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    };
    static auto& table =
        (*new SlotTable<"CONTEXT_CHECKS", 17, Unknown>).set(2, +check_context).set(3, +[] { return uint32_t{0}; });
    return table.address();
}

// cuFFT finds the kernels of a module it loaded by being called back with each. The slot returns the number of
// functions visited; 0 when the module cannot be read.
template <auto Unknown, CUresult (*Count)(unsigned*, CUmodule), CUresult (*Enumerate)(CUfunction*, unsigned, CUmodule)>
const void* module_iterator() {
    using Visitor = void (*)(void* user, CUfunction function, uint64_t owner);
    constexpr auto for_each_function = [](CUcontext, CUmodule module, Visitor visit, void* user) -> uint32_t {
        unsigned count = 0;
        if (!visit || Count(&count, module) != CUDA_SUCCESS) return 0;
        std::vector<CUfunction> functions(count);
        if (count && Enumerate(functions.data(), count, module) != CUDA_SUCCESS) return 0;
        for (CUfunction function : functions) visit(user, function, 0);
        return count;
    };
    static auto& table = (*new SlotTable<"MODULE_ITERATOR", 105, Unknown>).set(7, +for_each_function);
    return table.address();
}

// What a driver says of itself and of its devices in the integrity check.
struct IntegritySubject {
    struct Device {
        std::array<uint8_t, 16> uuid;
        int32_t pci_domain, pci_bus, pci_device;
    };
    static_assert(sizeof(Device) == 28);
    int driver_version = 0;
    const void* cudart_interface = nullptr;
    const void* integrity_check = nullptr;
    std::vector<Device> devices;
};

// By this the runtime finds out whether the driver that answers is the one it believes in: an HMAC over what the driver
// says of itself and of its devices, made of this process's own ids and addresses.
template <IntegritySubject (*Describe)()>
CUresult prove_integrity(uint32_t version, uint64_t unix_seconds, uint64_t result[2]) {
    constexpr uint8_t key[] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
                               0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};
    struct Statement {
        uint32_t driver_version, version, process, thread;
        const void* cudart_interface;
        const void* integrity_check;
        const void* function;
        uint64_t unix_seconds;
    };
    static_assert(sizeof(Statement) == 48);
    if (version % 10 <= 1) {
        result[0] = version % 10 == 0 ? 0x3341181c03cb675c : 0x1841181c03cb675c;
        result[1] = 0x8ed383aa1f4cd1e8;
        return CUDA_SUCCESS;
    }
    const IntegritySubject subject = Describe();
    const Statement statement{static_cast<uint32_t>(subject.driver_version),
                              version,
                              static_cast<uint32_t>(::getpid()),
                              static_cast<uint32_t>(::pthread_self()),
                              subject.cudart_interface,
                              subject.integrity_check,
                              reinterpret_cast<const void*>(&prove_integrity<Describe>),
                              unix_seconds};
    std::vector<uint8_t> message;
    const auto append = [&](const auto& part) {
        const auto* first = reinterpret_cast<const uint8_t*>(&part);
        message.insert(message.end(), first, first + sizeof part);
    };
    append(statement);
    for (const auto& device : subject.devices) append(device);
    const Md2Digest digest = hmac_md2(key, message);
    std::memcpy(result, digest.data(), digest.size());
    return CUDA_SUCCESS;
}

template <auto Unknown, IntegritySubject (*Describe)()>
const void* integrity_check() {
    static auto& table = (*new SlotTable<"INTEGRITY_CHECK", 3, Unknown>).set(1, prove_integrity<Describe>);
    return table.address();
}

}  // namespace gpuferry::private_tables
