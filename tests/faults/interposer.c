/* Loaded before libc: strikes a process of its own choice at the N-th call of a kind, on files or sockets of a test.

   Python and DuckDB make their system calls through these functions. A plan lies in memory that parent and forked
   children share, so that a parent knows what became of it however the child ended. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, OPEN = 4, UNLINK = 8, RENAME = 16, TRUNCATE = 32, ALLOCATE = 64, SEND = 128, RECEIVE = 256 };
enum { KILL = 1, TEAR = 2, FAIL = 3, SHORT = 4, LIE = 5, DELAY = 6, END = 7 };

/* The same as Plan in interposer.py. */
struct plan {
    int pid;       /* who is struck; 0: nobody */
    int calls;     /* kinds of call that count */
    int action;
    int code;      /* errno of FAIL */
    long at;       /* the first that is struck */
    long times;    /* so many, in a row */
    long delay_us; /* of DELAY */
    long skew_s;   /* of the wall clock */
    char where[2][512]; /* paths that begin so count; sockets have none */
    atomic_long seen;
    atomic_long struck;
};
static struct plan *plan;

struct plan *interposer_plan(void) { return plan; }

/* A file that INTERPOSER_PLAN names lets others, who are not the parent, change the plan at any time. */
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("INTERPOSER_PLAN");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (fd >= 0) syscall(SYS_close, fd);
}

#define REAL(name)                                                                   \
    static __typeof__(name) *libc;                                                   \
    if (!libc) libc = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int armed(int call) { return plan && plan->pid == getpid() && (plan->calls & call); }

static int is_ours(const char *path) {
    for (int i = 0; i < 2; i++)
        if (plan->where[i][0] && !strncmp(path, plan->where[i], strlen(plan->where[i]))) return 1;
    return 0;
}

static int fd_is_ours(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_ours(path);
}

static int entry_is_ours(int folder, const char *name) {
    return name[0] == '/' || folder == AT_FDCWD ? is_ours(name) : fd_is_ours(folder);
}

/* A socket with a server at its other end; an event loop's own pair has none. */
static int is_server(int fd) {
    struct sockaddr_storage peer = {0}; /* of a socket without a name only the family is written */
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size)) return 0;
    return peer.ss_family == AF_INET || (peer.ss_family == AF_UNIX && ((struct sockaddr_un *)&peer)->sun_path[0]);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* What is to be done at this call: 0 for nothing. Whoever is killed is killed before it. */
static int due(void) {
    long number = atomic_fetch_add(&plan->seen, 1) + 1;
    if (number < plan->at || number - plan->at >= plan->times) return 0;
    atomic_fetch_add(&plan->struck, 1);
    if (plan->action == KILL) die();
    if (plan->action == DELAY) { usleep(plan->delay_us); return 0; }
    return plan->action;
}

/* For calls that only succeed or fail. */
static int fails(void) {
    if (due() == FAIL) { errno = plan->code; return 1; }
    return 0;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (!armed(WRITE) || !fd_is_ours(fd)) return libc(fd, data, size);
    switch (due()) {
    case TEAR: libc(fd, data, size / 2); die();
    case FAIL: errno = plan->code; return -1;
    case SHORT: return libc(fd, data, size > 1 ? size / 2 : size);
    case LIE: libc(fd, data, size / 2); return size;
    }
    return libc(fd, data, size);
}

#define WRITES_AT(name)                                                              \
    ssize_t name(int fd, const void *data, size_t size, off_t place) {               \
        REAL(name);                                                                  \
        if (armed(WRITE) && fd_is_ours(fd) && fails()) return -1;                    \
        return libc(fd, data, size, place);                                          \
    }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)

#define ON_FD(call, name, parameters, arguments)                                     \
    int name parameters {                                                            \
        REAL(name);                                                                  \
        if (armed(call) && fd_is_ours(fd) && fails()) return -1;                     \
        return libc arguments;                                                       \
    }
ON_FD(SYNC, fdatasync, (int fd), (fd))
ON_FD(SYNC, fsync, (int fd), (fd))
ON_FD(TRUNCATE, ftruncate64, (int fd, off_t size), (fd, size))

int posix_fallocate64(int fd, off_t start, off_t size) {
    REAL(posix_fallocate64);
    if (armed(ALLOCATE) && fd_is_ours(fd) && fails()) return errno;
    return libc(fd, start, size);
}

#define ON_PATH(call, name, parameters, arguments)                                   \
    int name parameters {                                                            \
        REAL(name);                                                                  \
        if (armed(call) && is_ours(path) && fails()) return -1;                      \
        return libc arguments;                                                       \
    }
ON_PATH(TRUNCATE, truncate64, (const char *path, off_t size), (path, size))
ON_PATH(UNLINK, unlink, (const char *path), (path))
ON_PATH(RENAME, rename, (const char *path, const char *other), (path, other))

int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    if (armed(UNLINK) && entry_is_ours(folder, name) && fails()) return -1;
    return libc(folder, name, flags);
}

#define MODE(flags)                                                                  \
    mode_t mode = 0;                                                                 \
    if (flags & O_CREAT) {                                                           \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode = va_arg(more, mode_t);                                                 \
        va_end(more);                                                                \
    }
#define OPENS(name)                                                                  \
    int name(const char *path, int flags, ...) {                                     \
        REAL(name);                                                                  \
        MODE(flags)                                                                  \
        if (armed(OPEN) && is_ours(path) && fails()) return -1;                      \
        return libc(path, flags, mode);                                              \
    }
#define OPENS_AT(name)                                                               \
    int name(int folder, const char *path, int flags, ...) {                         \
        REAL(name);                                                                  \
        MODE(flags)                                                                  \
        if (armed(OPEN) && entry_is_ours(folder, path) && fails()) return -1;        \
        return libc(folder, path, flags, mode);                                      \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

/* END is the other side's end: what is received is nothing at all. */
#define ON_SOCKET(call, name, parameters, arguments)                                 \
    ssize_t name parameters {                                                        \
        REAL(name);                                                                  \
        if (armed(call) && is_server(fd)) {                                          \
            int action = due();                                                      \
            if (action == FAIL) { errno = plan->code; return -1; }                   \
            if (action == END) return 0;                                             \
        }                                                                            \
        return libc arguments;                                                       \
    }
ON_SOCKET(SEND, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
ON_SOCKET(SEND, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
ON_SOCKET(RECEIVE, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = libc(clock, now);
    if (!result && clock == CLOCK_REALTIME && plan && plan->skew_s && plan->pid == getpid()) now->tv_sec += plan->skew_s;
    return result;
}
