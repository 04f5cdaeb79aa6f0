// Measures one thing and prints it as a line of JSON; benchmarks/forwarding.py runs it natively and forwarded, with raw
// sockets beside it. `probe calls|loops` use the libcuda.so.1 that the process finds; `probe raw` uses none.
#include <arpa/inet.h>
#include <cuda.h>
#include <dlfcn.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

int listen_on(int& port) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    socklen_t size = sizeof address;
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) || listen(listener, 8)) fail("listen");
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    return listener;
}

int dial(int port) {
    const int connection = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address)) fail("connect");
    return connection;
}

void no_delay(int connection) {
    const int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool receive_all(int connection, char* place, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t got = recv(connection, place + done, size - done, 0);
        if (got <= 0) return false;
        done += static_cast<size_t>(got);
    }
    return true;
}

void send_all(int connection, const char* data, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t sent = send(connection, data + done, size - done, MSG_NOSIGNAL);
        if (sent <= 0) fail("send");
        done += static_cast<size_t>(sent);
    }
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

constexpr size_t request = 32, reply = 24;  // bytes of a small call and its answer in gpuferry's protocol
constexpr size_t piece = 4u << 20, bulk = 256u << 20;

// The other end: answers small requests, then swallows a stream, then sends one.
void raw_peer(int connection) {
    std::vector<char> buffer(piece);
    no_delay(connection);
    int round_trips = 0;
    receive_all(connection, reinterpret_cast<char*>(&round_trips), sizeof round_trips);
    for (int i = 0; i < round_trips; ++i) {
        if (!receive_all(connection, buffer.data(), request)) std::exit(1);
        send_all(connection, buffer.data(), reply);
    }
    for (int turn = 0; turn < 3; ++turn) {
        for (size_t done = 0; done < bulk; done += piece) receive_all(connection, buffer.data(), piece);
        send_all(connection, buffer.data(), 1);
        for (size_t done = 0; done < bulk; done += piece) send_all(connection, buffer.data(), piece);
    }
    std::exit(0);
}

void measure_raw(int round_trips) {
    int port = 0;
    const int listener = listen_on(port);
    if (fork() == 0) raw_peer(accept(listener, nullptr, nullptr));
    const int connection = dial(port);
    no_delay(connection);
    send_all(connection, reinterpret_cast<char*>(&round_trips), sizeof round_trips);
    std::vector<char> buffer(piece);
    std::vector<double> times;
    for (int i = 0; i < round_trips; ++i) {
        const auto start = Clock::now();
        send_all(connection, buffer.data(), request);
        receive_all(connection, buffer.data(), reply);
        times.push_back(seconds_since(start));
    }
    std::vector<char> data(bulk, 1);
    std::vector<double> up, down;
    for (int turn = 0; turn < 3; ++turn) {
        auto start = Clock::now();
        for (size_t done = 0; done < bulk; done += piece) send_all(connection, data.data() + done, piece);
        receive_all(connection, buffer.data(), 1);
        up.push_back(bulk / seconds_since(start));
        start = Clock::now();
        for (size_t done = 0; done < bulk; done += piece) receive_all(connection, data.data() + done, piece);
        down.push_back(bulk / seconds_since(start));
    }
    std::printf("{\"round_trip_us\": %.3f, \"up_bytes_per_s\": %.0f, \"down_bytes_per_s\": %.0f}\n",
                median(times) * 1e6, *std::max_element(up.begin(), up.end()),
                *std::max_element(down.begin(), down.end()));
    wait(nullptr);
}

