// What the software GPU says to the person who runs a program on it, line by line on stderr.
//
// GPUFERRY_SOFTGPU_LOG chooses the level: `quiet` (errors only), `warning` (default), `debug`.
// GPUFERRY_SOFTGPU_TRACE=1 adds one line a driver call.
#pragma once

#include <string_view>

namespace softgpu {

enum class LogLevel { error, warning, debug, trace };

// Whether driver calls are traced.
bool tracing();

// Writes `gpuferry softgpu: text` in one write, when the level is wanted. Control characters are shown as `?`.
void log_line(LogLevel level, std::string_view text);

}  // namespace softgpu
