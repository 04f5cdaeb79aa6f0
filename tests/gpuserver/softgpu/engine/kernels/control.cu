// Control flow: divergence, locks, calls, recursion, function pointers, barriers.
#include <cassert>
#include <cstdio>

extern "C" __global__ void spin_lock_exit(int* lock, int* counter) {
    // The classic form: leave the loop with the lock held. Starves without independent thread scheduling.
    while (atomicCAS(lock, 0, 1) != 0) {
    }
    *(volatile int*)counter = *(volatile int*)counter + 1;
    __threadfence();
    atomicExch(lock, 0);
}

extern "C" __global__ void spin_lock_inside(int* lock, int* counter) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            *(volatile int*)counter = *(volatile int*)counter + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

extern "C" __global__ void lanes_wait_for_lanes(int* flags, int* out) {
    // Lane l waits for lane l + 1: only works when every lane makes progress.
    int lane = threadIdx.x;
    volatile int* f = flags;
    if (lane < 31)
        while (f[lane + 1] == 0) {
        }
    out[lane] = lane;
    f[lane] = 1;
}

extern "C" __global__ void warps_wait_for_warps(int* out) {
    __shared__ volatile int stage;
    if (threadIdx.x == 0) stage = 0;
    __syncthreads();
    int warp = threadIdx.x / 32, last = blockDim.x / 32 - 1;
    while (stage != last - warp) {
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        out[last - warp] = warp;
        __threadfence_block();
        stage = stage + 1;
    }
}

extern "C" __global__ void blocks_wait_for_blocks(int* ready, int* out) {
    // As decoupled look-back does: each block waits for the one before it.
    if (threadIdx.x == 0) {
        if (blockIdx.x > 0)
            while (atomicAdd(&ready[blockIdx.x - 1], 0) == 0) {
            }
        out[blockIdx.x] = blockIdx.x == 0 ? 1 : out[blockIdx.x - 1] + 1;
        __threadfence();
        atomicExch(&ready[blockIdx.x], 1);
    }
}

extern "C" __global__ void wait_for_flag(volatile int* flag, int* out) {
    while (*flag == 0) {
    }
    if (threadIdx.x == 0) out[blockIdx.x] = *flag;
}
extern "C" __global__ void set_flag(volatile int* flag, int value) { *flag = value; }

extern "C" __global__ void nested_loops(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int total = 0;
    for (int a = 0; a < in[i] % 13; ++a) {
        if (a == 7) continue;
        for (int b = a; b < 10; ++b) {
            if ((a * b + i) % 11 == 3) break;
            total += b;
            int c = b;
            while (c & 1) {
                total ^= c;
                c >>= 1;
            }
        }
    }
    out[i] = total;
}

extern "C" __global__ void switches(const int* in, int* out, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    int v = in[i], r = 0;
    switch (v) {
        case 0: r = 5; break;
        case 1: r = 17;  // falls through
        case 2: r += 3; break;
        case 3: r = v * v; break;
        case 4: r = -1; break;
        case 5: r = 99; break;
        case 6: r = v << 3; break;
        default: r = 1000 + v;
    }
    out[i] = r;
}

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
extern "C" __global__ void recursion(int* out) { out[threadIdx.x] = fibonacci(threadIdx.x % 16); }

__device__ __noinline__ int endless(volatile int* p, int n) {
    volatile int mine[4];
    mine[n & 3] = p[n & 1];
    return n == -1 ? 0 : endless(mine, n + 1) + mine[n & 1];
}
extern "C" __global__ void stack_overflow(int* out) { out[0] = endless(out, 0); }

struct Large {
    double a;
    int b[5];
    char c[7];
    float4 d;
};
__device__ __noinline__ Large change(Large s, int k) {
    s.a += k;
    s.b[k % 5] *= 2;
    s.c[k % 7] += 1;
    s.d.y -= k;
    return k > 0 ? change(s, k - 1) : s;
}
extern "C" __global__ void structs(Large given, Large* data) {
    Large s = data[threadIdx.x];
    s.b[1] += given.b[1];
    data[threadIdx.x] = change(s, threadIdx.x % 9);
}

typedef float (*Function)(float, int);
__device__ float add_function(float x, int k) { return x + k; }
__device__ float mul_function(float x, int k) { return x * k; }
__device__ __noinline__ float loop_function(float x, int k) {
    for (int i = 0; i < k; ++i) x = x * 0.5f + 1.0f;
    return x;
}
__device__ Function table[3] = {add_function, mul_function, loop_function};
extern "C" __global__ void take_pointer(Function* out) {
    if (threadIdx.x < 3) out[threadIdx.x] = table[threadIdx.x];
}
extern "C" __global__ void call_pointers(float* data, const Function* from_memory) {
    int i = threadIdx.x;
    float x = table[i % 3](data[i], i);
    data[i] = from_memory[(i + 1) % 3](x, 2);
}
extern "C" __global__ void call_nothing(void (*f)()) { f(); }

struct Shape {
    __device__ virtual float area() const = 0;
    __device__ virtual ~Shape() {}
};
struct Square : Shape {
    float a;
    __device__ Square(float s) : a(s) {}
    __device__ float area() const override { return a * a; }
};
struct Rectangle : Square {
    float b;
    __device__ Rectangle(float s, float t) : Square(s), b(t) {}
    __device__ float area() const override { return a * b; }
};
extern "C" __global__ void virtual_calls(float* out) {
    int i = threadIdx.x;
    Shape* s = i % 2 ? (Shape*)new Square(i) : (Shape*)new Rectangle(i, 3);
    out[i] = s->area();
    delete s;
}

