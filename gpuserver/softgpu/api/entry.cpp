// The guard of the entry points, and cuInit itself.
#include "api/entry.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <string>

#include "device/device.h"
#include "device/stream.h"
#include "driver_log.h"
#include "log.h"

namespace softgpu {
namespace {

enum class Stage { before_init, ready, forked };
std::atomic<Stage> stage{Stage::before_init};

const char* name_of(CUresult result) {
    const char* text = nullptr;
    return cuGetErrorName(result, &text) == CUDA_SUCCESS && text ? text : "an unknown error";
}

void log_failure(const char* name, CUresult result, const char* why) {
    const std::string text = std::string(name) + ": " + name_of(result) + (why && *why ? std::string(": ") + why : "");
    log_line(LogLevel::debug, text);
    gpuferry::driver_log().add(CU_LOG_LEVEL_ERROR, text);
}

}  // namespace

CUresult check_entry(const char* name, EntryNeeds needs) noexcept {
    if (needs == EntryNeeds::nothing) return CUDA_SUCCESS;
    if (stage.load(std::memory_order_acquire) != Stage::ready) return CUDA_ERROR_NOT_INITIALIZED;
    if (needs == EntryNeeds::outside_callback && inside_host_function()) {
        log_failure(name, CUDA_ERROR_NOT_PERMITTED, "called from a host function");
        return CUDA_ERROR_NOT_PERMITTED;
    }
    return CUDA_SUCCESS;
}

CUresult finish_entry(const char* name, CUresult result) noexcept {
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_READY) log_failure(name, result, nullptr);
    return result;
}

CUresult translate_exception(const char* name) noexcept {
    try {
        throw;
    } catch (const DriverError& error) {
        if (error.code != CUDA_ERROR_NOT_READY) log_failure(name, error.code, error.what());
        return error.code;
    } catch (const std::bad_alloc&) {
        log_failure(name, CUDA_ERROR_OUT_OF_MEMORY, "host memory");
        return CUDA_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        log_line(LogLevel::error, std::string(name) + ": " + error.what());
        return CUDA_ERROR_UNKNOWN;
    } catch (...) {
        return CUDA_ERROR_UNKNOWN;
    }
}

}  // namespace softgpu

using namespace softgpu;

extern "C" CUresult CUDAAPI cuInit(unsigned int Flags) {
    return entry(__func__, EntryNeeds::nothing, [&] {
        if (Flags != 0) return CUDA_ERROR_INVALID_VALUE;
        // A child of a process that used CUDA has no threads and no device of its own.
        if (stage.load() == Stage::forked) return CUDA_ERROR_NOT_INITIALIZED;
        static std::mutex& once = *new std::mutex;
        const std::lock_guard lock(once);
        if (stage.load() == Stage::ready) return CUDA_SUCCESS;
        if (visible_devices().empty()) return CUDA_ERROR_NO_DEVICE;
        initialise_devices();
        pthread_atfork(nullptr, nullptr, [] {
            stage.store(Stage::forked);
            for (int i = 0; i < device_count(); ++i) require_device(i).usage().abandon();
        });
        std::atexit([] {
            if (stage.load() == Stage::ready) stop_streams();
        });
        stage.store(Stage::ready, std::memory_order_release);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuDriverGetVersion(int* driverVersion) {
    return entry(__func__, EntryNeeds::nothing, [&] {
        check_value(driverVersion, "driverVersion is NULL");
        *driverVersion = config().driver_version;
    });
}
