// Warp-wide intrinsics in straight and in divergent code; barriers that count and named parts of a block.
#include "program.h"

__global__ void votes(const int* in, unsigned* out) {
    const int i = threadIdx.x;
    const bool positive = in[i] > 0;
    unsigned* mine = out + 12 * i;
    mine[0] = __ballot_sync(0xffffffffu, positive);
    mine[1] = __all_sync(0xffffffffu, in[i] > -1000);
    mine[2] = __any_sync(0xffffffffu, in[i] == 3);
    mine[3] = __match_any_sync(0xffffffffu, in[i] & 3);
    mine[4] = __reduce_add_sync(0xffffffffu, in[i]);
    mine[5] = __reduce_max_sync(0xffffffffu, in[i]);
    mine[6] = __shfl_sync(0xffffffffu, in[i], 5);
    mine[7] = __shfl_up_sync(0xffffffffu, in[i], 3, 16);
    if (positive) {
        const unsigned active = __activemask();
        mine[8] = __popc(active & __ballot_sync(active, true));
        mine[9] = __shfl_sync(active, i, __ffs(active) - 1);
    } else {
        mine[8] = 1000;
        mine[9] = 1000;
    }
    mine[10] = __syncthreads_count(positive);
    mine[11] = __syncthreads_or(in[i] == 7) * 2 + (__syncthreads_and(in[i] < 1000) ? 1 : 0);
}

// Loops whose trip counts differ by lane: the lanes that are done wait for the others.
__global__ void collatz(const int* in, int* steps) {
    int value = abs(in[threadIdx.x]) + 1, count = 0;
    while (value != 1) {
        value = value % 2 ? 3 * value + 1 : value / 2;
        ++count;
    }
    steps[threadIdx.x] = count;
}

__global__ void bits(const unsigned* in, unsigned* out) {
    const unsigned a = in[threadIdx.x], b = in[threadIdx.x ^ 1];
    unsigned* mine = out + 10 * threadIdx.x;
    mine[0] = __popc(a);
    mine[1] = __clz(a);
    mine[2] = __ffs(a);
    mine[3] = __brev(a);
    mine[4] = __byte_perm(a, b, 0x5140);
    mine[5] = __funnelshift_l(a, b, 11);
    mine[6] = __umulhi(a, b);
    mine[7] = __vaddus4(a, b);
    mine[8] = __dp4a(static_cast<int>(a), static_cast<int>(b), 100);
    mine[9] = __usad(a, b, 7);
}

// A producer and a consumer half of the block, meeting at two named barriers.
__global__ void relay(int* out) {
    __shared__ int slot;
    for (int round = 0; round < 5; ++round) {
        if (threadIdx.x < 32) {
            if (threadIdx.x == 0) slot = round * round;
            asm volatile("bar.arrive 1, 64;");
            asm volatile("bar.sync 2, 64;");
        } else {
            asm volatile("bar.sync 1, 64;");
            out[32 * round + threadIdx.x - 32] = slot + threadIdx.x;
            asm volatile("bar.arrive 2, 64;");
        }
    }
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto in = load<int>("in");
    const auto words = load<unsigned>("words");
    const int n = static_cast<int>(in.size());
    unsigned *out = on_device<unsigned>(12 * n), *bit_results = on_device<unsigned>(10 * n);
    int *steps = on_device<int>(n), *relayed = on_device<int>(160);
    votes<<<1, n>>>(to_device(in), out);
    collatz<<<1, n>>>(to_device(in), steps);
    bits<<<1, n>>>(to_device(words), bit_results);
    relay<<<1, 64>>>(relayed);
    CHECK(cudaGetLastError());
    save("votes", to_host(out, 12 * n));
    save("collatz", to_host(steps, n));
    save("bits", to_host(bit_results, 10 * n));
    save("relay", to_host(relayed, 160));
    return 0;
}
