// Small files under /dev/shm by which the processes of one user count together. A process holds a lock on a part of the
// file as long as it uses it; the kernel lets the lock go when the process ends, however it ends. So a file in which
// nobody holds a lock is of no use to anybody, and the next process that opens one of its kind removes it.
//
// The locks are those of the open file (F_OFD_*): another library of this process that opens and closes the same file
// does not lose them, and a forked child keeps what its parent held.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace gpuferry {

inline constexpr const char* shared_memory_folder = "/dev/shm";
inline constexpr long long to_the_end = 0;  // as a size of what is locked

// Locks bytes of the file (F_RDLCK, F_WRLCK) or lets them go (F_UNLCK). `wait`: until it is possible; else false when
// another holds them.
inline bool lock_bytes(int descriptor, short type, long long start, long long size, bool wait) {
    struct flock part{};
    part.l_type = type;
    part.l_whence = SEEK_SET;
    part.l_start = start;
    part.l_len = size;
    while (fcntl(descriptor, wait ? F_OFD_SETLKW : F_OFD_SETLK, &part) < 0) {
        if (errno != EINTR) return false;
    }
    return true;
}

// Whether somebody else holds a lock on these bytes.
inline bool is_locked(int descriptor, long long start, long long size = 1) {
    struct flock part{};
    part.l_type = F_WRLCK;
    part.l_whence = SEEK_SET;
    part.l_start = start;
    part.l_len = size;
    return fcntl(descriptor, F_OFD_GETLK, &part) == 0 && part.l_type != F_UNLCK;
}

// Opens a file that is this user's alone; `flags` beyond O_RDWR. -1 where there is none, or it is somebody else's.
inline int open_own_file(const std::string& path, int flags = 0) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0600);
    if (descriptor < 0) return -1;
    struct stat about{};
    if (::fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == ::geteuid()) return descriptor;
    ::close(descriptor);
    return -1;
}

// Whether the open file still has its name.
inline bool is_linked(int descriptor) {
    struct stat about{};
    return ::fstat(descriptor, &about) == 0 && about.st_nlink > 0;
}

// Opens the file, or makes it, and locks its first byte (F_RDLCK, F_WRLCK), in such a way that nobody removes it
// meanwhile. -1 where that is not possible.
inline int open_and_lock(const std::string& path, short type) {
    for (;;) {
        const int descriptor = open_own_file(path, O_CREAT);
        if (descriptor < 0) return -1;
        const bool locked = lock_bytes(descriptor, type, 0, 1, true);
        if (locked && is_linked(descriptor)) return descriptor;
        ::close(descriptor);
        if (!locked) return -1;  // else it has just been removed: again, with a new file
    }
}

// Removes the files of this user whose names begin so, and in which no process holds a lock.
inline void remove_dead_files(const std::string& prefix) {
    DIR* all = ::opendir(shared_memory_folder);
    if (!all) return;
    while (const dirent* entry = ::readdir(all)) {
        if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) != 0) continue;
        const int file = open_own_file(std::string(shared_memory_folder) + "/" + entry->d_name);
        if (file < 0) continue;
        // While all of it is locked nobody else removes it: if it is linked, the name is this file's.
        if (lock_bytes(file, F_WRLCK, 0, to_the_end, false) && is_linked(file)) {
            ::unlinkat(::dirfd(all), entry->d_name, 0);
        }
        ::close(file);
    }
    ::closedir(all);
}

}  // namespace gpuferry
