"""The private tables that the CUDA runtime and NVIDIA's libraries ask the driver for."""

from __future__ import annotations

import ctypes
import hmac
import itertools
import os
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from software_gpu import Driver, run_python

from gpuserver.native import find_native

CUDART_INTERFACE = "6bd5fb6c5bf4e74a8987d93912fd9df9"
CALLBACK_HOOKS = "a094798c2e742e7493f20800200c0a66"
TOOLS_TLS = "42d85a8123f6cb478298f6e78a3aecdc"
LOCAL_STORAGE = "c693336e1121df11a8c368f355d89593"
CONTEXT_CHECKS = "263e88607cd2614392f6bbd5006dfa7e"
INTEGRITY_CHECK = "d4082055bde6704b8d34ba123c66e1f2"
OBJECT_IDS = "21318c60971432488ca641ff7324c8f2"
MODULE_ITERATOR = "6e163fbeb958444d835ce182aff1991e"
TOOLS_EXTENSION = "7cb63f9b9ca48e42a484beb66e6aed7f"
WORDS = {
    CUDART_INTERFACE: 13,
    CALLBACK_HOOKS: 7,
    TOOLS_TLS: 4,
    CONTEXT_CHECKS: 17,
    INTEGRITY_CHECK: 3,
    OBJECT_IDS: 96,
    MODULE_ITERATOR: 105,
    TOOLS_EXTENSION: 1,  # none of its slots: CUPTI looks at the size
}
INVALID_HANDLE = 400


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver()


def table(driver: Driver, identity: str) -> ctypes.c_void_p:
    address = ctypes.c_void_p()
    driver.check("cuGetExportTable", ctypes.byref(address), bytes.fromhex(identity))
    return address


def slot(driver: Driver, identity: str, index: int, *parameters: type) -> Callable[..., int]:
    words = ctypes.cast(table(driver, identity), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.CFUNCTYPE(ctypes.c_int, *parameters)(words[index])


def test_every_table_begins_with_its_size(driver: Driver) -> None:
    for identity, words in WORDS.items():
        assert ctypes.cast(table(driver, identity), ctypes.POINTER(ctypes.c_uint64))[0] == words * 8
    storage = ctypes.cast(table(driver, LOCAL_STORAGE), ctypes.POINTER(ctypes.c_uint64))
    assert storage[0] > 0x1000
    assert storage[3] == 0


def test_an_unknown_table_is_refused(driver: Driver) -> None:
    address = ctypes.c_void_p(1)
    assert driver.call("cuGetExportTable", ctypes.byref(address), bytes(16)) == 1
    assert address.value is None
    assert driver.call("cuGetExportTable", None, bytes(16)) == 1


def test_an_unknown_slot_says_which_it_is() -> None:
    code = f"""
import ctypes
cuda = ctypes.CDLL({str(find_native("gpuserver/softgpu/lib/libcuda.so.1"))!r})
address = ctypes.c_void_p()
print(cuda.cuGetExportTable(ctypes.byref(address), bytes.fromhex({OBJECT_IDS!r})))
words = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))
print({{ctypes.CFUNCTYPE(ctypes.c_int)(words[i])() for i in (1, 77, 77, 95)}})
"""
    done = run_python(code)
    assert done.stdout.split() == ["0", "{801}"]
    assert [line.split(" function ")[1] for line in done.stderr.splitlines()] == [
        "OBJECT_IDS[1] is not known",
        "OBJECT_IDS[77] is not known",
        "OBJECT_IDS[95] is not known",
    ]


def test_the_primary_context_is_handed_out_without_retaining_it(driver: Driver) -> None:
    context = ctypes.c_void_p()
    assert slot(driver, CUDART_INTERFACE, 2, ctypes.c_void_p, ctypes.c_int)(ctypes.addressof(context), 0) == 0
    assert context.value == driver.context.value
    assert slot(driver, CUDART_INTERFACE, 12)() == 0


def test_the_current_context_is_that_of_the_thread(driver: Driver) -> None:
    current = slot(driver, TOOLS_TLS, 2, ctypes.c_void_p)
    seen = []

    def look() -> None:
        context = ctypes.c_void_p(1)
        assert current(ctypes.addressof(context)) == 0
        seen.append(context.value)

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [driver.context.value, None]


class Storage:
    """The three functions of the context-local storage."""

    destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)

    def __init__(self, driver: Driver) -> None:
        pointer = ctypes.c_void_p
        self.put = slot(driver, LOCAL_STORAGE, 0, pointer, pointer, pointer, pointer)
        self.delete = slot(driver, LOCAL_STORAGE, 1, pointer, pointer)
        self.fetch = slot(driver, LOCAL_STORAGE, 2, pointer, pointer, pointer)

    def get(self, context: int | None, key: int) -> tuple[int, int | None]:
        value = ctypes.c_void_p()
        return self.fetch(ctypes.addressof(value), context, key), value.value


