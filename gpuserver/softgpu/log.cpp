#include "log.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace softgpu {
namespace {

LogLevel wanted_level() {
    if (tracing()) return LogLevel::trace;
    const char* value = std::getenv("GPUFERRY_SOFTGPU_LOG");
    if (!value) return LogLevel::warning;
    if (!std::strcmp(value, "quiet")) return LogLevel::error;
    return std::strcmp(value, "debug") ? LogLevel::warning : LogLevel::debug;
}

}  // namespace

bool tracing() {
    static const bool on = [] {
        const char* value = std::getenv("GPUFERRY_SOFTGPU_TRACE");
        return value && *value && std::strcmp(value, "0");
    }();
    return on;
}

void log_line(LogLevel level, std::string_view text) {
    static const LogLevel wanted = wanted_level();
    if (level > wanted) return;
    std::string line = "gpuferry softgpu: ";
    for (char c : text) line += static_cast<unsigned char>(c) < 0x20 && c != '\t' ? '?' : c;
    line += '\n';
    // One write: lines of threads and processes do not mix. Nothing can be done when stderr is closed.
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace softgpu
