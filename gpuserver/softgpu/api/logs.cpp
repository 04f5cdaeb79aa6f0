// cuLogs*: which calls failed and why, for the program to read; and notifications that never come, since a process
// cannot be beyond its budget of device memory here.
#include "api/entry.h"
#include "device/device.h"
#include "driver_log.h"

using namespace softgpu;
using gpuferry::driver_log;

namespace {

struct Notification final : Object {
    using Handle = CUasyncCallbackHandle;
    static constexpr Kind kind = Kind::registration;
    static constexpr CUresult invalid = CUDA_ERROR_INVALID_VALUE;
    explicit Notification(CUdevice of) : device(of) {}
    const CUdevice device;
};

}  // namespace

extern "C" CUresult CUDAAPI cuLogsRegisterCallback(CUlogsCallback callbackFunc, void* userData,
                                                   CUlogsCallbackHandle* callback_out) {
    return entry(__func__, [&] { return driver_log().register_callback(callbackFunc, userData, callback_out); });
}

extern "C" CUresult CUDAAPI cuLogsUnregisterCallback(CUlogsCallbackHandle callback) {
    return entry(__func__, [&] { return driver_log().unregister_callback(callback); });
}

extern "C" CUresult CUDAAPI cuLogsCurrent(CUlogIterator* iterator_out, unsigned flags) {
    return entry(__func__, [&] { return driver_log().current(iterator_out, flags); });
}

extern "C" CUresult CUDAAPI cuLogsDumpToFile(CUlogIterator* iterator, const char* pathToFile, unsigned flags) {
    return entry(__func__, [&] { return driver_log().dump_to_file(iterator, pathToFile, flags); });
}

extern "C" CUresult CUDAAPI cuLogsDumpToMemory(CUlogIterator* iterator, char* buffer, size_t* size, unsigned flags) {
    return entry(__func__, [&] { return driver_log().dump_to_memory(iterator, buffer, size, flags); });
}

extern "C" CUresult CUDAAPI cuDeviceRegisterAsyncNotification(CUdevice device, CUasyncCallback callbackFunc, void*,
                                                              CUasyncCallbackHandle* callback) {
    return entry(__func__, [&] {
        require_device(device);
        check_value(callbackFunc && callback, "an argument is NULL");
        *callback = publish(std::make_shared<Notification>(device));
    });
}

extern "C" CUresult CUDAAPI cuDeviceUnregisterAsyncNotification(CUdevice device, CUasyncCallbackHandle callback) {
    return entry(__func__, [&] {
        require_device(device);
        check_value(require<Notification>(callback)->device == device, "the callback is another device's");
        withdraw<Notification>(callback);
    });
}
