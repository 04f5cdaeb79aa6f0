#include "image/compression.h"

#include <lz4.h>
#include <zstd.h>

#include <climits>

namespace softgpu {

std::optional<std::string> decompress(Compression how, std::span<const char> packed, size_t size) {
    std::string text;
    switch (how) {
        case Compression::none:
            if (packed.size() < size) return std::nullopt;
            return std::string(packed.data(), size);
        case Compression::lz4: {
            if (packed.size() > INT_MAX || size > INT_MAX) return std::nullopt;
            text.resize(size);
            int written = LZ4_decompress_safe(packed.data(), text.data(), static_cast<int>(packed.size()),
                                              static_cast<int>(size));
            if (written < 0 || static_cast<size_t>(written) != size) return std::nullopt;
            return text;
        }
        case Compression::zstd: {
            text.resize(size);
            size_t written = ZSTD_decompress(text.data(), size, packed.data(), packed.size());
            if (ZSTD_isError(written) || written != size) return std::nullopt;
            return text;
        }
    }
    return std::nullopt;
}

}  // namespace softgpu
