"""Texture and surface objects, and the references of old programs: what kernels read and write through them."""

from __future__ import annotations

import itertools

import numpy as np
from cuda.bindings import driver as cu
from driver_case import ok, primary, refused, software_gpu
from texture_case import (
    AS_INTEGER,
    BORDER,
    CLAMP,
    CUBE,
    GATHER,
    LAYERED,
    MIRROR,
    NORMALIZED,
    SURFACE,
    WRAP,
    Kernel,
    contents,
    expected,
    fill,
    make_array,
    of_array,
    settings,
)

READS = {
    1: "tex.1d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x}];",
    2: "tex.2d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y}];",
    3: "tex.3d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y, %z, %z}];",
}


def random_places(count: int, sizes: list[int], normalized: bool, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    places = random.uniform(-1.5, 2.5, (count, len(sizes)))
    if not normalized:
        places *= sizes
    return places.astype(np.float32)


@software_gpu()
def test_arrays_are_read_in_every_mode() -> None:
    """1, 2 and 3 dimensions, every way of finding texels, with and without a filter."""
    primary()
    random = np.random.default_rng(7)
    for extents, channels in (((37,), 1), ((9, 14), 4), ((5, 6, 7), 2)):
        values = random.uniform(-5, 5, (*extents, channels)).astype(np.float32)
        array = make_array(values)
        kernel = Kernel(READS[len(extents)])
        for flags, mode, linear in itertools.product((0, NORMALIZED), (WRAP, CLAMP, MIRROR, BORDER), (False, True)):
            texture = ok(cu.cuTexObjectCreate(of_array(array), settings(flags, mode, linear), None))
            places = random_places(500, list(extents[::-1]), bool(flags), mode)
            read = kernel.run(texture, places).view(np.float32)[:, :channels]
            wanted = expected(values, places, flags, mode, linear)
            if linear:
                assert np.allclose(read, wanted, rtol=1e-5, atol=1e-5), (extents, flags, mode)
            else:
                assert (read == wanted.astype(np.float32)).all(), (extents, flags, mode)
            ok(cu.cuTexObjectDestroy(texture))
        ok(cu.cuArrayDestroy(array))


@software_gpu()
def test_integers_are_read_as_they_are_or_as_fractions() -> None:
    primary()
    kernel = Kernel("tex.1d.v4.u32.s32 {%a, %b, %c, %d}, [%h, {%i}];")
    places = np.arange(8, dtype=np.float32)[:, None]
    for kind, most in (("u1", 255), ("i1", 127), ("u2", 65535), ("i2", 32767), ("u4", 0), ("i4", 0), ("f2", 0)):
        type_ = np.dtype(kind)
        if kind == "f2":
            values = np.array([0, 1, -1.5, 65504, 6e-8, -np.inf, 1e-3, 2], type_)
        else:
            bounds = np.iinfo(type_)
            values = np.array([0, 1, bounds.max, bounds.min, bounds.max // 2, 3, 100, bounds.max - 1], type_)
        array = make_array(values[:, None])
        raw = ok(cu.cuTexObjectCreate(of_array(array), settings(AS_INTEGER), None))
        read = kernel.run(raw, places)[:, 0]
        if kind == "f2":
            assert (read.view(np.float32) == values.astype(np.float32)).all()
        else:
            assert (read == values.astype(np.int64).astype(np.uint32)).all(), kind
        fraction = ok(cu.cuTexObjectCreate(of_array(array), settings(), None))
        read = kernel.run(fraction, places)[:, 0]
        if most:
            wanted = np.maximum(values.astype(np.float32) / np.float32(most), -1)
            assert np.allclose(read.view(np.float32), wanted, rtol=1e-6), kind
        elif kind != "f2":
            assert (read == values.astype(np.int64).astype(np.uint32)).all(), kind


@software_gpu()
def test_linear_and_pitched_memory() -> None:
    primary()
    values = np.arange(100, dtype=np.int32)
    memory = ok(cu.cuMemAlloc(values.nbytes))
    ok(cu.cuMemcpyHtoD(memory, values.ctypes.data, values.nbytes))
    resource = cu.CUDA_RESOURCE_DESC()
    resource.resType = cu.CUresourcetype.CU_RESOURCE_TYPE_LINEAR
    resource.res.linear.devPtr = memory
    resource.res.linear.format = cu.CUarray_format.CU_AD_FORMAT_SIGNED_INT32
    resource.res.linear.numChannels = 2
    resource.res.linear.sizeInBytes = values.nbytes
    texture = ok(cu.cuTexObjectCreate(resource, settings(), None))
    fetch = Kernel("tex.1d.v4.s32.s32 {%a, %b, %c, %d}, [%h, {%i}];")
    read = fetch.run(texture, np.array([[0], [49], [7], [50], [-1]], np.float32))
    assert read[:, :2].tolist() == [[0, 1], [98, 99], [14, 15], [0, 0], [0, 0]]
    resource.res.linear.devPtr = cu.CUdeviceptr(int(memory) + 4)
    refused(cu.cuTexObjectCreate(resource, settings(), None), "INVALID_VALUE")

    picture = np.random.default_rng(3).integers(0, 256, (11, 23, 4), np.uint8)
    pitch = 1 << 19
    plane = ok(cu.cuMemAlloc(11 * pitch))
    copy = cu.CUDA_MEMCPY2D()
    copy.srcMemoryType, copy.srcHost, copy.srcPitch = cu.CUmemorytype.CU_MEMORYTYPE_HOST, picture.ctypes.data, 92
    copy.dstMemoryType, copy.dstDevice, copy.dstPitch = cu.CUmemorytype.CU_MEMORYTYPE_DEVICE, plane, pitch
    copy.WidthInBytes, copy.Height = 92, 11
    ok(cu.cuMemcpy2D(copy))
    resource = cu.CUDA_RESOURCE_DESC()
    resource.resType = cu.CUresourcetype.CU_RESOURCE_TYPE_PITCH2D
    area = resource.res.pitch2D
    area.devPtr, area.format, area.numChannels = plane, cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8, 4
    area.width, area.height, area.pitchInBytes = 23, 11, pitch
    texture = ok(cu.cuTexObjectCreate(resource, settings(linear=True), None))
    places = random_places(300, [23, 11], False, 5)
    read = Kernel(READS[2]).run(texture, places).view(np.float32)
    assert np.allclose(read, expected(picture / np.float32(255), places, 0, CLAMP, True), rtol=1e-5, atol=1e-6)
    # Memory that is freed is not read.
    ok(cu.cuMemFree(plane))
    ended, _ = Kernel(READS[2]).launch(texture, places)
    refused(ended, "ILLEGAL_ADDRESS")


@software_gpu()
def test_layers_faces_levels_and_gathered_texels() -> None:
    primary()
    random = np.random.default_rng(11)
    layers = random.uniform(0, 1, (3, 8, 8, 1)).astype(np.float32)
    texture = ok(cu.cuTexObjectCreate(of_array(make_array(layers, LAYERED, 2)), settings(), None))
    kernel = Kernel("tex.a2d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%i, %y, %z, %z}];")
    read = kernel.run(texture, np.array([[0, 2, 3], [1, 7.5, 0], [2, 0.5, 6], [9, 1, 1]], np.float32))
    wanted = [layers[0, 3, 2], layers[1, 0, 7], layers[2, 6, 0], layers[2, 1, 1]]
    assert read.view(np.float32)[:, 0].tolist() == [float(w[0]) for w in wanted]

    rows = random.uniform(0, 1, (4, 1, 16, 1)).astype(np.float32)
    form = cu.CUDA_ARRAY3D_DESCRIPTOR()
    form.Width, form.Depth, form.NumChannels, form.Flags = 16, 4, 1, LAYERED
    form.Format = cu.CUarray_format.CU_AD_FORMAT_FLOAT
    lines = ok(cu.cuArray3DCreate(form))
    fill(lines, rows)
    texture = ok(cu.cuTexObjectCreate(of_array(lines), settings(), None))
    read = Kernel("tex.a1d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%i, %y}];").run(
        texture, np.array([[3, 5.5], [0, 0]], np.float32)
    )
    assert read.view(np.float32)[:, 0].tolist() == [float(rows[3, 0, 5, 0]), float(rows[0, 0, 0, 0])]

    faces = np.arange(6, dtype=np.float32).repeat(16).reshape(6, 4, 4, 1)
    texture = ok(cu.cuTexObjectCreate(of_array(make_array(faces, CUBE, 2)), settings(NORMALIZED), None))
    axes = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -1, 0.5], [0, 0.1, 1], [0, 0, -3]], np.float32)
    read = Kernel("tex.cube.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y, %z, %z}];").run(texture, axes)
    assert read.view(np.float32)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]

    picture = random.uniform(0, 1, (6, 6, 2)).astype(np.float32)
    texture = ok(cu.cuTexObjectCreate(of_array(make_array(picture, GATHER)), settings(), None))
    read = Kernel("tld4.g.2d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y}];").run(texture, np.array([[3, 2]], np.float32))
    green = picture[:, :, 1]
    assert read.view(np.float32)[0].tolist() == [green[2, 2], green[2, 3], green[1, 3], green[1, 2]]

    form = cu.CUDA_ARRAY3D_DESCRIPTOR()
    form.Width, form.Height, form.NumChannels = 8, 8, 1
    form.Format = cu.CUarray_format.CU_AD_FORMAT_FLOAT
    levels = ok(cu.cuMipmappedArrayCreate(form, 4))
    for number in range(4):
        side = 8 >> number
        fill(ok(cu.cuMipmappedArrayGetLevel(levels, number)), np.full((side, side, 1), 10.0 * number, np.float32))
    resource = cu.CUDA_RESOURCE_DESC()
    resource.resType = cu.CUresourcetype.CU_RESOURCE_TYPE_MIPMAPPED_ARRAY
    resource.res.mipmap.hMipmappedArray = levels
    form = settings(NORMALIZED, linear=True)
    form.mipmapFilterMode = cu.CUfilter_mode.CU_TR_FILTER_MODE_LINEAR
    form.maxMipmapLevelClamp = 2.5
    texture = ok(cu.cuTexObjectCreate(resource, form, None))
    kernel = Kernel("tex.level.2d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y}], %z;")
    places = np.array([[0.5, 0.5, level] for level in (0, 0.25, 1, 1.75, 2.5, 3)], np.float32)
    assert kernel.run(texture, places).view(np.float32)[:, 0].tolist() == [0, 2.5, 10, 17.5, 25, 25]
    kernel = Kernel("tex.grad.2d.v4.f32.f32 {%a, %b, %c, %d}, [%h, {%x, %y}], {%z, %w}, {%w, %z};")
    steps = np.array([[0.5, 0.5, 1 / 8, 0], [0.5, 0.5, 2 / 8, 0], [0.5, 0.5, 4 / 8, 0]], np.float32)
    assert kernel.run(texture, steps).view(np.float32)[:, 0].tolist() == [0, 10, 20]


