"""Shared host memory (gpuserver/protocol/changed_bytes.h): words are written whole, and only what has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROTOCOL = Path(__file__).resolve().parents[2] / "gpuserver" / "protocol"

# One thread writes a word's two values in turn, both differing in bytes that do not lie together; a second one owns a
# byte in between; the third must never see half of a value.
PROGRAM = r"""
#include <cstdio>
#include <thread>
#include "changed_bytes.h"

using namespace gpuferry;

template <class T>
int run(T first, T second, int own, int offset) {
    alignas(8) static char memory[24];
    std::memset(memory, 0, sizeof memory);
    T* word = reinterpret_cast<T*>(memory + offset);
    const T mask = static_cast<T>(~(T{0xff} << 8 * own));
    std::atomic<bool> over = false;
    std::atomic<int> halves = 0, lost = 0;
    std::atomic_ref<T>(*word).store(first);
    std::thread reader([&] {
        while (!over) {
            const T seen = std::atomic_ref<T>(*word).load() & mask;
            if (seen != (first & mask) && seen != (second & mask)) ++halves;
        }
    });
    std::thread owner([&] {
        std::atomic_ref<char> byte(memory[offset + own]);
        for (char value = 1; !over; ++value) {
            byte.store(value);
            if (byte.load() != value) ++lost;
        }
    });
    for (int turn = 0; turn < 300000; ++turn) {
        T now = turn % 2 ? first : second, known = turn % 2 ? second : first;
        char from[8 + sizeof(T)] = {}, old[8 + sizeof(T)] = {};
        std::memcpy(from + 3, &now, sizeof now);
        std::memcpy(old + 3, &known, sizeof known);
        from[3 + own] = old[3 + own];
        ChangedBytes changed;
        changed.find(from, old, sizeof from);
        write_changed(memory + offset - 3, from, changed, sizeof from);
    }
    over = true;
    reader.join();
    owner.join();
    std::printf("%zu: %d halves, %d lost, neighbours %d %d\n", sizeof(T), halves.load(), lost.load(),
                memory[offset - 1], memory[offset + sizeof(T)]);
    return 0;
}

int main() {
    run<uint64_t>(0x00ff'00ff'0000'ff00, 0x0100'0100'0000'00ff, 3, 8);
    run<uint32_t>(0x00ff'00ff, 0x0100'0100, 1, 4);
    run<uint32_t>(0x00ff'00ff, 0x0100'0100, 1, 8);
}
"""


def test_words_are_written_whole_and_only_what_has_changed(tmp_path: Path) -> None:
    source, program = tmp_path / "words.cpp", tmp_path / "words"
    source.write_text(PROGRAM)
    subprocess.run(["g++", "-std=c++20", "-O2", "-pthread", f"-I{PROTOCOL}", "-o", program, source], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    expected = "{}: 0 halves, 0 lost, neighbours 0 0"
    assert done.stdout.splitlines() == [expected.format(8), expected.format(4), expected.format(4)]
