// nvml.h with every version of a function under its own name, and all of them exported.
#pragma once

#include "nvml_names.h"

namespace softgpu {

// Logs the name of a function that the software GPU does not have, once in the life of the process, at debug level:
// monitoring tools ask every device for everything.
void log_unsupported(const char* function);

}  // namespace softgpu
