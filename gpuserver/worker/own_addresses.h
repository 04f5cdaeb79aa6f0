// Where this process's own memory lies.
#pragma once

namespace gpuferry::worker {

// A program's registered memory gets its own address on the server where this process has nothing. Programs have their
// libraries, stacks and large allocations right under the end of the address space (execve(2), `mmap_base` of Linux):
// this process moves its own far below, by starting once more with room for a stack that it never grows.
// `words`: the command line. Returns at once where that is done, or the system does not allow it.
void leave_programs_addresses(char** words);

}  // namespace gpuferry::worker
