// Host functions of the client's streams: the driver's stream stands still while the client runs one.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "driver.h"

namespace gpuferry::worker {

class Session;

class HostFunctions {
  public:
    explicit HostFunctions(Session& session) : session_(session) {}
    // Puts the client's function `id` into the stream.
    CUresult launch(CUstream stream, uint64_t id);
    // The client has run it.
    void done(uint64_t id);
    [[nodiscard]] bool pending();

  private:
    struct Turn {
        HostFunctions* all = nullptr;
        uint64_t id = 0;
        bool over = false;
    };
    static void CUDA_CB take_turn(void* turn);
    void announce_turns();

    Session& session_;
    std::mutex lock_;
    std::condition_variable over_, announce_;
    std::map<uint64_t, std::unique_ptr<Turn>> turns_;
    std::deque<uint64_t> announcements_;
    bool started_ = false;
};

}  // namespace gpuferry::worker
