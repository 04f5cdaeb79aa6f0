// What every program of the corpus shares: checked calls, arrays read from and written to the folder that the test
// made (its first argument), and nothing that hides CUDA.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define CHECK(call)                                                                                  \
    do {                                                                                             \
        const cudaError_t error_ = (call);                                                           \
        if (error_ != cudaSuccess) {                                                                 \
            std::printf("%s:%d: %s: %s\n", PROGRAM_NAME, __LINE__, #call, cudaGetErrorName(error_)); \
            std::exit(3);                                                                            \
        }                                                                                            \
    } while (0)

// Stops the program where something that must hold does not.
#define REQUIRE(condition)                                                            \
    do {                                                                              \
        if (!(condition)) {                                                           \
            std::printf("%s:%d: not true: %s\n", PROGRAM_NAME, __LINE__, #condition); \
            std::exit(4);                                                             \
        }                                                                             \
    } while (0)

inline const char* folder = nullptr;

inline void start(int count, char** arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
        std::exit(2);
    }
    folder = arguments[1];
}

template <typename T>
std::vector<T> load(const char* name) {
    const std::string path = std::string(folder) + "/" + name;
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) {
        std::printf("cannot read %s\n", path.c_str());
        std::exit(2);
    }
    std::fseek(file, 0, SEEK_END);
    std::vector<T> values(static_cast<size_t>(std::ftell(file)) / sizeof(T));
    std::rewind(file);
    const size_t read = std::fread(values.data(), sizeof(T), values.size(), file);
    std::fclose(file);
    REQUIRE(read == values.size());
    return values;
}

template <typename T>
void save(const char* name, const std::vector<T>& values) {
    const std::string path = std::string(folder) + "/" + name;
    std::FILE* file = std::fopen(path.c_str(), "wb");
    REQUIRE(file != nullptr);
    const size_t written = std::fwrite(values.data(), sizeof(T), values.size(), file);
    REQUIRE(std::fclose(file) == 0 && written == values.size());
}

// Device memory with the contents of a vector, or `count` elements of it.
template <typename T>
T* to_device(const std::vector<T>& values) {
    T* memory = nullptr;
    CHECK(cudaMalloc(&memory, values.size() * sizeof(T)));
    CHECK(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return memory;
}

template <typename T>
T* on_device(size_t count) {
    T* memory = nullptr;
    CHECK(cudaMalloc(&memory, count * sizeof(T)));
    return memory;
}

template <typename T>
std::vector<T> to_host(const T* memory, size_t count) {
    std::vector<T> values(count);
    CHECK(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
}
