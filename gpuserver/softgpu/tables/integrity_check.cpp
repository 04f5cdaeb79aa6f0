// What this driver says of itself to a runtime that makes sure of it.
#include "config.h"
#include "tables/export_table.h"

namespace softgpu {
namespace {

using gpuferry::private_tables::IntegritySubject;

IntegritySubject describe() {
    IntegritySubject subject{config().driver_version, cudart_interface_table(), integrity_check_table(), {}};
    for (const auto& device : visible_devices()) {
        subject.devices.push_back({device.uuid, device.pci_domain, device.pci_bus, device.pci_device});
    }
    return subject;
}

}  // namespace

const void* integrity_check_table() {
    return gpuferry::private_tables::integrity_check<unknown_slot, describe>();
}

}  // namespace softgpu
