// cuLogs*: what this library said and which calls failed, for the program to read; and notifications that never come.
#include <map>
#include <mutex>

#include "client.h"
#include "driver_log.h"
#include "shim_calls.h"

namespace gpuferry::shim {

CUresult cuLogsRegisterCallback(CUlogsCallback callbackFunc, void* userData, CUlogsCallbackHandle* callback_out) {
    return driver_log().register_callback(callbackFunc, userData, callback_out);
}
CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle callback) {
    return driver_log().unregister_callback(callback);
}
CUresult cuLogsCurrent(CUlogIterator* iterator_out, unsigned flags) {
    return driver_log().current(iterator_out, flags);
}
CUresult cuLogsDumpToFile(CUlogIterator* iterator, const char* pathToFile, unsigned flags) {
    return driver_log().dump_to_file(iterator, pathToFile, flags);
}
CUresult cuLogsDumpToMemory(CUlogIterator* iterator, char* buffer, size_t* size, unsigned flags) {
    return driver_log().dump_to_memory(iterator, buffer, size, flags);
}

namespace {

std::mutex lock;
std::map<uint64_t, CUdevice> notifications;
uint64_t last_notification = 0;

}  // namespace

CUresult cuDeviceRegisterAsyncNotification(CUdevice device, CUasyncCallback callbackFunc, void*,
                                           CUasyncCallbackHandle* callback) {
    if (!client().device(device)) return CUDA_ERROR_INVALID_DEVICE;
    if (!callbackFunc || !callback) return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard held(lock);
    notifications[++last_notification] = device;
    *callback = reinterpret_cast<CUasyncCallbackHandle>(last_notification);
    return CUDA_SUCCESS;
}

CUresult cuDeviceUnregisterAsyncNotification(CUdevice device, CUasyncCallbackHandle callback) {
    if (!client().device(device)) return CUDA_ERROR_INVALID_DEVICE;
    const std::lock_guard held(lock);
    const auto found = notifications.find(reinterpret_cast<uint64_t>(callback));
    if (found == notifications.end() || found->second != device) return CUDA_ERROR_INVALID_VALUE;
    notifications.erase(found);
    return CUDA_SUCCESS;
}

}  // namespace gpuferry::shim
