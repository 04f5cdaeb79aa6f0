#include "objects.h"

namespace gpuferry::worker {

Object* Objects::slot(Handle handle) {
    if (!is_handle(handle) || server_of(handle) != server_) return nullptr;
    if (kind_of(handle) == Kind::none || kind_of(handle) >= Kind::count) return nullptr;
    Slots& slots = named_by_worker(handle) ? worker_named_ : client_named_;
    const uint32_t index = index_of(handle);
    return index < slots.size() ? &slots[index] : nullptr;
}

Object* Objects::find(Kind kind, Handle handle) {
    Object* object = slot(handle);
    if (!object || object->kind != kind || kind_of(handle) != kind || object->generation != generation_of(handle)) {
        return nullptr;
    }
    return object;
}

bool Objects::bind(Handle handle, void* real, CUresult failed, Handle owner) {
    if (!is_handle(handle) || named_by_worker(handle) || index_of(handle) >= most_objects) return false;
    if (server_of(handle) != server_ || kind_of(handle) == Kind::none || kind_of(handle) >= Kind::count) return false;
    const uint32_t index = index_of(handle);
    if (index >= client_named_.size()) client_named_.resize(index + 1);
    Object& object = client_named_[index];
    if (object.kind != Kind::none) return false;
    object.kind = kind_of(handle);
    object.generation = generation_of(handle);
    object.real = real;
    object.failed = failed;
    object.owner = owner;
    object.detail.reset();
    if (real) by_real_[static_cast<int>(object.kind)][real] = handle;
    if (owner) owned_.emplace(owner, handle);
    ++living_;
    return true;
}

Handle Objects::name_of(Kind kind, void* real, Handle owner) {
    if (!real) return 0;
    auto& known = by_real_[static_cast<int>(kind)];
    if (const auto found = known.find(real); found != known.end()) return found->second;
    uint32_t index;
    if (free_.empty()) {
        index = static_cast<uint32_t>(worker_named_.size());
        worker_named_.emplace_back();
    } else {
        index = free_.back();
        free_.pop_back();
    }
    Object& object = worker_named_[index];
    object.kind = kind;
    ++object.generation;
    object.real = real;
    object.failed = CUDA_SUCCESS;
    object.owner = owner;
    const Handle handle = make_handle(kind, object.generation, index | worker_named, server_);
    known.emplace(real, handle);
    if (owner) owned_.emplace(owner, handle);
    ++living_;
    return handle;
}

Handle Objects::known(Kind kind, void* real) const {
    const auto& all = by_real_[static_cast<int>(kind)];
    const auto found = all.find(real);
    return real && found != all.end() ? found->second : 0;
}

void Objects::forget_owned(Handle owner) {
    std::vector<Handle> gone;
    const auto [first, last] = owned_.equal_range(owner);
    for (auto at = first; at != last; ++at) gone.push_back(at->second);
    owned_.erase(first, last);
    for (const Handle handle : gone) {
        Object* object = find(kind_of(handle), handle);
        if (object && object->owner == owner) forget(handle);
    }
}

void Objects::replace(Handle handle, void* real) {
    Object* object = find(kind_of(handle), handle);
    if (!object) return;
    auto& known = by_real_[static_cast<int>(object->kind)];
    known.erase(object->real);
    object->real = real;
    known[real] = handle;
    forget_owned(handle);
}

void Objects::forget(Handle handle) {
    Object* object = find(kind_of(handle), handle);
    if (!object) return;
    if (object->real) {
        auto& known = by_real_[static_cast<int>(object->kind)];
        if (const auto found = known.find(object->real); found != known.end() && found->second == handle) {
            known.erase(found);
        }
    }
    if (object->owner) {
        const auto [first, last] = owned_.equal_range(object->owner);
        for (auto at = first; at != last; ++at) {
            if (at->second == handle) {
                owned_.erase(at);
                break;
            }
        }
    }
    object->kind = Kind::none;
    object->real = nullptr;
    object->owner = 0;
    object->detail.reset();
    --living_;
    if (named_by_worker(handle)) free_.push_back(index_of(handle));
    forget_owned(handle);
}

}  // namespace gpuferry::worker