// Delays every byte by the same time in each direction, in order, however many there are.
void pass_on(int from, int to, double delay) {
    struct Parcel {
        Clock::time_point due;
        std::vector<char> bytes;
    };
    std::mutex lock;
    std::condition_variable more;
    std::deque<Parcel> parcels;
    std::thread sender([&] {
        while (true) {
            std::unique_lock held(lock);
            more.wait(held, [&] { return !parcels.empty(); });
            Parcel parcel = std::move(parcels.front());
            parcels.pop_front();
            held.unlock();
            if (parcel.bytes.empty()) {
                shutdown(to, SHUT_WR);
                return;
            }
            std::this_thread::sleep_until(parcel.due);
            for (size_t done = 0; done < parcel.bytes.size();) {
                const ssize_t sent = send(to, parcel.bytes.data() + done, parcel.bytes.size() - done, MSG_NOSIGNAL);
                if (sent <= 0) return;
                done += static_cast<size_t>(sent);
            }
        }
    });
    std::vector<char> buffer(1u << 20);
    while (true) {
        const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
        const auto due =
            Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(delay));
        const std::lock_guard held(lock);
        parcels.push_back({due, std::vector<char>(buffer.data(), buffer.data() + std::max<ssize_t>(got, 0))});
        more.notify_one();
        if (got <= 0) break;
    }
    sender.join();
}

void relay(int target, double round_trip_delay) {
    int port = 0;
    const int listener = listen_on(port);
    std::printf("{\"port\": %d}\n", port);
    std::fflush(stdout);
    while (true) {
        const int near = accept(listener, nullptr, nullptr);
        const int far = dial(target);
        no_delay(near);
        no_delay(far);
        std::thread([=] { pass_on(near, far, round_trip_delay / 2); }).detach();
        std::thread([=] { pass_on(far, near, round_trip_delay / 2); }).detach();
    }
}

// The driver API through the library that the process finds.
struct Cuda {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    template <class Function>
    Function get(const char* name) {
        auto* found = library ? dlsym(library, name) : nullptr;
        if (!found) fail(name);
        return reinterpret_cast<Function>(found);
    }
#define ENTRY(name, symbol) decltype(&::name) name = get<decltype(&::name)>(#symbol)
    ENTRY(cuInit, cuInit);
    ENTRY(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain);
    ENTRY(cuCtxSetCurrent, cuCtxSetCurrent);
    ENTRY(cuMemAlloc, cuMemAlloc_v2);
    ENTRY(cuMemcpyHtoD, cuMemcpyHtoD_v2);
    ENTRY(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2);
    ENTRY(cuMemcpyDtoH, cuMemcpyDtoH_v2);
    ENTRY(cuMemAllocHost, cuMemAllocHost_v2);
    ENTRY(cuModuleLoadData, cuModuleLoadData);
    ENTRY(cuModuleGetFunction, cuModuleGetFunction);
    ENTRY(cuLaunchKernel, cuLaunchKernel);
    ENTRY(cuStreamQuery, cuStreamQuery);
    ENTRY(cuCtxSynchronize, cuCtxSynchronize);
    ENTRY(cuEventCreate, cuEventCreate);
    ENTRY(cuEventRecord, cuEventRecord);
#undef ENTRY
};

void ok(CUresult result, const char* what) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "%s: CUDA error %d\n", what, static_cast<int>(result));
    std::exit(1);
}