@software_gpu()
def test_surfaces_are_read_and_written() -> None:
    primary()
    values = np.arange(6 * 10, dtype=np.uint32).reshape(6, 10, 1)
    array = make_array(values, SURFACE)
    surface = ok(cu.cuSurfObjectCreate(of_array(array)))
    places = np.array([[4 * 3, 2, 77], [4 * 9, 5, 88], [40, 0, 99], [-4, 1, 11], [0, 6, 12]], np.float32)
    # x counts bytes.
    read = Kernel("suld.b.2d.b32.zero {%a}, [%h, {%i, %j}];").run(surface, places)
    assert read[:, 0].tolist() == [23, 59, 0, 0, 0]
    read = Kernel("suld.b.2d.b32.clamp {%a}, [%h, {%i, %j}];").run(surface, places)
    assert read[:, 0].tolist() == [23, 59, 9, 10, 50]
    Kernel("sust.b.2d.b32.zero [%h, {%i, %j}], {%k};").run(surface, places)
    wanted = values.copy()
    wanted[2, 3], wanted[5, 9] = 77, 88
    assert (contents(array, values) == wanted).all()
    Kernel("sust.b.2d.v2.b16.clamp [%h, {%i, %j}], {1, 2};").run(surface, places[:1])
    wanted[2, 3] = 1 | 2 << 16
    assert (contents(array, values) == wanted).all()
    solid = np.zeros((3, 4, 5, 1), np.uint8)
    box = make_array(solid, SURFACE)
    surface3 = ok(cu.cuSurfObjectCreate(of_array(box)))
    Kernel("cvt.u16.u32 %s, 200;\nsust.b.3d.b8.trap [%h, {%i, %j, %k, %k}], {%s};").run(
        surface3, np.array([[4, 3, 2], [0, 1, 0]], np.float32)
    )
    solid[2, 3, 4] = solid[0, 1, 0] = 200
    assert (contents(box, solid) == solid).all()
    refused(cu.cuSurfObjectCreate(of_array(make_array(values))), "INVALID_VALUE")
    ended, _ = Kernel("suld.b.2d.b32.trap {%a}, [%h, {%i, %j}];").launch(surface, places)
    refused(ended, "ILLEGAL_ADDRESS")


