// A driver for fuzz entries where libFuzzer is not at hand: mutates the files it is given, with a fixed seed, so that
// each run does the same.
//
// usage: fuzz_… RUNS FILE...     prints how many inputs it tried; a crash or a sanitizer's finding ends it otherwise
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

// Numbers at which length computations break.
constexpr uint64_t edges[] = {0,
                              1,
                              7,
                              8,
                              15,
                              16,
                              47,
                              48,
                              63,
                              64,
                              0x7f,
                              0xff,
                              0x7fff,
                              0xffff,
                              0x7fffffff,
                              0x80000000,
                              0xffffffff,
                              0x7fffffffffffffff,
                              0xffffffffffffffff,
                              0xfffffffffffffff0};

void mutate(Bytes& bytes, std::mt19937_64& random) {
    auto below = [&](size_t limit) { return limit ? static_cast<size_t>(random() % limit) : 0; };
    if (bytes.empty()) bytes.push_back(0);
    // Headers are at the front: half of all changes go there.
    size_t at = below(random() % 2 ? bytes.size() : std::min<size_t>(bytes.size(), 256));
    switch (random() % 6) {
        case 0:
            bytes[at] ^= static_cast<uint8_t>(1 << random() % 8);
            break;
        case 1:
            bytes[at] = static_cast<uint8_t>(random());
            break;
        case 2: {
            uint64_t edge = edges[below(std::size(edges))];
            size_t width = size_t{1} << random() % 4;
            for (size_t i = 0; i < width && at + i < bytes.size(); ++i)
                bytes[at + i] = static_cast<uint8_t>(edge >> 8 * i);
            break;
        }
        case 3:
            bytes.resize(below(bytes.size() + 1));
            break;
        case 4: {
            size_t count = std::min(below(64) + 1, bytes.size() - at);
            bytes.erase(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + count));
            break;
        }
        default: {
            size_t count = std::min(below(64) + 1, bytes.size() - at);
            Bytes copy(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + count));
            bytes.insert(bytes.begin() + static_cast<long>(below(bytes.size())), copy.begin(), copy.end());
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::fprintf(stderr, "usage: %s RUNS FILE...\n", arguments[0]);
        return 2;
    }
    std::vector<Bytes> seeds;
    for (int i = 2; i < count; ++i) {
        std::ifstream stream(arguments[i], std::ios::binary);
        if (!stream) {
            std::fprintf(stderr, "%s: cannot be read\n", arguments[i]);
            return 2;
        }
        seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
        LLVMFuzzerTestOneInput(seeds.back().data(), seeds.back().size());
    }
    std::mt19937_64 random(20261122);
    long runs = std::strtol(arguments[1], nullptr, 10);
    for (long run = 0; run < runs; ++run) {
        Bytes bytes = seeds[random() % seeds.size()];
        for (auto changes = random() % 8 + 1; changes > 0; --changes) mutate(bytes, random);
        // Exactly as long as it is: a sanitizer sees a read of the first byte past the end.
        bytes.shrink_to_fit();
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%ld inputs from %zu seeds\n", runs, seeds.size());
    return 0;
}
