/* Preloaded into a process to make system calls on some files fail.
 *
 * RCDP_INJECT: rules separated by ";", each "call:errno:part of the path:calls that succeed first[:times]"; the default of
 * times is 0, for all later calls. A call is one of open, write, fsync, rename, link, fallocate, chmod, mkdir, unlink, symlink,
 * read (to open for reading), pread (to read), truncate or grow (to leave a hole), and "write" means every kind of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RULES 16
static struct { char call[16], part[256]; int number; long left, times; } rules[RULES];
static int count = 0;
static char seen[2048] = "";

/* The rules may be changed while the process runs. */
static void parse(void) {
    const char *text = getenv("RCDP_INJECT");
    if (!strcmp(text ? text : "", seen)) return;
    snprintf(seen, sizeof seen, "%s", text ? text : "");
    count = 0;
    while (text && *text && count < RULES) {
        long times = 0;
        if (sscanf(text, "%15[^:]:%d:%255[^:;]:%ld:%ld", rules[count].call, &rules[count].number, rules[count].part,
                   &rules[count].left, &times) >= 4) {
            rules[count].times = times ? times : -1;
            count++;
        }
        text = strchr(text, ';');
        if (text) text++;
    }
}

static int fails(const char *call, const char *path) {
    parse();
    if (!path) return 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(rules[i].call, call) || !strstr(path, rules[i].part)) continue;
        if (rules[i].left > 0) { rules[i].left--; continue; }
        if (!rules[i].times) continue;
        if (rules[i].times > 0) rules[i].times--;
        errno = rules[i].number;
        return 1;
    }
    return 0;
}

static int fails_fd(const char *call, int fd) {
    char link[64], path[4096];
    parse();
    if (!count) return 0;
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (size < 0) return 0;
    path[size] = 0;
    return fails(call, path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        REAL(int, name, const char *, int, ...);                                        \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (((flags & O_ACCMODE) != O_RDONLY && fails("open", path)) ||                 \
            ((flags & O_ACCMODE) == O_RDONLY && fails("read", path))) return -1;        \
        return real(path, flags, mode);                                                 \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                    \
    int name(int folder, const char *path, int flags, ...) {                            \
        REAL(int, name, int, const char *, int, ...);                                   \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (((flags & O_ACCMODE) != O_RDONLY && fails("open", path)) ||                 \
            ((flags & O_ACCMODE) == O_RDONLY && fails("read", path))) return -1;        \
        return real(folder, path, flags, mode);                                         \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return fails_fd("write", fd) ? -1 : real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return fails_fd("write", fd) ? -1 : real(fd, parts, n);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return fails_fd("write", fd) ? -1 : real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct stat now;
    if (!fstat(fd, &now) && at > now.st_size && fails_fd("grow", fd)) return -1;
    return fails_fd("write", fd) ? -1 : real(fd, data, size, at);
}
ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    return fails_fd("pread", fd) ? -1 : real(fd, data, size);
}
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    return fails_fd("pread", fd) ? -1 : real(fd, data, size, at);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return fails_fd("pread", fd) ? -1 : real(fd, data, size, at);
}
int fsync(int fd) { REAL(int, fsync, int); return fails_fd("fsync", fd) ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(int, ftruncate, int, off_t); return fails_fd("truncate", fd) ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) {
    REAL(int, ftruncate64, int, off64_t);
    struct stat now;
    if (!fstat(fd, &now) && n > now.st_size && fails_fd("grow", fd)) return -1;
    return fails_fd("truncate", fd) ? -1 : real(fd, n);
}
int fallocate(int fd, int mode, off_t from, off_t size) {
    REAL(int, fallocate, int, int, off_t, off_t);
    return fails_fd("fallocate", fd) ? -1 : real(fd, mode, from, size);
}
int fallocate64(int fd, int mode, off64_t from, off64_t size) {
    REAL(int, fallocate64, int, int, off64_t, off64_t);
    return fails_fd("fallocate", fd) ? -1 : real(fd, mode, from, size);
}
int posix_fallocate64(int fd, off64_t from, off64_t size) {
    REAL(int, posix_fallocate64, int, off64_t, off64_t);
    return fails_fd("fallocate", fd) ? EBADF : real(fd, from, size);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return fails("rename", from) || fails("rename", to) ? -1 : real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return fails("rename", from) || fails("rename", to) ? -1 : real(a, from, b, to);
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return fails("link", to) ? -1 : real(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    return fails("link", to) ? -1 : real(a, from, b, to, flags);
}
int symlink(const char *from, const char *to) {
    REAL(int, symlink, const char *, const char *);
    return fails("symlink", to) ? -1 : real(from, to);
}
int chmod(const char *path, mode_t mode) {
    REAL(int, chmod, const char *, mode_t);
    return fails("chmod", path) ? -1 : real(path, mode);
}
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    REAL(int, fchmodat, int, const char *, mode_t, int);
    return fails("chmod", path) ? -1 : real(folder, path, mode, flags);
}
int fchmod(int fd, mode_t mode) { REAL(int, fchmod, int, mode_t); return fails_fd("chmod", fd) ? -1 : real(fd, mode); }
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return fails("mkdir", path) ? -1 : real(path, mode);
}
int unlink(const char *path) { REAL(int, unlink, const char *); return fails("unlink", path) ? -1 : real(path); }