constexpr char kernel_text[] =
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .entry work(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n{ ret; }\n";

struct Program {
    Cuda cuda;
    CUfunction function = nullptr;
    CUdeviceptr memory = 0;
    CUevent event = nullptr;
    void* pinned = nullptr;
    double first_launch = 0;

    Program() {
        const auto start = Clock::now();
        ok(cuda.cuInit(0), "cuInit");
        CUcontext context = nullptr;
        ok(cuda.cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
        ok(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent");
        CUmodule module = nullptr;
        ok(cuda.cuModuleLoadData(&module, kernel_text), "cuModuleLoadData");
        ok(cuda.cuModuleGetFunction(&function, module, "work"), "cuModuleGetFunction");
        ok(cuda.cuMemAlloc(&memory, bulk), "cuMemAlloc");
        launch();
        first_launch = seconds_since(start);
        ok(cuda.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
        ok(cuda.cuMemAllocHost(&pinned, 1u << 20), "cuMemAllocHost");
        std::memset(pinned, 1, 1u << 20);
        ok(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
    }
    void launch() {
        unsigned count = 16;
        void* parameters[] = {&memory, &memory, &memory, &count};
        ok(cuda.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr), "cuLaunchKernel");
    }
};

void measure_calls(int round_trips, int launches) {
    Program program;
    Cuda& cuda = program.cuda;
    std::vector<double> times;
    for (int i = 0; i < round_trips; ++i) {
        const auto start = Clock::now();
        ok(cuda.cuStreamQuery(nullptr), "cuStreamQuery");
        times.push_back(seconds_since(start));
    }
    auto start = Clock::now();
    for (int i = 0; i < launches; ++i) program.launch();
    const double posting = seconds_since(start);
    ok(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
    const double done = seconds_since(start);
    // What a launch costs the calling thread alone: short bursts that the link's buffers take without waiting.
    std::vector<double> bursts;
    for (int burst = 0; burst < 200; ++burst) {
        start = Clock::now();
        for (int i = 0; i < 1000; ++i) program.launch();
        bursts.push_back(seconds_since(start) / 1000);
        ok(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
    }
    std::vector<char> host(bulk, 1);
    std::vector<double> up, down;
    for (int turn = 0; turn < 3; ++turn) {
        start = Clock::now();
        ok(cuda.cuMemcpyHtoD(program.memory, host.data(), bulk), "cuMemcpyHtoD");
        ok(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
        up.push_back(bulk / seconds_since(start));
        start = Clock::now();
        ok(cuda.cuMemcpyDtoH(host.data(), program.memory, bulk), "cuMemcpyDtoH");
        down.push_back(bulk / seconds_since(start));
    }
    std::printf(
        "{\"round_trip_us\": %.3f, \"launches_per_s\": %.0f, \"launches_posted_per_s\": %.0f, "
        "\"launch_ns\": %.1f, \"up_bytes_per_s\": %.0f, \"down_bytes_per_s\": %.0f, \"first_launch_ms\": %.2f}\n",
        median(times) * 1e6, launches / done, launches / posting, median(bursts) * 1e9,
        *std::max_element(up.begin(), up.end()), *std::max_element(down.begin(), down.end()),
        program.first_launch * 1e3);
}

template <class Step>
double per_iteration_us(int iterations, Step step) {
    step();
    std::vector<double> times;
    for (int i = 0; i < iterations; ++i) {
        const auto start = Clock::now();
        step();
        times.push_back(seconds_since(start));
    }
    return median(times) * 1e6;
}

void measure_loops(int iterations) {
    Program program;
    Cuda& cuda = program.cuda;
    char result[4096];
    const double launches = per_iteration_us(iterations, [&] {
        for (int i = 0; i < 1000; ++i) program.launch();
        ok(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
    });
    // A picture up, some two hundred kernels, a thousand classes down.
    const double inference = per_iteration_us(iterations, [&] {
        ok(cuda.cuMemcpyHtoDAsync(program.memory, program.pinned, 602112, nullptr), "cuMemcpyHtoDAsync");
        for (int i = 0; i < 200; ++i) program.launch();
        ok(cuda.cuMemcpyDtoH(result, program.memory, 4000), "cuMemcpyDtoH");
    });
    const double training = per_iteration_us(iterations, [&] {
        for (int i = 0; i < 2; ++i) ok(cuda.cuMemcpyHtoDAsync(program.memory, program.pinned, 65536, nullptr), "copy");
        for (int i = 0; i < 100; ++i) program.launch();
        ok(cuda.cuEventRecord(program.event, nullptr), "cuEventRecord");
        ok(cuda.cuMemcpyDtoH(result, program.memory, 4), "cuMemcpyDtoH");
    });
    std::printf("{\"launch_bound_us\": %.1f, \"inference_us\": %.1f, \"training_us\": %.1f}\n", launches, inference,
                training);
}

}  // namespace

int main(int count, char** words) {
    const std::string what = count > 1 ? words[1] : "";
    const int first = count > 2 ? std::atoi(words[2]) : 0, second = count > 3 ? std::atoi(words[3]) : 0;
    if (what == "raw") {
        measure_raw(first);
    } else if (what == "relay") {
        relay(first, second * 1e-6);
    } else if (what == "calls") {
        measure_calls(first, second);
    } else if (what == "loops") {
        measure_loops(first);
    } else {
        std::fprintf(stderr, "usage: probe raw N | relay PORT MICROSECONDS | calls N LAUNCHES | loops N\n");
        return 2;
    }
}
