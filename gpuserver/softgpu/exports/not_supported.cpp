#include <mutex>
#include <set>
#include <string>

#include "api/entry.h"
#include "exports/entry_points.h"
#include "log.h"

namespace softgpu {

CUresult not_supported(const char* symbol, CUresult answer) {
    static std::mutex mutex;
    static auto& named = *new std::set<std::string>;  // never destroyed: programs call until the very end
    std::lock_guard lock(mutex);
    if (named.insert(symbol).second) {
        log_line(LogLevel::warning, std::string(symbol) + " is not supported by the software GPU");
    }
    const CUresult refusal = check_entry(symbol, EntryNeeds::initialised);
    return refusal ? refusal : answer;
}

}  // namespace softgpu