extern "C" __global__ void vote_barriers(const int* in, int* out) {
    int i = threadIdx.x;
    out[i] = __syncthreads_count(in[i] > 2);
    out[i + blockDim.x] = __syncthreads_and(in[i] >= 0) * 2 + __syncthreads_or(in[i] == 5);
}

extern "C" __global__ void named_barriers(int* out) {
    // Warp 0 produces for warp 1, twice, through two barriers of 64 threads.
    __shared__ int box[32];
    int lane = threadIdx.x % 32;
    if (threadIdx.x < 32) {
        for (int round = 0; round < 4; ++round) {
            box[lane] = round * 100 + lane;
            asm volatile("bar.sync 1, 64;" ::: "memory");
            asm volatile("bar.sync 2, 64;" ::: "memory");
        }
    } else if (threadIdx.x < 64) {
        for (int round = 0; round < 4; ++round) {
            asm volatile("barrier.sync 1, 64;" ::: "memory");
            out[round * 32 + lane] = box[31 - lane];
            asm volatile("bar.arrive 2, 64;" ::: "memory");
        }
    }
}

extern "C" __global__ void barrier_after_exit(int* out) {
    // Threads that ended do not take part any more.
    if (threadIdx.x >= 70) return;
    __shared__ int sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, 1);
    __syncthreads();
    out[threadIdx.x] = sum;
}

extern "C" __global__ void barrier_in_branches(int* out) {
    __shared__ int s[64];
    int i = threadIdx.x;
    s[i] = i;
    if (i % 2) {
        __syncthreads();
        out[i] = s[63 - i];
    } else {
        __syncthreads();
        out[i] = -s[63 - i];
    }
}

extern "C" __global__ void warp_sync_places(int* out) {
    __shared__ volatile int s[32];
    int i = threadIdx.x;
    s[i] = i;
    if (i < 16) {
        __syncwarp();
        out[i] = s[i + 16];
    } else {
        s[i] = i * 2;
        __syncwarp();
        out[i] = s[i - 16];
    }
}

extern "C" __global__ void print_things(int n) {
    if (threadIdx.x == n)
        printf("%d %5.2f %s %c %x %lld %u %-6d| %e %%\n", -7, 3.14159, "text", 'z', 255, 1234567890123LL, 42u, 9, 0.5);
}
extern "C" __global__ void print_each() { printf("t%d\n", threadIdx.x); }

extern "C" __global__ void check(int n) { assert(n < 3 && "n is small"); }
extern "C" __global__ void trap_here() {
    if (threadIdx.x == 5) asm("trap;");
}
extern "C" __global__ void read_at(const int* p, long i, int* out) { out[0] = p[i]; }
extern "C" __global__ void write_at(char* p, long i) { *(int*)(p + i) = 1; }
extern "C" __global__ void read_shared_at(int i, int* out) {
    extern __shared__ int dynamic[];
    dynamic[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = dynamic[i];
}
extern "C" __global__ void allocate(int** out, int n) {
    int* p = (int*)malloc(n * sizeof(int));
    for (int i = 0; i < n; ++i) p[i] = i * threadIdx.x;
    out[threadIdx.x] = p;
}
extern "C" __global__ void release(int** in, int* sums, int n) {
    int s = 0;
    for (int i = 0; i < n; ++i) s += in[threadIdx.x][i];
    sums[threadIdx.x] = s;
    free(in[threadIdx.x]);
}
extern "C" __global__ void local_arrays(const int* in, int* out) {
    int a[40];
    for (int i = 0; i < 40; ++i) a[i] = in[(threadIdx.x + i) % 64];
    for (int i = 0; i < 40; ++i) {
        int j = a[i] % 40, t = a[i];
        a[i] = a[j];
        a[j] = t;
    }
    int s = 0;
    for (int i = 0; i < 40; ++i) s = s * 31 + a[i];
    out[threadIdx.x] = s;
}
extern "C" __global__ void timers(unsigned long long* out) {
    unsigned long long a, b, t;
    a = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    for (int i = 0; i < 100; ++i) __nanosleep(10);
    b = clock64();
    out[0] = a;
    out[1] = b;
    out[2] = t;
}
extern "C" __global__ void generic_pointers(int* out) {
    __shared__ int s;
    volatile int l = 3;
    if (threadIdx.x == 0) s = 2;
    __syncthreads();
    for (int which = 0; which < 3; ++which) {
        const int* q = which == 0 ? out : which == 1 ? &s : (const int*)&l;
        out[1 + which] = *q + 10 * __isGlobal(q) + 20 * __isShared(q) + 40 * __isLocal(q);
    }
}
__constant__ int coefficients[4] = {2, 3, 5, 7};
__device__ const int* to_constant = coefficients + 2;
__device__ int counter_variable = 41;
extern "C" __global__ void variables(int* out) {
    out[threadIdx.x] = coefficients[threadIdx.x % 4] * 100 + to_constant[0];
    atomicAdd(&counter_variable, 1);
}
