// By this the runtime finds out whether the driver that answers is the one it believes in: an HMAC over what the driver
// says of itself and of its devices, made of this process's own ids and addresses.
#include <pthread.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "md2.h"
#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

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

struct DeviceStatement {
    CUuuid uuid;
    int32_t pci_domain, pci_bus, pci_device;
};
static_assert(sizeof(DeviceStatement) == 28);

template <class T>
void append(std::vector<uint8_t>& message, const T& part) {
    const auto* first = reinterpret_cast<const uint8_t*>(&part);
    message.insert(message.end(), first, first + sizeof part);
}

CUresult prove(uint32_t version, uint64_t unix_seconds, uint64_t result[2]) {
    if (version % 10 <= 1) {
        result[0] = version % 10 == 0 ? 0x3341181c03cb675c : 0x1841181c03cb675c;
        result[1] = 0x8ed383aa1f4cd1e8;
        return CUDA_SUCCESS;
    }
    int driver_version = 0;
    shim::cuDriverGetVersion(&driver_version);
    std::vector<uint8_t> message;
    append(message, Statement{static_cast<uint32_t>(driver_version), version, static_cast<uint32_t>(getpid()),
                              static_cast<uint32_t>(pthread_self()), cudart_interface_table(), integrity_check_table(),
                              reinterpret_cast<const void*>(&prove), unix_seconds});
    for (const Device& device : client().snapshot().devices) {
        append(message, DeviceStatement{device.uuid, device.attribute(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
                                        device.attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
                                        device.attribute(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)});
    }
    const Md2Digest digest = hmac_md2(key, message);
    std::memcpy(result, digest.data(), digest.size());
    return CUDA_SUCCESS;
}

}  // namespace

const void* integrity_check_table() {
    static auto& table = (*new SlotTable<"INTEGRITY_CHECK", 3>).set(1, prove);
    return table.address();
}

}  // namespace gpuferry
