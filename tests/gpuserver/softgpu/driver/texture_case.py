"""Textures for tests: arrays that hold values, kernels that read at given coordinates, and what CUDA says they read.

The rules are those of the CUDA programming guide, "Texture Fetching", written down a second time in numpy.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok

FORMATS = {
    "u1": cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8,
    "i1": cu.CUarray_format.CU_AD_FORMAT_SIGNED_INT8,
    "u2": cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT16,
    "i2": cu.CUarray_format.CU_AD_FORMAT_SIGNED_INT16,
    "u4": cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT32,
    "i4": cu.CUarray_format.CU_AD_FORMAT_SIGNED_INT32,
    "f2": cu.CUarray_format.CU_AD_FORMAT_HALF,
    "f4": cu.CUarray_format.CU_AD_FORMAT_FLOAT,
}
WRAP, CLAMP, MIRROR, BORDER = range(4)
AS_INTEGER, NORMALIZED = 1, 2
LAYERED, SURFACE, CUBE, GATHER = 1, 2, 4, 8

# Thread i has four floats %x to %w of its own, the whole numbers of the first three in %i to %k, and four words of
# output, %a to %d.
PTX = """
.version 8.0
.target sm_75
.address_size 64
{declarations}
.visible .entry kernel(.param .u64 handle, .param .u64 places, .param .u64 result, .param .u32 count)
{{
    .reg .b64 %h, %p, %r, %o;
    .reg .b32 %n, %t, %u, %v, %i, %j, %k, %a, %b, %c, %d;
    .reg .f32 %x, %y, %z, %w;
    .reg .b16 %s;
    .reg .pred %q;
    ld.param.u64 %h, [handle];
    ld.param.u64 %p, [places];
    ld.param.u64 %r, [result];
    ld.param.u32 %n, [count];
    mov.u32 %t, %ctaid.x;
    mov.u32 %u, %ntid.x;
    mov.u32 %v, %tid.x;
    mad.lo.s32 %t, %t, %u, %v;
    setp.ge.u32 %q, %t, %n;
    @%q bra DONE;
    mul.wide.u32 %o, %t, 16;
    add.s64 %p, %p, %o;
    add.s64 %r, %r, %o;
    ld.global.v4.f32 {{%x, %y, %z, %w}}, [%p];
    cvt.rni.s32.f32 %i, %x;
    cvt.rni.s32.f32 %j, %y;
    cvt.rni.s32.f32 %k, %z;
    mov.b32 %a, 0;
    mov.b32 %b, 0;
    mov.b32 %c, 0;
    mov.b32 %d, 0;
    {instruction}
    st.global.v4.b32 [%r], {{%a, %b, %c, %d}};
DONE:
    ret;
}}
"""


def make_array(values: np.ndarray, flags: int = 0, dimensions: int = 0) -> Any:
    """An array with these values; the last axis is the channels, the others are depth or layers, height, width."""
    *extents, channels = values.shape
    dimensions = dimensions or len(extents)
    form = cu.CUDA_ARRAY3D_DESCRIPTOR()
    form.Width = extents[-1]
    form.Height = extents[-2] if dimensions > 1 else 0
    form.Depth = extents[0] if len(extents) > dimensions or dimensions == 3 else 0
    form.Format, form.NumChannels, form.Flags = FORMATS[values.dtype.str[1:]], channels, flags
    array = ok(cu.cuArray3DCreate(form))
    fill(array, values)
    return array


def _box(values: np.ndarray) -> cu.CUDA_MEMCPY3D:
    *extents, channels = values.shape
    box = cu.CUDA_MEMCPY3D()
    box.WidthInBytes = extents[-1] * channels * values.itemsize
    # One row of each layer of a one-dimensional array.
    box.Height = extents[-2] if len(extents) > 1 else 1
    box.Depth = extents[-3] if len(extents) > 2 else 1
    return box


def fill(array: Any, values: np.ndarray) -> None:
    values = np.ascontiguousarray(values)
    box = _box(values)
    box.srcMemoryType, box.srcHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, values.ctypes.data
    box.srcPitch, box.srcHeight = box.WidthInBytes, box.Height
    box.dstMemoryType, box.dstArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
    ok(cu.cuMemcpy3D(box))


def contents(array: Any, like: np.ndarray) -> np.ndarray:
    values = np.zeros_like(like)
    box = _box(values)
    box.srcMemoryType, box.srcArray = cu.CUmemorytype.CU_MEMORYTYPE_ARRAY, array
    box.dstMemoryType, box.dstHost = cu.CUmemorytype.CU_MEMORYTYPE_HOST, values.ctypes.data
    box.dstPitch, box.dstHeight = box.WidthInBytes, box.Height
    ok(cu.cuMemcpy3D(box))
    return values


def of_array(array: Any) -> cu.CUDA_RESOURCE_DESC:
    resource = cu.CUDA_RESOURCE_DESC()
    resource.resType = cu.CUresourcetype.CU_RESOURCE_TYPE_ARRAY
    resource.res.array.hArray = array
    return resource


def settings(flags: int = 0, mode: int = CLAMP, linear: bool = False) -> cu.CUDA_TEXTURE_DESC:
    texture = cu.CUDA_TEXTURE_DESC()
    texture.addressMode = [cu.CUaddress_mode(mode)] * 3
    texture.filterMode = cu.CUfilter_mode(int(linear))
    texture.flags = flags
    return texture


class Kernel:
    """The kernel around one instruction, which finds its texture or surface in %h."""

    def __init__(self, instruction: str, declarations: str = "") -> None:
        text = PTX.format(instruction=instruction, declarations=declarations)
        self.module = ok(cu.cuModuleLoadData(text.encode()))
        self.function = ok(cu.cuModuleGetFunction(self.module, b"kernel"))

    def launch(self, handle: int, places: np.ndarray) -> tuple[Any, np.ndarray]:
        """The result of the wait behind a launch, and its output."""
        count = len(places)
        given = np.zeros((count, 4), np.float32)
        given[:, : places.shape[1]] = places
        result = np.zeros((count, 4), np.uint32)
        source, target = ok(cu.cuMemAlloc(given.nbytes)), ok(cu.cuMemAlloc(given.nbytes))
        ok(cu.cuMemcpyHtoD(source, given.ctypes.data, given.nbytes))
        kinds = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32)
        arguments = ((int(handle), int(source), int(target), count), kinds)
        ok(cu.cuLaunchKernel(self.function, (count + 63) // 64, 1, 1, 64, 1, 1, 0, 0, arguments, 0))
        ended = cu.cuCtxSynchronize()
        if ended[0] == 0:
            ok(cu.cuMemcpyDtoH(result.ctypes.data, target, result.nbytes))
            ok(cu.cuMemFree(source))
            ok(cu.cuMemFree(target))
        return ended, result

    def run(self, handle: int, places: np.ndarray) -> np.ndarray:
        ended, result = self.launch(handle, places)
        ok(ended)
        return result


def _index(i: np.ndarray, size: int, mode: int, repeats: bool) -> np.ndarray:
    """The texel of an axis at index i; -1 where the border's colour is read."""
    if mode == WRAP and repeats:
        return np.mod(i, size)
    if mode == MIRROR and repeats:
        within = np.mod(i, 2 * size)
        return np.where(within < size, within, 2 * size - 1 - within)
    if mode == BORDER:
        return np.where((i < 0) | (i >= size), -1, i)
    return np.clip(i, 0, size - 1)


def expected(values: np.ndarray, places: np.ndarray, flags: int, mode: int, linear: bool) -> np.ndarray:
    """What a texture with these values (axes: depth, height, width, channel) gives at places (x, y, z)."""
    *extents, channels = values.shape
    sizes = extents[::-1]
    dimensions = len(sizes)
    repeats = bool(flags & NORMALIZED)
    at = places[:, :dimensions].astype(np.float32) * (np.array(sizes, np.float32) if repeats else np.float32(1))
    lower = np.floor(at - np.float32(0.5)) if linear else np.floor(at)
    weights = np.round((at - np.float32(0.5) - lower) * 256) / 256
    total = np.zeros((len(places), channels), np.float64)
    for corner in itertools.product((0, 1) if linear else (0,), repeat=dimensions):
        index, weight = [], np.ones(len(places))
        for d, offset in enumerate(corner):
            index.append(_index(lower[:, d].astype(np.int64) + offset, sizes[d], mode, repeats))
            weight *= (weights[:, d] if offset else 1 - weights[:, d]) if linear else 1
        texels = values[tuple(index[::-1])].astype(np.float64)
        texels[np.any(np.array(index) < 0, axis=0)] = 0
        total += weight[:, None] * texels
    return total
