// One forwarded NVML call while the client builds it: parameters in, the places for what comes out, then `ask`.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "nvml_connection.h"
#include "wire.h"

namespace gpuferry::nvml {

class NvmlCall {
  public:
    explicit NvmlCall(NvmlOp op) : op_(op), fields_(payload_) {
        if (!session().is_open()) error_ = NVML_ERROR_UNINITIALIZED;
    }

    void device(nvmlDevice_t handle) {
        unsigned index = 0;
        const Device* device = find_device(handle, index);
        if (!device) fail(NVML_ERROR_INVALID_ARGUMENT);
        // Between GPUs of two servers there is no link that NVML could tell of.
        if (device && bound_ && device->server != server_) fail(NVML_ERROR_NOT_SUPPORTED);
        if (device) server_ = device->server, bound_ = true;
        fields_.put<uint64_t>(device ? device->local : 0);
    }
    template <class T>
    void value(const T& value) {
        fields_.put(value);
    }
    template <class T>
    void into(const T* data, uint64_t count) {
        if (present(data)) put(data, count * sizeof(T));
    }
    template <class T>
    void want(T* place, uint64_t count) {
        if constexpr (std::is_same_v<T, nvmlPciInfo_t>) pci_ = place;
        if (present(place)) expect(place, count * sizeof(T));
    }
    template <class T>
    void both(T* place, uint64_t count) {
        if (!present(place)) return;
        put(place, count * sizeof(T));
        expect(place, count * sizeof(T));
    }
    // A struct whose first field says its size and version: the program may have been built for an older one.
    template <class T>
    void versioned(T* place) {
        if constexpr (std::is_same_v<T, nvmlPciInfoExt_t>) pci_ext_ = place;
        if (!present(place)) return;
        const uint64_t size = place->version & 0xff'ffff;
        if (size < sizeof place->version || size > sizeof(T)) return fail(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
        fields_.put(size);
        put(place, size);
        expect(place, size);
    }

    nvmlReturn_t ask() { return finish(false); }
    nvmlReturn_t ask_once() { return finish(true); }

  private:
    struct Place {
        void* where;
        size_t size;  // bytes
    };
    static constexpr size_t most_places = 6;
    static constexpr uint64_t largest = 1u << 20;

    void fail(nvmlReturn_t error) {
        if (!error_) error_ = error;
    }
    bool present(const void* pointer) {
        fields_.put<uint64_t>(pointer != nullptr);
        return pointer != nullptr;
    }
    void put(const void* data, uint64_t size) {
        if (size > largest) return fail(NVML_ERROR_INVALID_ARGUMENT);
        fields_.put_bytes(data, size);
    }
    void expect(void* place, uint64_t size) {
        if (size > largest || count_ == most_places) return fail(NVML_ERROR_INVALID_ARGUMENT);
        places_[count_++] = {place, size};
    }
    nvmlReturn_t finish(bool once) {
        if (error_) return error_;
        std::vector<char> answer;
        const nvmlReturn_t result = once ? session().ask_once(server_, op_, payload_.view(), answer)
                                         : session().ask(server_, op_, payload_.view(), answer);
        if (result != NVML_SUCCESS && result != NVML_ERROR_INSUFFICIENT_SIZE) return result;
        Decoder fields(answer);
        for (size_t i = 0; i < count_; ++i) {
            const auto size = fields.take<uint64_t>();
            const char* data = fields.take_bytes(size);
            if (data && size <= places_[i].size) std::memcpy(places_[i].where, data, size);
        }
        if (pci_) {
            move_to_own_domain(*pci_);
            rename(pci_->busIdLegacy);
        }
        if (pci_ext_) move_to_own_domain(*pci_ext_);
        return fields.good() ? result : NVML_ERROR_UNKNOWN;
    }
    // GPUs of different servers do not share PCI addresses in a program.
    template <class Info>
    void move_to_own_domain(Info& info) const {
        info.domain += pci_domain_offset(server_);
        rename(info.busId);
    }
    template <size_t Size>
    void rename(char (&bus_id)[Size]) const {
        const std::string own = program_bus_id(std::string(bus_id, strnlen(bus_id, Size)), server_);
        std::memcpy(bus_id, own.c_str(), std::min(own.size() + 1, Size));
    }

    const NvmlOp op_;
    nvmlReturn_t error_ = NVML_SUCCESS;
    size_t server_ = 0;  // that of the device; what concerns none, the first one answers
    bool bound_ = false;
    nvmlPciInfo_t* pci_ = nullptr;
    nvmlPciInfoExt_t* pci_ext_ = nullptr;
    Bytes payload_;
    Encoder fields_;
    Place places_[most_places];
    size_t count_ = 0;
};

}  // namespace gpuferry::nvml
