/* Stands before the C library (LD_PRELOAD): what a process writes below a folder is counted, and the n-th of these
 * writes fails, or is the process's last. Or the clock that people read jumps an hour back and forth.
 *
 * A "write" is whatever changes a file system: bytes, lengths, names, times. Nothing happens before `fault_arm`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, TORN, EIO_ONCE, EIO_ALWAYS, SHORT, FULL };

static char folder[4096];
static int mode = -1;
static long at, count;
static long clock_period, clock_calls;

void fault_arm(const char *where, int what, long when) {
    strncpy(folder, where, sizeof folder - 1);
    at = when;
    count = 0;
    mode = what;
}

long fault_count(void) { return count; }

void fault_clock(long period) { clock_period = period; }

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

static int below(const char *path) { return path && !strncmp(path, folder, strlen(folder)); }

static int counts_path(const char *path) { return mode >= 0 && below(path); }

static int counts_file(int file) {
    char link[64], path[4096];
    if (mode < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Returns whether this call is not to be made, with errno set. `needs_room` is whether a full disk refuses it. */
static int refused(int needs_room) {
    long now = __sync_add_and_fetch(&count, 1);
    if (mode == KILL && now == at) die();
    if ((mode == EIO_ONCE && now == at) || (mode == EIO_ALWAYS && now >= at)) {
        errno = EIO;
        return 1;
    }
    if (mode == FULL && now >= at && needs_room) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

/* How many bytes of this write are to be written. */
static size_t share(size_t size) { return (mode == TORN || mode == SHORT) && count == at ? size / 2 : size; }

static void done(void) {
    if (mode == TORN && count == at) die();
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!counts_file(file)) return real(file, data, size);
    if (refused(1)) return -1;
    ssize_t result = real(file, data, share(size));
    done();
    return result;
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!counts_file(file)) return real(file, data, size, place);
    if (refused(1)) return -1;
    ssize_t result = real(file, data, share(size), place);
    done();
    return result;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t place) { return pwrite64(file, data, size, place); }

ssize_t writev(int file, const struct iovec *parts, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!counts_file(file)) return real(file, parts, number);
    if (refused(1)) return -1;
    ssize_t result = real(file, parts, number);
    done();
    return result;
}

#define UNPACK(...) __VA_ARGS__
#define CHANGES(result, name, needs_room, counted, parameters, types, arguments) \
    result name parameters { \
        REAL(result, #name, UNPACK types); \
        if (!(counted)) return real arguments; \
        if (refused(needs_room)) return -1; \
        result got = real arguments; \
        done(); \
        return got; \
    }

CHANGES(int, ftruncate64, 0, counts_file(file), (int file, off64_t size), (int, off64_t), (file, size))
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }
CHANGES(int, fsync, 0, counts_file(file), (int file), (int), (file))
CHANGES(int, fdatasync, 0, counts_file(file), (int file), (int), (file))
CHANGES(int, futimens, 0, counts_file(file), (int file, const struct timespec when[2]), (int, const struct timespec *),
        (file, when))
CHANGES(int, mkdir, 1, counts_path(path), (const char *path, mode_t bits), (const char *, mode_t), (path, bits))
CHANGES(int, unlink, 0, counts_path(path), (const char *path), (const char *), (path))
CHANGES(int, rmdir, 0, counts_path(path), (const char *path), (const char *), (path))
CHANGES(int, rename, 0, counts_path(path), (const char *path, const char *to), (const char *, const char *), (path, to))
CHANGES(int, link, 1, counts_path(to), (const char *path, const char *to), (const char *, const char *), (path, to))

int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t bits = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (!(flags & O_CREAT) || !counts_path(path)) return real(path, flags, bits);
    if (refused(1)) return -1;
    int result = real(path, flags, bits);
    done();
    return result;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t bits = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open64(path, flags, bits);
}

static long jump(void) {
    if (!clock_period) return 0;
    return (__sync_add_and_fetch(&clock_calls, 1) / clock_period) % 2 ? -3600 : 0;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int result = real(now, zone);
    now->tv_sec += jump();
    return result;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
