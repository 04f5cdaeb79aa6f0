// The driver's log (cuLogs*): the last messages, for programs that ask why a call failed.
//
// The client's library and the software GPU both keep one. A message is a line `[time][process][CUDA][E] text`.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace gpuferry {

class DriverLog {
  public:
    // Keeps the message and tells it to every callback, in the calling thread.
    void add(CUlogLevel level, const std::string& text);

    CUresult register_callback(CUlogsCallback function, void* data, CUlogsCallbackHandle* handle);
    CUresult unregister_callback(CUlogsCallbackHandle handle);
    CUresult current(CUlogIterator* iterator, unsigned flags);
    CUresult dump_to_file(CUlogIterator* iterator, const char* path, unsigned flags);
    CUresult dump_to_memory(CUlogIterator* iterator, char* buffer, size_t* size, unsigned flags);

  private:
    static constexpr size_t most_messages = 100, most_bytes = 25600;
    struct Callback {
        CUlogsCallback function = nullptr;
        void* data = nullptr;
    };
    // The messages from the iterator on, and whether some of them are no longer there. The caller holds the lock.
    std::deque<std::string> since(const CUlogIterator* iterator, bool& truncated) const;

    std::mutex lock_;
    std::deque<std::string> messages_;
    uint32_t first_ = 0;  // number of messages_.front(); the next message is first_ + messages_.size()
    std::map<uint64_t, Callback> callbacks_;
    uint64_t next_callback_ = 0;
};

// The one log of this process; it outlives every static destructor.
DriverLog& driver_log();

}  // namespace gpuferry