@software_gpu()
def test_a_texture_is_no_surface() -> None:
    primary()
    linear = ok(cu.cuMemAlloc(4096))
    resource = cu.CUDA_RESOURCE_DESC()
    resource.resType = cu.CUresourcetype.CU_RESOURCE_TYPE_LINEAR
    resource.res.linear.devPtr, resource.res.linear.sizeInBytes = linear, 4096
    resource.res.linear.format, resource.res.linear.numChannels = cu.CUarray_format.CU_AD_FORMAT_FLOAT, 1
    texture = ok(cu.cuTexObjectCreate(resource, settings(), None))
    ended, _ = Kernel("sust.b.1d.b32.clamp [%h, {%i}], {%a};").launch(texture, np.zeros((1, 1), np.float32))
    refused(ended, "ILLEGAL_INSTRUCTION")


@software_gpu()
def test_objects_tell_what_they_were_made_of() -> None:
    primary()
    array = make_array(np.zeros((4, 4, 1), np.float32), SURFACE)
    form = settings(NORMALIZED, BORDER, True)
    form.borderColor = [1.0, 2.0, 3.0, 4.0]
    texture = ok(cu.cuTexObjectCreate(of_array(array), form, None))
    told = ok(cu.cuTexObjectGetResourceDesc(texture))
    assert int(told.res.array.hArray) == int(array)
    assert ok(cu.cuTexObjectGetTextureDesc(texture)).borderColor == [1.0, 2.0, 3.0, 4.0]
    refused(cu.cuTexObjectGetResourceViewDesc(texture), "INVALID_VALUE")
    surface = ok(cu.cuSurfObjectCreate(of_array(array)))
    assert int(ok(cu.cuSurfObjectGetResourceDesc(surface)).res.array.hArray) == int(array)
    read = Kernel(READS[2]).run(texture, np.array([[-1, 0.5], [0.5, 0.5]], np.float32)).view(np.float32)
    assert read.tolist() == [[1, 2, 3, 4], [0, 0, 0, 1]]
    sizes = Kernel(
        "txq.width.b32 %a, [%h];\ntxq.height.b32 %b, [%h];\ntxq.channel_data_type.b32 %c, [%h];\n"
        "txq.normalized_coords.b32 %d, [%h];"
    )
    assert sizes.run(texture, np.zeros((1, 1), np.float32))[0].tolist() == [4, 4, 0x10DE, 1]
    ok(cu.cuSurfObjectDestroy(surface))
    refused(cu.cuSurfObjectDestroy(surface), "INVALID_VALUE")
    ok(cu.cuTexObjectDestroy(texture))
    refused(cu.cuTexObjectGetTextureDesc(texture), "INVALID_VALUE")
    broken = of_array(array)
    broken.flags = 1
    refused(cu.cuTexObjectCreate(broken, form, None), "INVALID_VALUE")
    ended, _ = Kernel(READS[2]).launch(texture, np.zeros((1, 2), np.float32))
    refused(ended, "ILLEGAL_INSTRUCTION")


