// Atomic operations of every kind the runtime's header offers, on global and shared memory, from many blocks.
#include <cuda_fp16.h>

#include "program.h"

constexpr int blocks = 8, threads = 96;

__global__ void integers(int* cells, unsigned* unsigned_cells, unsigned long long* wide) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&cells[0], i);
    atomicSub(&cells[1], i);
    atomicMin(&cells[2], -i);
    atomicMax(&cells[3], i);
    atomicAnd(&cells[4], ~(1 << (i % 31)));
    atomicOr(&cells[5], 1 << (i % 31));
    atomicXor(&cells[6], i);
    atomicInc(&unsigned_cells[0], 99);
    atomicDec(&unsigned_cells[1], 49);
    atomicAdd(&wide[0], 1ull << 40);
    atomicMax(&wide[1], static_cast<unsigned long long>(i) << 33);
    atomicExch(&wide[2], 12345ull);
}

__device__ double multiply_by_swaps(double* cell, double factor) {
    auto* bits = reinterpret_cast<unsigned long long*>(cell);
    unsigned long long seen = *static_cast<volatile unsigned long long*>(bits), expected = 0;  // others swap it now
    do {
        expected = seen;
        const double product = __longlong_as_double(static_cast<long long>(expected)) * factor;
        seen = atomicCAS(bits, expected, static_cast<unsigned long long>(__double_as_longlong(product)));
    } while (seen != expected);
    return __longlong_as_double(static_cast<long long>(seen));
}

__global__ void floats(float* single, double* wide, __half2* halves) {
    atomicAdd(single, 0.25f);
    atomicAdd(&wide[0], 0.5);
    multiply_by_swaps(&wide[1], threadIdx.x % 2 ? 2.0 : 0.5);
    if (threadIdx.x < 4) atomicAdd(halves, __floats2half2_rn(1.0f, -2.0f));
}

// A lock taken by one thread of each block in turn.
__global__ void locked(int* lock, int* value, int* order) {
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {
        }
        __threadfence();
        const int place = *value;
        order[place] = blockIdx.x;
        *value = place + 1;
        __threadfence();
        atomicExch(lock, 0);
    }
}

// The last block to finish sums what all blocks stored.
__global__ void last_block(unsigned* finished, int* partial, int* total) {
    __shared__ int sum;
    __shared__ bool last;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, static_cast<int>(threadIdx.x));
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum + blockIdx.x;
        __threadfence();
        last = atomicAdd(finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        int all = 0;
        for (int i = 0; i < gridDim.x; ++i) all += static_cast<volatile int*>(partial)[i];
        *total = all;
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    int* cells = to_device(std::vector<int>{0, 0, 0, 0, -1, 0, 0});
    auto* small = to_device(std::vector<unsigned>{0, 0});
    auto* wide = to_device(std::vector<unsigned long long>{0, 0, 0});
    integers<<<blocks, threads>>>(cells, small, wide);
    CHECK(cudaGetLastError());
    for (const int value : to_host(cells, 7)) std::printf("%d ", value);
    for (const unsigned value : to_host(small, 2)) std::printf("%u ", value);
    for (const auto value : to_host(wide, 3)) std::printf("%llu ", value);
    std::printf("\n");
    float* single = to_device(std::vector<float>{0});
    double* doubles = to_device(std::vector<double>{0, 1024});
    auto* halves = reinterpret_cast<__half2*>(to_device(std::vector<unsigned>{0}));
    floats<<<blocks, threads>>>(single, doubles, halves);
    CHECK(cudaGetLastError());
    const auto pair = to_host(reinterpret_cast<__half*>(halves), 2);
    std::printf("%g %g %g %g %g\n", to_host(single, 1)[0], to_host(doubles, 2)[0], to_host(doubles, 2)[1],
                __half2float(pair[0]), __half2float(pair[1]));
    int *lock = to_device(std::vector<int>{0}), *value = to_device(std::vector<int>{0}), *order = on_device<int>(blocks);
    locked<<<blocks, threads>>>(lock, value, order);
    CHECK(cudaGetLastError());
    auto seen = to_host(order, blocks);
    int mask = 0;
    for (const int block : seen) mask |= 1 << block;
    std::printf("locked %d %#x\n", to_host(value, 1)[0], mask);
    auto* finished = to_device(std::vector<unsigned>{0});
    int *partial = on_device<int>(blocks), *total = on_device<int>(1);
    last_block<<<blocks, threads>>>(finished, partial, total);
    CHECK(cudaGetLastError());
    std::printf("total %d\n", to_host(total, 1)[0]);
    return 0;
}
