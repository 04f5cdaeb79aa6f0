// Calls: tables of function pointers, virtual functions, recursion, structs by value, local arrays.
#include "program.h"

using Operation = int (*)(int, int);

__device__ int add(int a, int b) { return a + b; }
__device__ int subtract(int a, int b) { return a - b; }
__device__ int multiply(int a, int b) { return a * b; }
__device__ Operation operations[3] = {add, subtract, multiply};
__device__ Operation chosen = multiply;

class Shape {
  public:
    __device__ virtual float area() const = 0;
    __device__ virtual ~Shape() {}
};
class Square : public Shape {
  public:
    __device__ explicit Square(float side) : side_(side) {}
    __device__ float area() const override { return side_ * side_; }

  private:
    float side_;
};
class Rectangle : public Shape {
  public:
    __device__ Rectangle(float a, float b) : a_(a), b_(b) {}
    __device__ float area() const override { return a_ * b_; }

  private:
    float a_, b_;
};

struct Big {
    long long words[12];
};

__device__ __noinline__ Big rotate(Big value, int by) {
    Big result;
    for (int i = 0; i < 12; ++i) result.words[i] = value.words[(i + by) % 12];
    return result;
}

__device__ __noinline__ unsigned ackermann(unsigned m, unsigned n) {
    if (m == 0) return n + 1;
    return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

__global__ void apply(const int* kinds, int* out, int n, Operation given) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = operations[kinds[i]](i, 3) + given(i, 2);
}

__global__ void areas(float* out) {
    Shape* shape = threadIdx.x % 2 ? static_cast<Shape*>(new Square(threadIdx.x))
                                   : static_cast<Shape*>(new Rectangle(threadIdx.x, 0.5f));
    out[threadIdx.x] = shape->area();
    delete shape;
}

__global__ void recurse(unsigned* out, long long* words) {
    if (threadIdx.x < 3) out[threadIdx.x] = ackermann(threadIdx.x, 3);
    Big value;
    for (int i = 0; i < 12; ++i) value.words[i] = 100 * threadIdx.x + i;
    const Big rotated = rotate(value, threadIdx.x);
    int index[12];
    for (int i = 0; i < 12; ++i) index[i] = (i * 5) % 12;
    long long sum = 0;
    for (int i = 0; i < 12; ++i) sum = sum * 3 + rotated.words[index[i]];
    words[threadIdx.x] = sum;
}

int main(int count, char** arguments) {
    start(count, arguments);
    const auto kinds = load<int>("kinds");
    const int n = static_cast<int>(kinds.size());
    int *in = to_device(kinds), *out = on_device<int>(n);
    Operation given = nullptr;
    CHECK(cudaMemcpyFromSymbol(&given, chosen, sizeof given));
    apply<<<(n + 63) / 64, 64>>>(in, out, n, given);
    CHECK(cudaGetLastError());
    save("applied", to_host(out, n));
    float* area = on_device<float>(32);
    areas<<<1, 32>>>(area);
    CHECK(cudaGetLastError());
    save("areas", to_host(area, 32));
    unsigned* numbers = on_device<unsigned>(3);
    long long* words = on_device<long long>(32);
    CHECK(cudaDeviceSetLimit(cudaLimitStackSize, 8192));
    recurse<<<1, 32>>>(numbers, words);
    CHECK(cudaGetLastError());
    const auto found = to_host(numbers, 3);
    std::printf("ackermann %u %u %u\n", found[0], found[1], found[2]);
    save("words", to_host(words, 32));
    return 0;
}
