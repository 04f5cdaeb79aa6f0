// NVIDIA's container of code for several architectures: its headers, and a walk over its entries.
//
// The layout is not documented; it is as observed in what nvcc 11 to 13 write (fatBinaryCtl and `cuobjdump --list-*`).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "image/compression.h"
#include "image/image_bytes.h"

namespace softgpu {

constexpr uint32_t wrapper_magic = 0x466243b1;
constexpr uint32_t fatbin_magic = 0xba55ed50;

// What nvcc's start-up code registers: points at a fatbin in the program's memory.
struct FatbinWrapper {
    uint32_t magic, version;  // version 2 (nvcc -rdc=true): `prelinked` is valid
    const void* fatbin;
    const void* const* prelinked;  // NULL-terminated: the fatbins whose code was linked
};

struct FatbinHeader {
    uint32_t magic;
    uint16_t version, header_size;
    uint64_t payload_size;  // bytes after the header
};

struct FatbinEntryHeader {
    enum Kind : uint16_t { kind_ptx = 1, kind_elf = 2 };
    enum Flag : uint64_t {
        flag_64_bit = 1,
        flag_linux = 0x10,
        flag_lz4 = 0x2000,
        flag_zstd = 0x8000,
        // Ours: all such entries of a fatbin belong together (cuLinkComplete's output), none is an alternative.
        flag_linked = uint64_t{1} << 62,
    };
    uint16_t kind, version;
    uint32_t header_size;
    uint64_t payload_size;     // padded to 8
    uint32_t compressed_size;  // 0: not compressed
    uint32_t options_offset;
    uint16_t minor, major;  // of the PTX ISA
    uint32_t target;        // 90 for sm_90
    uint32_t word;
    uint32_t max_registers;  // ours, with flag_linked; reserved otherwise
    uint64_t flags;
    uint64_t reserved2;
    uint64_t uncompressed_size;
};
static_assert(sizeof(FatbinEntryHeader) == 64);

struct FatbinEntry {
    FatbinEntryHeader header;
    ImageBytes payload;
};

// All entries. Throws ImageError: INVALID_IMAGE when headers contradict each other or bytes are missing.
std::vector<FatbinEntry> read_fatbin(const ImageBytes& fatbin);

// The text of a PTX entry, decompressed, up to its NUL. Throws ImageError.
std::string read_ptx_entry(const FatbinEntry& entry);

}  // namespace softgpu
