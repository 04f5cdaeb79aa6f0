#include "image/fatbin.h"

#include <cstring>

#include "image/image.h"

namespace softgpu {
namespace {

[[noreturn]] void refuse(const std::string& what) {
    throw ImageError(CUDA_ERROR_INVALID_IMAGE, "fatbin: " + what);
}

Compression compression_of(const FatbinEntryHeader& header) {
    if (header.flags & FatbinEntryHeader::flag_lz4) return Compression::lz4;
    if (header.flags & FatbinEntryHeader::flag_zstd) return Compression::zstd;
    return Compression::none;
}

}  // namespace

std::vector<FatbinEntry> read_fatbin(const ImageBytes& fatbin) {
    auto header = fatbin.read<FatbinHeader>(0);
    if (!header || header->magic != fatbin_magic) refuse("the header is missing or is another");
    if (header->header_size < sizeof(FatbinHeader)) refuse("its header says it is too short");
    if (fatbin.size() != UINT64_MAX && header->payload_size > fatbin.size() - header->header_size) {
        refuse("truncated: " + std::to_string(header->payload_size) + " bytes announced");
    }
    ImageBytes body = fatbin.from(header->header_size).first(header->payload_size);
    std::vector<FatbinEntry> entries;
    uint64_t offset = 0;
    while (offset < header->payload_size) {
        std::string which = "entry " + std::to_string(entries.size());
        // Fields that older toolkits did not have count as zero.
        FatbinEntryHeader entry{};
        constexpr size_t fixed_size = 48;
        if (!body.copy(offset, &entry, fixed_size)) refuse(which + " is truncated");
        if (entry.header_size < fixed_size) refuse(which + " says that its header is too short");
        if (entry.header_size >= sizeof entry && !body.copy(offset, &entry, sizeof entry)) {
            refuse(which + " is truncated");
        }
        uint64_t left = header->payload_size - offset;
        if (entry.header_size > left || entry.payload_size > left - entry.header_size) {
            refuse(which + " is longer than the fatbin");
        }
        entries.push_back({entry, body.from(offset + entry.header_size).first(entry.payload_size)});
        offset += entry.header_size + entry.payload_size;
    }
    return entries;
}

std::string read_ptx_entry(const FatbinEntry& entry) {
    const auto& header = entry.header;
    Compression how = compression_of(header);
    uint64_t packed_size = how == Compression::none ? header.payload_size : header.compressed_size;
    uint64_t size = how == Compression::none ? header.payload_size : header.uncompressed_size;
    if (packed_size > header.payload_size) refuse("an entry's compressed size exceeds the entry");
    if (packed_size > max_image_bytes || size > max_image_bytes) refuse("an entry is larger than this device takes");
    std::string packed(packed_size, '\0');
    if (!entry.payload.copy(0, packed.data(), packed.size())) refuse("an entry's bytes are not all there");
    auto text = decompress(how, packed, size);
    if (!text) refuse("an entry does not decompress");
    text->resize(strnlen(text->data(), text->size()));
    return *text;
}

}  // namespace softgpu
