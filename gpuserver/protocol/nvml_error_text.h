// The texts of nvmlErrorString, for both libraries that stand in for NVIDIA's: the client's and the software GPU's.
#pragma once

#include "nvml_names.h"

namespace gpuferry {

const char* nvml_error_text(nvmlReturn_t result);

}  // namespace gpuferry
