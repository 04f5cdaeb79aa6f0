// CUDA arrays. What they take counts against the slice as long as they live.
#include "array_size.h"
#include "session.h"

namespace gpuferry::worker {
namespace {

struct ArrayCharge : Detail {
    ArrayCharge(Quota& from, size_t gpu, uint64_t size) : quota(from), device(gpu), bytes(size) {}
    ~ArrayCharge() override { quota.give_back(device, bytes); }
    Quota& quota;
    size_t device;
    uint64_t bytes;
};

// Charges, makes, names; an array that is not made costs nothing.
template <class Array, class Make>
void create(Request& in, Answer& out, Kind kind, uint64_t bytes, Make make) {
    Session& session = in.session;
    const size_t device = session.device_of_current();
    if (!session.quota.take(device, bytes)) {
        out.result = CUDA_ERROR_OUT_OF_MEMORY;
        return;
    }
    auto charge = std::make_unique<ArrayCharge>(session.quota, device, bytes);
    Array made = nullptr;
    out.result = make(&made);
    if (out.result) return;
    const Handle name = session.objects.name_of(kind, made, in.context());
    session.objects.find(kind, name)->detail = std::move(charge);
    Encoder(out.payload).put<uint64_t>(name);
}

}  // namespace

void serve_create_array(Request& in, Answer& out) {
    const auto form = in.value<CUDA_ARRAY3D_DESCRIPTOR>();
    if (!in.good()) return out.refuse(in);
    create<CUarray>(in, out, Kind::array, array_bytes(form, 1),
                    [&](CUarray* made) { return driver.cuArray3DCreate_v2(made, &form); });
}

void serve_create_mipmapped_array(Request& in, Answer& out) {
    const auto form = in.value<CUDA_ARRAY3D_DESCRIPTOR>();
    const auto levels = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    create<CUmipmappedArray>(in, out, Kind::mipmapped_array, array_bytes(form, levels), [&](CUmipmappedArray* made) {
        return driver.cuMipmappedArrayCreate(made, &form, static_cast<unsigned>(levels));
    });
}

void serve_destroy_array(Request& in, Answer& out) {
    const auto array = in.handle<CUarray>(Kind::array);
    if (!in.good() || !array) return out.refuse(in);
    in.session.finish_uploads();
    out.result = driver.cuArrayDestroy(array);
    if (!out.result) in.forget(Kind::array);
}

void serve_destroy_mipmapped_array(Request& in, Answer& out) {
    const auto array = in.handle<CUmipmappedArray>(Kind::mipmapped_array);
    if (!in.good() || !array) return out.refuse(in);
    in.session.finish_uploads();
    out.result = driver.cuMipmappedArrayDestroy(array);
    if (!out.result) in.forget(Kind::mipmapped_array);
}

}  // namespace gpuferry::worker
