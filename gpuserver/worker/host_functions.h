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
    // Puts the client's function `id` into the stream. `stays`: the stream is being captured, so that the function may
    // run any number of times.
    CUresult launch(CUstream stream, uint64_t id, bool stays);
    // What a graph's node of the client's function `id` calls; null when the id is in use.
    bool in_graph(uint64_t id, CUDA_HOST_NODE_PARAMS& parameters);
    // The id of a graph's node; 0 when the node calls something else.
    uint64_t id_of(const CUDA_HOST_NODE_PARAMS& parameters);
    // The client has run it.
    void done(uint64_t id);
    [[nodiscard]] bool pending();

  private:
    struct Turn {
        HostFunctions* all = nullptr;
        uint64_t id = 0;
        bool stays = false;
        uint64_t begun = 0, over = 0;  // runs
    };
    Turn* add(uint64_t id, bool stays);
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