@software_gpu()
def test_references_are_bound_by_name() -> None:
    primary()
    kernel = Kernel(
        "tex.1d.v4.f32.f32 {%a, %b, %c, %d}, [picture, {%x}];\nsust.b.1d.b32.clamp [drawn, {%j}], {%a};",
        ".global .texref picture;\n.global .surfref drawn;",
    )
    refused(cu.cuModuleGetTexRef(kernel.module, b"nothing"), "NOT_FOUND")
    picture = ok(cu.cuModuleGetTexRef(kernel.module, b"picture"))
    assert int(ok(cu.cuModuleGetTexRef(kernel.module, b"picture"))) == int(picture)
    values = np.array([[1.0], [2.0], [4.0], [8.0]], np.float32)
    array = make_array(values)
    drawn_on = make_array(np.zeros((8, 1), np.uint32), SURFACE)
    ok(cu.cuSurfRefSetArray(ok(cu.cuModuleGetSurfRef(kernel.module, b"drawn")), drawn_on, 0))
    refused(cu.cuTexRefGetArray(picture), "INVALID_VALUE")
    ok(cu.cuTexRefSetArray(picture, array, 1))
    assert int(ok(cu.cuTexRefGetArray(picture))) == int(array)
    places = np.array([[0.0, 0], [2.25, 4]], np.float32)
    assert kernel.run(0, places).view(np.float32)[:, 0].tolist() == [1, 4]
    ok(cu.cuTexRefSetFilterMode(picture, cu.CUfilter_mode.CU_TR_FILTER_MODE_LINEAR))
    ok(cu.cuTexRefSetAddressMode(picture, 0, cu.CUaddress_mode.CU_TR_ADDRESS_MODE_BORDER))
    assert ok(cu.cuTexRefGetFilterMode(picture)) == cu.CUfilter_mode.CU_TR_FILTER_MODE_LINEAR
    assert ok(cu.cuTexRefGetAddressMode(picture, 0)) == cu.CUaddress_mode.CU_TR_ADDRESS_MODE_BORDER
    assert kernel.run(0, places).view(np.float32)[:, 0].tolist() == [0.5, 3.5]
    drawn = contents(drawn_on, np.zeros((8, 1), np.uint32))
    assert drawn.view(np.float32)[:, 0].tolist() == [0.5, 3.5, *[0.0] * 6]

    linear = ok(cu.cuMemAlloc(1024))
    ok(cu.cuMemsetD32(linear, 5, 256))
    ok(cu.cuTexRefSetFormat(picture, cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT32, 1))
    assert ok(cu.cuTexRefGetFormat(picture)) == (cu.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT32, 1)
    assert ok(cu.cuTexRefSetAddress(picture, cu.CUdeviceptr(int(linear) + 16), 512)) == 16
    assert int(ok(cu.cuTexRefGetAddress(picture))) == int(linear)
    assert kernel.run(0, places)[:, 0].tolist() == [5, 5]
    ok(cu.cuTexRefSetFlags(picture, NORMALIZED | AS_INTEGER))
    assert ok(cu.cuTexRefGetFlags(picture)) == NORMALIZED | AS_INTEGER
    refused(cu.cuTexRefSetFlags(picture, 0x1000), "INVALID_VALUE")
    own = ok(cu.cuTexRefCreate())
    ok(cu.cuTexRefSetArray(own, array, 1))
    ok(cu.cuTexRefDestroy(own))
    refused(cu.cuTexRefSetArray(own, array, 1), "INVALID_HANDLE")
    refused(cu.cuTexRefDestroy(picture), "INVALID_VALUE")