def test_values_live_in_a_context_under_a_key(driver: Driver) -> None:
    storage, context = Storage(driver), driver.context.value
    assert storage.get(context, 1) == (INVALID_HANDLE, None)
    assert storage.put(context, 1, 0x1111, None) == 0
    assert storage.put(None, 2, 0x2222, None) == 0
    # NULL and -1 both mean the current context.
    assert storage.get(None, 1) == storage.get(2**64 - 1, 1) == storage.get(context, 1) == (0, 0x1111)
    assert storage.get(context, 2) == (0, 0x2222)
    assert storage.delete(context, 1) == 0
    assert storage.delete(context, 1) == INVALID_HANDLE
    assert storage.get(context, 1) == (INVALID_HANDLE, None)
    assert storage.delete(context, 2) == 0


def test_values_are_destroyed_with_their_context(driver: Driver) -> None:
    storage = Storage(driver)
    context, other = ctypes.c_void_p(), ctypes.c_void_p()
    driver.check("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
    gone = []
    destructor = Storage.destructor(lambda *arguments: gone.append(arguments))
    address = ctypes.cast(destructor, ctypes.c_void_p).value
    assert storage.put(context.value, 5, 0x5555, address) == 0
    assert storage.put(context.value, 6, 0x6666, address) == 0
    driver.check("cuCtxDestroy_v2", context)
    driver.check("cuCtxSetCurrent", driver.context)
    assert sorted(gone, key=lambda entry: entry[1]) == [(context.value, 5, 0x5555), (context.value, 6, 0x6666)]
    assert storage.get(context.value, 5) == (INVALID_HANDLE, None)
    assert storage.put(other.value or 12345, 5, 1, None) in (201, 709)


def test_contexts_and_streams_have_numbers_of_their_own(driver: Driver) -> None:
    context_id = slot(driver, OBJECT_IDS, 4, ctypes.c_void_p, ctypes.c_void_p)
    stream_id = slot(driver, OBJECT_IDS, 39, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    resolve = slot(driver, OBJECT_IDS, 51, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    number = ctypes.c_uint32()
    assert context_id(driver.context, ctypes.addressof(number)) == 0
    assert number.value > 0
    streams: list[int | None] = [None]
    for _ in range(2):
        stream = ctypes.c_void_p()
        driver.check("cuStreamCreate", ctypes.byref(stream), 0)
        streams.append(stream.value)
    numbers = []
    for handle in streams:
        resolved, value = ctypes.c_void_p(), ctypes.c_uint64()
        assert resolve(driver.context, handle, ctypes.addressof(resolved)) == 0
        assert resolved.value
        assert stream_id(driver.context, resolved, ctypes.addressof(value)) == 0
        numbers.append(value.value)
    assert len(set(numbers)) == 3
    assert resolve(driver.context, 2**64 - 1, ctypes.addressof(ctypes.c_void_p())) == INVALID_HANDLE
    for handle in streams[1:]:
        driver.check("cuStreamDestroy_v2", ctypes.c_void_p(handle))


# --- the integrity check, against an implementation of its parts from their specifications


def digits_of_pi() -> Iterator[int]:
    """3, 1, 4, 1, 5, … (Gibbons' spigot)."""
    q, r, t, k, n, m = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), (10 * (3 * q + r)) // t - 10 * n
        else:
            q, r, t, k, n, m = q * k, (2 * q + r) * m, t * m, k + 1, (q * (7 * k + 2) + r * m) // (t * m), m + 2


def permutation() -> list[int]:
    """RFC 1319's table: 0..255 shuffled by the digits of pi."""
    digits = digits_of_pi()

    def below(limit: int) -> int:
        while True:
            value, span = next(digits), 10
            for step in (10, 100):
                if limit > step:
                    value, span = value * 10 + next(digits), step * 10
            if value < limit * (span // limit):
                return value % limit

    table = list(range(256))
    for i in range(2, 257):
        j = below(i)
        table[j], table[i - 1] = table[i - 1], table[j]
    return table


PERMUTATION = permutation()


def md2(message: bytes) -> bytes:
    padding = 16 - len(message) % 16
    message += bytes([padding]) * padding
    checksum, last = bytearray(16), 0
    for start, i in itertools.product(range(0, len(message), 16), range(16)):
        checksum[i] ^= PERMUTATION[message[start + i] ^ last]
        last = checksum[i]
    state = bytearray(48)
    for start in range(0, len(message) + 16, 16):
        block = (message + checksum)[start : start + 16]
        state[16:32] = block
        state[32:48] = bytes(a ^ b for a, b in zip(block, state[:16], strict=True))
        previous = 0
        for round_number in range(18):
            for i in range(48):
                state[i] ^= PERMUTATION[previous]
                previous = state[i]
            previous = (previous + round_number) % 256
    return bytes(state[:16])


class Md2:
    """What the hmac module wants of a hash."""

    digest_size, block_size, name = 16, 16, "md2"

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def update(self, data: bytes) -> None:
        self.data += data

    def digest(self) -> bytes:
        return md2(self.data)

    def copy(self) -> Md2:
        return Md2(self.data)


def test_the_reference_is_md2() -> None:
    """RFC 1319, appendix A.5."""
    assert md2(b"").hex() == "8350e5a3e24c153df2275c9f80692773"
    assert md2(b"abc").hex() == "da853b0d3f88d99b30283a69e6ded6bb"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    assert md2(alphabet).hex() == "da33def2a42df13975352846c30338cd"


@pytest.mark.parametrize("version", [12082, 13002, 13055, 13009])
def test_the_integrity_check_is_an_hmac_over_what_the_driver_says(driver: Driver, version: int) -> None:
    words = ctypes.cast(table(driver, INTEGRITY_CHECK), ctypes.POINTER(ctypes.c_uint64))
    prove = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p)(words[1])
    answer = (ctypes.c_ubyte * 16)()
    seconds = 1_700_000_000
    assert prove(version, seconds, ctypes.addressof(answer)) == 0
    driver_version, count = ctypes.c_int(), ctypes.c_int()
    driver.check("cuDriverGetVersion", ctypes.byref(driver_version))
    driver.check("cuDeviceGetCount", ctypes.byref(count))
    message = struct.pack(
        "<IIIIQQQQ",
        driver_version.value,
        version,
        os.getpid(),
        threading.get_ident() & 0xFFFFFFFF,
        table(driver, CUDART_INTERFACE).value,
        table(driver, INTEGRITY_CHECK).value,
        words[1],
        seconds,
    )
    for ordinal in range(count.value):
        uuid = (ctypes.c_ubyte * 16)()
        driver.check("cuDeviceGetUuid", uuid, ordinal)
        message += bytes(uuid)
        for attribute in (50, 33, 34):
            value = ctypes.c_int()
            driver.check("cuDeviceGetAttribute", ctypes.byref(value), attribute, ordinal)
            message += struct.pack("<i", value.value)
    key = bytes.fromhex("146ADDAE53A9A752AA0841360BF55A9F")
    assert bytes(answer) == hmac.new(key, message, Md2).digest()  # type: ignore[arg-type]


def test_two_versions_have_fixed_answers(driver: Driver) -> None:
    prove = slot(driver, INTEGRITY_CHECK, 1, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p)
    answer = (ctypes.c_uint64 * 2)()
    assert prove(13050, 1, ctypes.addressof(answer)) == 0
    assert list(answer) == [0x3341181C03CB675C, 0x8ED383AA1F4CD1E8]
    assert prove(13051, 1, ctypes.addressof(answer)) == 0
    assert list(answer) == [0x1841181C03CB675C, 0x8ED383AA1F4CD1E8]
