// What the server's driver says of itself, to a runtime that makes sure of the driver that answers.
#include <cstring>

#include "shim_calls.h"
#include "tables/slot_table.h"

namespace gpuferry {
namespace {

using private_tables::IntegritySubject;

IntegritySubject describe() {
    IntegritySubject subject;
    shim::cuDriverGetVersion(&subject.driver_version);
    subject.cudart_interface = cudart_interface_table();
    subject.integrity_check = integrity_check_table();
    for (const Device& device : client().snapshot().devices) {
        IntegritySubject::Device& said = subject.devices.emplace_back();
        std::memcpy(said.uuid.data(), device.uuid.bytes, said.uuid.size());
        said.pci_domain = device.attribute(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID);
        said.pci_bus = device.attribute(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID);
        said.pci_device = device.attribute(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID);
    }
    return subject;
}

}  // namespace

const void* integrity_check_table() {
    return private_tables::integrity_check<unknown_slot, describe>();
}

}  // namespace gpuferry
