// What the client knows of whole graphs.
#pragma once

#include "handles.h"

namespace gpuferry {

// The graph allocates memory when it runs: whether it may run now, its server says.
void note_allocation_in(Handle graph);
// What is made of a graph, a copy or a runnable one, allocates as it does.
void hand_on_allocations(Handle from, Handle to);

}  // namespace gpuferry
