// printf in kernels: conversions, widths, strings, many lines from one thread at a time.
#include "program.h"

__global__ void conversions() {
    printf("int %d %5d|%-5d|%05d %+d\n", -42, 42, 42, 42, 42);
    printf("unsigned %u %x %X %#x %o\n", 42u, 0xbeefu, 0xbeefu, 0xbeefu, 8u);
    printf("long %ld %lld %llu %llx\n", -5000000000l, -5000000000ll, 18446744073709551615ull, 0x123456789abcdefull);
    printf("float %f %.3f %10.2f|%-10.2f|%e %g %G\n", 1.5, 3.14159, 2.5, 2.5, 12345.678, 0.0001, 1e20);
    printf("special %f %f %f\n", INFINITY, -INFINITY, 0.0);
    printf("char %c%c%c percent %% string %s|%10s|%-10s|%.3s\n", 'a', 'b', 'c', "text", "right", "left", "cut short");
    printf("star %*d|%.*f\n", 6, 7, 2, 1.23456);
    printf("no arguments\n");
}

__global__ void ranks(int limit) {
    if (threadIdx.x < limit) printf("block %d thread %d\n", blockIdx.x, threadIdx.x);
}

__global__ void result() {
    const int characters = printf("four\n");
    printf("returned %d\n", characters);
}

int main(int count, char** arguments) {
    start(count, arguments);
    conversions<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    for (int block = 0; block < 1; ++block) {
        ranks<<<2, 32>>>(3);
        CHECK(cudaDeviceSynchronize());
    }
    result<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    std::printf("host after\n");
    return 0;
}
