// What kernels print: the driver writes it to this process's standard output, which is a file in memory.
#pragma once

#include <string>

namespace gpuferry::worker {

class DeviceOutput {
  public:
    // Puts the file in the place of standard output. Raises std::runtime_error.
    void capture();
    // What was printed since the last call; costs one system call when nothing was.
    std::string take();

  private:
    int file_ = -1;
};

}  // namespace gpuferry::worker
