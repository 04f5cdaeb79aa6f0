// What the client's handles stand for. Only the dispatcher thread uses the table.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "driver.h"
#include "handle.h"

namespace gpuferry::worker {

// Something that belongs to an object of one kind, e.g. a module's image.
struct Detail {
    virtual ~Detail() = default;
};

struct Object {
    Kind kind = Kind::none;  // none: the slot is free
    uint16_t generation = 0;
    CUresult failed = CUDA_SUCCESS;  // why the posted creation failed; later uses report it
    void* real = nullptr;
    Handle owner = 0;  // the object that this one dies with, 0 for none
    std::unique_ptr<Detail> detail;
};

class Objects {
  public:
    // The living object of this handle; null for a handle that is stale, of another kind, or made up.
    Object* find(Kind kind, Handle handle);
    // Gives the handle that the client chose its object. False when the handle is no fresh one of the client's.
    bool bind(Handle handle, void* real, CUresult failed, Handle owner);
    // The handle of a real object, new if it had none; 0 for null.
    Handle name_of(Kind kind, void* real, Handle owner);
    // The handle of a real object, 0 when it has none.
    [[nodiscard]] Handle known(Kind kind, void* real) const;
    // All living objects of a kind, by what they stand for.
    [[nodiscard]] const std::unordered_map<void*, Handle>& all(Kind kind) const {
        return by_real_[static_cast<int>(kind)];
    }
    // The object stays, with another real one behind it; what it owned is gone.
    void replace(Handle handle, void* real);
    // The object is gone, and what it owned with it.
    void forget(Handle handle);
    [[nodiscard]] size_t living() const { return living_; }
    // The session's number in its client's program, which all handles carry: said once, before the first of them.
    void set_server(unsigned number) { server_ = number; }

  private:
    using Slots = std::vector<Object>;
    Object* slot(Handle handle);
    void forget_owned(Handle owner);

    Slots client_named_, worker_named_;
    std::vector<uint32_t> free_;  // indices of worker_named_
    std::unordered_map<void*, Handle> by_real_[static_cast<int>(Kind::count)];
    std::unordered_multimap<Handle, Handle> owned_;
    size_t living_ = 0;
    unsigned server_ = 0;
};

}  // namespace gpuferry::worker
