// GPUFERRY_STATS=1: what the session cost, printed at exit.
#pragma once

#include "protocol_ops.h"

namespace gpuferry {

void count_call(Op op);

}  // namespace gpuferry
