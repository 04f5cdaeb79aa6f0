#include "shared_memory.h"

#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "session.h"

namespace gpuferry::worker {
namespace {

constexpr timeval patience{5, 0};  // for a peer that does not speak
constexpr size_t most_shared = 512;

struct Address {
    sockaddr_un name{};
    socklen_t size = 0;
};

// An abstract name: it is gone with its process.
Address address_of(uint32_t process) {
    Address address;
    address.name.sun_family = AF_UNIX;
    const int length = std::snprintf(address.name.sun_path + 1, sizeof address.name.sun_path - 1, "gpuferry-worker-%u",
                                     static_cast<unsigned>(process));
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
    return address;
}

bool is_same_user(int peer) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    return getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 && credentials.uid == geteuid();
}

union Control {
    char bytes[CMSG_SPACE(sizeof(int))];
    cmsghdr align;
};

void send_descriptor(int peer, int descriptor) {
    char byte = 1;
    iovec part{&byte, 1};
    Control control{};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    message.msg_control = control.bytes, message.msg_controllen = sizeof control.bytes;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    [[maybe_unused]] const ssize_t sent = sendmsg(peer, &message, MSG_NOSIGNAL);
}

int receive_descriptor(int peer) {
    char byte = 0;
    iovec part{&byte, 1};
    Control control{};
    msghdr message{};
    message.msg_iov = &part, message.msg_iovlen = 1;
    message.msg_control = control.bytes, message.msg_controllen = sizeof control.bytes;
    if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return descriptor;
}

int fetch_descriptor(uint32_t process, const SharingKey& key) {
    const Address address = address_of(process);
    const int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer < 0) return -1;
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int descriptor = -1;
    if (connect(peer, reinterpret_cast<const sockaddr*>(&address.name), address.size) == 0 && is_same_user(peer) &&
        send(peer, key.data(), key.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(key.size())) {
        descriptor = receive_descriptor(peer);
    }
    close(peer);
    return descriptor;
}

CUmemAccessDesc own_right(const Session& session, size_t device) {
    CUmemAccessDesc right{};
    right.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    right.location.id = session.devices[device].device;
    right.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return right;
}

// The same bytes in memory that can be exported, mapped at the same address.
CUresult remake(Session& session, uint64_t address, Mapping& mapping) {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    prop.location = own_right(session, mapping.device).location;
    const CUmemAccessDesc right = own_right(session, mapping.device);
    CUmemGenericAllocationHandle fresh = 0;
    CUresult result = driver.cuMemCreate(&fresh, mapping.size, &prop, 0);
    if (result) return result;
    CUdeviceptr aside = 0;
    result = driver.cuMemAddressReserve(&aside, mapping.size, 0, 0, 0);
    if (!result) result = driver.cuMemMap(aside, mapping.size, 0, fresh, 0);
    if (!result) result = driver.cuMemSetAccess(aside, mapping.size, &right, 1);
    if (!result) result = driver.cuCtxSynchronize();
    if (!result) result = driver.cuMemcpyDtoD_v2(aside, address, mapping.size);
    if (!result) result = driver.cuCtxSynchronize();
    if (aside) {
        driver.cuMemUnmap(aside, mapping.size);
        driver.cuMemAddressFree(aside, mapping.size);
    }
    if (!result) result = driver.cuMemUnmap(address, mapping.size);
    if (result) {
        driver.cuMemRelease(fresh);
        return result;
    }
    driver.cuMemRelease(mapping.memory);
    mapping.memory = fresh;
    result = driver.cuMemMap(address, mapping.size, 0, fresh, 0);
    if (!result) result = driver.cuMemSetAccess(address, mapping.size, &right, 1);
    if (!result && !mapping.of_pool) result = session.peers.grant(session, address, mapping.size, mapping.device);
    return result;
}

}  // namespace

bool SharedMemory::listen() {
    if (listening_) return true;
    const Address address = address_of(static_cast<uint32_t>(getpid()));
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) return false;
    if (bind(listener, reinterpret_cast<const sockaddr*>(&address.name), address.size) || ::listen(listener, 16)) {
        close(listener);
        return false;
    }
    std::thread([this, listener] { answer_peers(listener); }).detach();
    listening_ = true;
    return true;
}

void SharedMemory::answer_peers(int listener) {
    pthread_setname_np(pthread_self(), "shared-memory");
    while (true) {
        const int peer = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (peer < 0) continue;
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (is_same_user(peer)) answer_peer(peer);
        close(peer);
    }
}

void SharedMemory::answer_peer(int peer) {
    SharingKey key{};
    if (recv(peer, key.data(), key.size(), MSG_WAITALL) != static_cast<ssize_t>(key.size())) return;
    const std::lock_guard held(lock_);
    const auto found = descriptors_.find(key);
    if (found != descriptors_.end()) send_descriptor(peer, found->second);
}

