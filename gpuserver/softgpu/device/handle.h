// Handles: what a program holds instead of a pointer.
//
// A handle is a number of the shape of a user-space pointer that carries the object's kind and a serial that is never
// used twice. Looking up a stale, foreign or made-up handle finds nothing; it never touches memory of the program's
// choosing.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "device/error.h"

namespace softgpu {

enum class Kind : uint8_t {
    context = 1,
    module,
    library,
    function,  // CUfunction and CUkernel: one namespace
    link_state,
    stream,
    event,
    graph,
    graph_node,
    graph_exec,
    array,
    mipmapped_array,
    memory_pool,
    memory_handle,  // CUmemGenericAllocationHandle
    user_object,
    registration,  // callbacks
    texture,
    surface,
    texture_reference,
    surface_reference,
};

// Base of everything that has a handle. A class T with a handle names `using Handle = CUxxx;`,
// `static constexpr Kind kind` and `static constexpr CUresult invalid` (the error of a wrong handle).
class Object {
  public:
    Object() = default;
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    virtual ~Object() = default;
    [[nodiscard]] uint64_t handle_value() const { return value_; }

  private:
    friend uint64_t register_object(Kind, const std::shared_ptr<Object>&);
    uint64_t value_ = 0;
};

// The registry. All are safe to call from many threads.
uint64_t register_object(Kind kind, const std::shared_ptr<Object>& object);
std::shared_ptr<Object> find_object(Kind kind, uint64_t value) noexcept;
std::shared_ptr<Object> remove_object(Kind kind, uint64_t value) noexcept;
std::shared_ptr<Object> remove_object(uint64_t value) noexcept;

template <class Handle>
uint64_t to_value(Handle handle) {
    if constexpr (std::is_pointer_v<Handle>) {
        return reinterpret_cast<uint64_t>(handle);
    } else {
        return static_cast<uint64_t>(handle);
    }
}

template <class Handle>
Handle to_handle(uint64_t value) {
    if constexpr (std::is_pointer_v<Handle>) {
        return reinterpret_cast<Handle>(value);
    } else {
        return static_cast<Handle>(value);
    }
}

// The object's handle, e.g. `handle_of(*stream)`.
template <class T>
typename T::Handle handle_of(const T& object) {
    return to_handle<typename T::Handle>(object.handle_value());
}

// Gives the object a handle. The registry holds the object until `withdraw`.
template <class T>
typename T::Handle publish(const std::shared_ptr<T>& object) {
    return to_handle<typename T::Handle>(register_object(T::kind, object));
}

template <class T>
std::shared_ptr<T> find(typename T::Handle handle) noexcept {
    return std::static_pointer_cast<T>(find_object(T::kind, to_value(handle)));
}

// Like `find`, but throws DriverError(T::invalid) when there is no such object.
template <class T>
std::shared_ptr<T> require(typename T::Handle handle) {
    auto object = find<T>(handle);
    if (!object) throw DriverError(T::invalid, "wrong or stale handle");
    return object;
}

// Takes the handle away and returns the object, or nullptr when there was none.
template <class T>
std::shared_ptr<T> withdraw(typename T::Handle handle) noexcept {
    return std::static_pointer_cast<T>(remove_object(T::kind, to_value(handle)));
}

}  // namespace softgpu
