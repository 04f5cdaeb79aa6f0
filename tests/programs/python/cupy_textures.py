"""CuPy's texture and surface objects: arrays, normalised and mixed reads, volumes, bytes, surfaces written to."""

from typing import Any

import cupy
import numpy as np
from cupy.cuda import runtime
from cupy.cuda.texture import ChannelFormatDescriptor, CUDAarray, ResourceDescriptor, SurfaceObject
from cupy.cuda.texture import TextureDescriptor as Description
from cupy.cuda.texture import TextureObject as Texture

SOURCE = r"""
#define HERE                                                                                                  \
    const int x = threadIdx.x + blockIdx.x * blockDim.x, y = threadIdx.y + blockIdx.y * blockDim.y;           \
    if (x >= w || y >= h) return;

extern "C" {
__global__ void copied(float* out, cudaTextureObject_t t, int w, int h) {
    HERE
    out[y * w + x] = tex2D<float>(t, x + 0.5f, y + 0.5f);
}
__global__ void moved(float4* out, cudaTextureObject_t t, int w, int h, float dx, float dy) {
    HERE
    out[y * w + x] = tex2D<float4>(t, (x + 0.5f + dx) / w, (y + 0.5f + dy) / h);
}
__global__ void doubled(cudaSurfaceObject_t s, int w, int h) {
    HERE
    float v;
    surf2Dread(&v, s, x * 4, y);
    surf2Dwrite(v * 2 + 1, s, x * 4, y);
}
__global__ void turned(float* out, cudaTextureObject_t t, int n) {
    const int i = threadIdx.x + blockIdx.x * blockDim.x;
    if (i < n) out[i] = tex1Dfetch<float>(t, n - 1 - i);
}
__global__ void volume(float* out, cudaTextureObject_t t, int n) {
    const int x = threadIdx.x, y = threadIdx.y, z = threadIdx.z;
    out[(z * n + y) * n + x] = tex3D<float>(t, (x + 0.5f) / n, (y + 0.5f) / n, (z + 0.5f) / n);
}
__global__ void bytes(int* out, cudaTextureObject_t t) {
    const uchar4 c = tex2D<uchar4>(t, threadIdx.x, 1);
    out[threadIdx.x] = c.x + 256 * c.w;
}
}
"""
GRID, BLOCK = (12, 8), (8, 8)
MODES = {"clamp": runtime.cudaAddressModeClamp, "wrap": runtime.cudaAddressModeWrap}
FLOAT = runtime.cudaChannelFormatKindFloat


def array(values: np.ndarray, channels: int = 1, kind: int = FLOAT, flags: int = 0) -> CUDAarray:
    """A CUDA array with these values; a row's channels lie side by side."""
    bits = [8 * values.itemsize] * channels + [0] * (4 - channels)
    *outer, width = values.shape
    extents = [width // channels, *outer[::-1]]
    made = CUDAarray(ChannelFormatDescriptor(*bits, kind), *extents, *[0] * (3 - len(extents)), flags)
    made.copy_from(values)
    return made


def of(made: CUDAarray) -> ResourceDescriptor:
    return ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=made)


def described(mode: str, dimensions: int, linear: bool = False, normalized: bool = False) -> Description:
    element = runtime.cudaReadModeElementType
    filtering = runtime.cudaFilterModeLinear if linear else runtime.cudaFilterModePoint
    return Description((MODES[mode],) * dimensions, filtering, element, normalizedCoords=int(normalized))


def main() -> None:
    module = cupy.RawModule(code=SOURCE)
    random = np.random.default_rng(1)
    height, width = 64, 96

    def run(name: str, out: Any, *arguments: Any, grid: Any = GRID, block: Any = BLOCK) -> np.ndarray:
        module.get_function(name)(grid, block, (out, *arguments))
        return cupy.asnumpy(out)

    picture = random.random((height, width), dtype=np.float32)
    texture = Texture(of(array(picture)), described("clamp", 2))
    read = run("copied", cupy.zeros((height, width), cupy.float32), texture, width, height)
    print("copied", (read == picture).all())

    colours = random.random((height, width, 4), dtype=np.float32)
    texture = Texture(of(array(colours.reshape(height, -1), 4)), described("wrap", 2, linear=True, normalized=True))
    out = cupy.zeros((height, width, 4), cupy.float32)
    read = run("moved", out, texture, width, height, np.float32(3), np.float32(-5))
    print("moved", np.allclose(read, np.roll(colours, (5, -3), (0, 1)), atol=0.01))
    read = run("moved", out, texture, width, height, np.float32(0.5), np.float32(0))
    print("mixed", np.allclose(read, (colours + np.roll(colours, -1, 1)) / 2, atol=0.01))

    drawn = array(picture, flags=runtime.cudaArraySurfaceLoadStore)
    surface = SurfaceObject(of(drawn))
    module.get_function("doubled")(GRID, BLOCK, (surface, width, height))
    back = np.zeros_like(picture)
    drawn.copy_to(back)
    print("doubled", np.allclose(back, picture * 2 + 1))

    line = cupy.arange(1000, dtype=cupy.float32)
    form = ChannelFormatDescriptor(32, 0, 0, 0, FLOAT)
    resource = ResourceDescriptor(runtime.cudaResourceTypeLinear, arr=line, chDesc=form, sizeInBytes=line.nbytes)
    read = run(
        "turned", cupy.zeros(1000, cupy.float32), Texture(resource, Description()), 1000, grid=(8,), block=(128,)
    )
    print("turned", (read == cupy.asnumpy(line)[::-1]).all())

    solid = random.random((8, 8, 8), dtype=np.float32)
    texture = Texture(of(array(solid)), described("clamp", 3, linear=True, normalized=True))
    read = run("volume", cupy.zeros((8, 8, 8), cupy.float32), texture, 8, grid=(1,), block=(8, 8, 8))
    print("volume", np.allclose(read, solid, atol=1e-5))

    small = random.integers(0, 256, (2, 16, 4), dtype=np.uint8)
    texture = Texture(of(array(small.reshape(2, 64), 4, runtime.cudaChannelFormatKindUnsigned)), described("clamp", 2))
    read = run("bytes", cupy.zeros(16, cupy.int32), texture, grid=(1,), block=(16,))
    print("bytes", (read == small[1, :, 0] + 256 * small[1, :, 3].astype(int)).all())


main()
