// What kernels print, and what the driver says of their faults (assertions): it goes to this process's standard output
// and standard error, which are files in memory.
#pragma once

#include <cstdio>
#include <string>

namespace gpuferry::worker {

class DeviceOutput {
  public:
    // Puts the file in the place of a standard stream. Raises std::runtime_error.
    void capture(int descriptor, FILE* stream);
    // What was printed since the last call; costs one system call when nothing was.
    std::string take();

    // What was there before: -1 until it is captured.
    [[nodiscard]] int original() const { return original_; }

  private:
    int file_ = -1, original_ = -1;
    FILE* stream_ = nullptr;
};

}  // namespace gpuferry::worker