CUresult SharedMemory::share(Session& session, uint64_t address, SharingKey& key) {
    const std::lock_guard held(lock_);
    const auto found = session.mappings.find(address);
    if (found == session.mappings.end() || found->second.held) return CUDA_ERROR_INVALID_VALUE;
    Mapping& mapping = found->second;
    if (const auto known = shared_.find(address); known != shared_.end() && known->second.first == mapping.memory) {
        key = known->second.second;
        return CUDA_SUCCESS;
    }
    if (const CUresult failure = remake(session, address, mapping)) return failure;
    if (const CUresult failure = publish(mapping.memory, key)) return failure;
    if (const auto before = shared_.find(address); before != shared_.end()) {
        if (const auto old = descriptors_.find(before->second.second); old != descriptors_.end()) {
            close(old->second);
            descriptors_.erase(old);
        }
    }
    shared_[address] = {mapping.memory, key};
    return CUDA_SUCCESS;
}

// The caller holds the lock.
CUresult SharedMemory::publish(CUmemGenericAllocationHandle memory, SharingKey& key) {
    if (!listen()) return CUDA_ERROR_OPERATING_SYSTEM;
    int descriptor = -1;
    const CUresult failure =
        driver.cuMemExportToShareableHandle(&descriptor, memory, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (failure) return failure;
    if (getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
        close(descriptor);
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
    descriptors_[key] = descriptor;
    return CUDA_SUCCESS;
}

CUresult SharedMemory::share(CUmemGenericAllocationHandle memory, SharingKey& key) {
    const std::lock_guard held(lock_);
    if (descriptors_.size() >= most_shared) return CUDA_ERROR_OUT_OF_MEMORY;
    return publish(memory, key);
}

CUresult SharedMemory::import(uint32_t process, const SharingKey& key, CUmemGenericAllocationHandle& memory) {
    const int descriptor = fetch_descriptor(process, key);
    if (descriptor < 0) return CUDA_ERROR_INVALID_VALUE;  // the memory, or its process, is gone
    const CUresult result = driver.cuMemImportFromShareableHandle(
        &memory, reinterpret_cast<void*>(static_cast<intptr_t>(descriptor)), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    close(descriptor);
    return result;
}

CUresult SharedMemory::open(Session& session, uint32_t process, const SharingKey& key, uint64_t address, uint64_t size,
                            size_t device) {
    CUmemGenericAllocationHandle memory = 0;
    CUresult result = import(process, key, memory);
    if (result) return result;
    result = driver.cuMemMap(address, size, 0, memory, 0);
    if (result == CUDA_ERROR_INVALID_VALUE) {
        session.reaper.drain();  // the address is about to be free
        result = driver.cuMemMap(address, size, 0, memory, 0);
    }
    const CUmemAccessDesc right = own_right(session, device);
    if (!result) {
        result = driver.cuMemSetAccess(address, size, &right, 1);
        if (result) driver.cuMemUnmap(address, size);
    }
    if (result) {
        driver.cuMemRelease(memory);
        return result;
    }
    session.mappings.emplace(address, Mapping{size, device, memory, false, std::make_shared<int>()});
    return CUDA_SUCCESS;
}

void serve_share_memory(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    if (!in.good()) return out.refuse(in);
    SharingKey key{};
    out.result = in.session.shared_memory.share(in.session, address, key);
    if (out.result) return;
    Encoder answer(out.payload);
    answer.put<uint64_t>(static_cast<uint64_t>(getpid()));
    answer.put(key);
}

void serve_open_shared_memory(Request& in, Answer& out) {
    const auto process = in.value<uint64_t>();
    const auto key = in.value<SharingKey>();
    const auto address = in.value<uint64_t>();
    const auto size = in.value<uint64_t>();
    const auto device = in.value<uint64_t>();
    Session& session = in.session;
    if (!in.good() || device >= session.devices.size() || !session.is_free(address, size)) return out.refuse(in);
    out.result =
        SharedMemory::open(session, static_cast<uint32_t>(process), key, address, size, static_cast<size_t>(device));
}

void serve_close_shared_memory(Request& in, Answer& out) {
    const auto address = in.value<uint64_t>();
    Session& session = in.session;
    const auto found = session.mappings.find(address);
    if (!in.good() || found == session.mappings.end() || !found->second.held || !found->second.memory) {
        return out.refuse(in);
    }
    const Mapping mapping = found->second;
    session.mappings.erase(found);
    session.reaper.give_back(session.devices[mapping.device].primary, address, mapping, [] {});
}

}  // namespace gpuferry::worker
