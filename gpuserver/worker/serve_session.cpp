// The start of a session: the devices, the window for the client's device memory, and the snapshot that answers the
// client's questions from then on.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "address_windows.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

constexpr uint64_t gibibyte = 1ull << 30;
// Addresses that the client's sessions with other servers use.
struct Taken {
    uint64_t base = 0, size = 0;  // bytes
};
constexpr uint64_t most_taken = 64;

CUmemAllocationProp allocation_on(CUdevice device) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = device;
    return prop;
}

// The first address of the place that keeps clear of what is taken; 0 when there is none.
uint64_t clear_of(const std::vector<Taken>& taken, const AddressRange& place, uint64_t size) {
    uint64_t base = place.start;
    for (bool moved = true; moved;) {
        moved = false;
        for (const Taken& other : taken) {
            if (base - other.base >= other.size && other.base - base >= size) continue;
            const uint64_t behind = (other.base + other.size + gibibyte - 1) / gibibyte * gibibyte;
            if (behind <= base) return 0;  // numbers beyond all reason
            base = behind;
            moved = true;
        }
    }
    return base < place.end && size <= place.end - base ? base : 0;
}

CUresult reserve_window(Session& session, uint64_t device_bytes, const std::vector<Taken>& taken) {
    const CUmemAllocationProp prop = allocation_on(session.devices.front().device);
    size_t granularity = 0;
    CUresult result = driver.cuMemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
    if (result) return result;
    session.granularity = std::max<uint64_t>(granularity, 2u << 20);
    // Large enough that an address is used again only long after it was freed.
    uint64_t size = 64 * gibibyte;
    while (size < 8 * device_bytes) size *= 2;
    for (const AddressRange& place : device_windows) {
        const uint64_t hint = clear_of(taken, place, size);
        if (!hint) continue;
        CUdeviceptr base = 0;
        result = driver.cuMemAddressReserve(&base, size, session.granularity, hint, 0);
        if (result) continue;
        if (base == hint) {
            session.window_base = base;
            session.window_size = size;
            return CUDA_SUCCESS;
        }
        driver.cuMemAddressFree(base, size);
    }
    return result ? result : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult open_devices(Session& session, const std::vector<Taken>& taken) {
    CUresult result = driver.cuInit(0);
    if (result) return result;
    int count = 0;
    result = driver.cuDeviceGetCount(&count);
    if (result) return result;
    if (count == 0) return CUDA_ERROR_NO_DEVICE;
    if (static_cast<size_t>(count) > account_devices) return CUDA_ERROR_NOT_SUPPORTED;
    uint64_t all = 0;
    for (int ordinal = 0; ordinal < count; ++ordinal) {
        SessionDevice device;
        result = driver.cuDeviceGet(&device.device, ordinal);
        if (!result) result = driver.cuDevicePrimaryCtxRetain(&device.primary, device.device);
        if (!result) result = driver.cuCtxSetCurrent(device.primary);
        size_t free = 0, total = 0;
        if (!result) result = driver.cuMemGetInfo_v2(&free, &total);
        if (result) return result;
        const auto index = static_cast<size_t>(ordinal);
        const uint64_t slice = session.memory_of(index);
        // Of a whole GPU the lease may have what is free, and what its other sessions hold already.
        const uint64_t others = session.account.used_by_others(index);
        session.quota.add_device(slice ? slice : std::min<uint64_t>(free + others, total));
        all += slice ? slice : total;
        session.devices.push_back(device);
        session.objects.name_of(Kind::context, device.primary, 0);
    }
    driver.cuCtxSetCurrent(nullptr);
    return reserve_window(session, all, taken);
}

void put_device(Session& session, size_t index, Encoder& snapshot) {
    const CUdevice device = session.devices[index].device;
    char text[256] = {};
    driver.cuDeviceGetName(text, sizeof text, device);
    snapshot.put_text(text);
    CUuuid uuid{}, uuid_v2{};
    driver.cuDeviceGetUuid(&uuid, device);
    if (driver.cuDeviceGetUuid_v2(&uuid_v2, device)) uuid_v2 = uuid;
    snapshot.put(uuid);
    snapshot.put(uuid_v2);
    size_t total = 0;
    driver.cuDeviceTotalMem_v2(&total, device);
    const uint64_t slice = session.memory_of(index);
    snapshot.put<uint64_t>(slice ? slice : total);
    snapshot.put<uint64_t>(session.quota.limit(index));
    char bus[32] = {};
    driver.cuDeviceGetPCIBusId(bus, sizeof bus, device);
    snapshot.put_text(bus);
    CUdevprop properties{};
    driver.cuDeviceGetProperties(&properties, device);
    snapshot.put(properties);

    std::vector<int32_t> attributes;  // pairs: attribute, value
    for (int attribute = 1; attribute < CU_DEVICE_ATTRIBUTE_MAX; ++attribute) {
        int value = 0;
        if (driver.cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(attribute), device)) continue;
        attributes.push_back(attribute);
        attributes.push_back(value);
    }
    snapshot.put<uint64_t>(attributes.size());
    snapshot.put_bytes(attributes.data(), attributes.size() * sizeof(int32_t));

    snapshot.put<uint64_t>(session.objects.name_of(Kind::context, session.devices[index].primary, 0));
    std::vector<int32_t> peers;
    for (const SessionDevice& other : session.devices) {
        int can = 0;
        driver.cuDeviceCanAccessPeer(&can, device, other.device);
        peers.push_back(can);
    }
    snapshot.put_bytes(peers.data(), peers.size() * sizeof(int32_t));
}

void put_error_texts(Encoder& snapshot) {
    for (int code = 0; code < 1000; ++code) {
        const char *name = nullptr, *text = nullptr;
        if (driver.cuGetErrorName(static_cast<CUresult>(code), &name) || !name) continue;
        if (driver.cuGetErrorString(static_cast<CUresult>(code), &text) || !text) text = name;
        snapshot.put<int64_t>(code);
        snapshot.put_text(name);
        snapshot.put_text(text);
    }
    snapshot.put<int64_t>(-1);
}

}  // namespace

void serve_open_session(Request& in, Answer& out) {
    Session& session = in.session;
    if (session.window_base) session.end("the client opened its session twice");
    const bool patient = in.value<uint64_t>();
    const auto number = in.value<uint64_t>();
    const auto windows = in.value<uint64_t>();
    std::vector<Taken> taken{{host_window.start, host_window.end - host_window.start}};
    while (in.good() && taken.size() <= std::min(windows, most_taken)) taken.push_back(in.value<Taken>());
    if (!in.good() || number >= most_servers || windows > most_taken) return out.refuse(in);
    if (patient) session.quota.be_patient();
    session.objects.set_server(static_cast<unsigned>(number));
    out.result = open_devices(session, taken);
    if (out.result) return;
    Encoder snapshot(out.payload);
    int version = 0;
    driver.cuDriverGetVersion(&version);
    snapshot.put<int64_t>(version);
    snapshot.put<uint64_t>(session.window_base);
    snapshot.put<uint64_t>(session.window_size);
    snapshot.put<uint64_t>(session.granularity);
    session.host_base = host_window.start;
    session.host_size = host_window.end - host_window.start;
    snapshot.put<uint64_t>(session.host_base);
    snapshot.put<uint64_t>(session.host_size);
    snapshot.put<uint64_t>(session.devices.size());
    for (size_t index = 0; index < session.devices.size(); ++index) put_device(session, index, snapshot);
    put_error_texts(snapshot);
}

}  // namespace gpuferry::worker
