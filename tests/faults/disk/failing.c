/* Calls to the disk, made to fail. Loaded before libc (LD_PRELOAD) into the proxy that is tested.
 *
 * Calls on files below one folder are counted and, as the control page says, fail, are slow, or are the last thing
 * that the process does. The page is mapped by the test too, so that a cause begins and ends while the proxy runs.
 * If it is wanted, everything that was written and synchronised is kept in a log: see image.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE, SYNC, TRUNCATE, OPEN, RENAME, UNLINK, MKDIR, KINDS };
enum action { NOTHING, FAIL, SLOW, KILL };
enum { DESCRIPTORS = 65536, WHOLE = 0, NOT_AT_ALL = 1, IN_HALF = 2 };

/* The same fields, in the same order, stand in failing.py. */
struct control {
    int64_t action, kinds, first, times, error, milliseconds, in_half;
    int64_t seen;     /* calls of `kinds` on `part` since the cause began */
    int64_t done;     /* of them: made to fail, or slow */
    int64_t repeated; /* syncs on a descriptor that has failed to sync: what they say is worth nothing */
    int64_t trusted;  /* of them: of something that was written since, a table's file apart */
    int64_t logged;   /* bytes in the log */
    int64_t clock;    /* nanoseconds that the wall clock is wrong */
    int64_t counts[KINDS];
    char part[256];   /* only files with this in their path, or at its end before a $; empty: all */
};

struct record { int32_t kind, failed; int64_t offset, length; int32_t path, other; };

static struct control *control;
static char *below;
static int log_file = -1;
static char *paths[DESCRIPTORS];
static char failed_sync[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define ADD(field, value) __atomic_add_fetch(&control->field, (value), __ATOMIC_SEQ_CST)
#define GET(field) __atomic_load_n(&control->field, __ATOMIC_SEQ_CST)
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    REAL(open);
    const char *page = getenv("FAILING_CONTROL"), *log = getenv("FAILING_LOG"), *folder = getenv("FAILING_BELOW");
    int file = page ? real(page, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0 || !folder) return;
    below = strdup(folder);
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (log && *log) log_file = real(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (mapped != MAP_FAILED) control = mapped;
}

static int watched(const char *path) {
    return control && path && strncmp(path, below, strlen(below)) == 0;
}

static const char *path_of(int file) {
    return control && file >= 0 && file < DESCRIPTORS ? paths[file] : NULL;
}

static int ends_with(const char *path, const char *end, size_t size) {
    size_t whole = strlen(path);
    return whole >= size && strncmp(path + whole - size, end, size) == 0;
}

static int concerned(const char *path) {
    size_t size = strlen(control->part);
    if (size && control->part[size - 1] == '$') return ends_with(path, control->part, size - 1);
    return strstr(path, control->part) != NULL;
}

static void kill_self(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* What becomes of a call; errno says why it fails. */
static int fate(enum kind kind, const char *path) {
    ADD(counts[kind], 1);
    int64_t action = GET(action);
    if (action == NOTHING || !(GET(kinds) >> kind & 1)) return WHOLE;
    if (!concerned(path)) return WHOLE;
    int64_t number = ADD(seen, 1), first = GET(first), times = GET(times);
    if (number < first || (times >= 0 && number >= first + times)) return WHOLE;
    ADD(done, 1);
    if (action == SLOW) {
        struct timespec time = {GET(milliseconds) / 1000, GET(milliseconds) % 1000 * 1000000};
        nanosleep(&time, NULL);
        return WHOLE;
    }
    if (action == KILL && kind != WRITE) kill_self();
    errno = (int)GET(error);
    return GET(in_half) && kind == WRITE ? IN_HALF : NOT_AT_ALL;
}

static void after_failure(void) {
    if (GET(action) == KILL) kill_self();
    errno = (int)GET(error);
}

/* Called with the lock held, so that the log has the order of the calls. */
static void note(enum kind kind, const char *path, const char *other, int64_t offset, const void *data, int64_t length,
                 int failed) {
    REAL(writev);
    if (log_file < 0) return;
    struct record record = {kind, failed, offset, length, (int32_t)strlen(path), other ? (int32_t)strlen(other) : 0};
    struct iovec parts[] = {{&record, sizeof record},
                            {(void *)path, record.path},
                            {(void *)(other ? other : ""), record.other},
                            {(void *)(data ? data : ""), data ? (size_t)length : 0}};
    ssize_t written = real(log_file, parts, 4);
    if (written > 0) ADD(logged, written);
}

static ssize_t put(int file, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    ssize_t result;
    const char *path = path_of(file);
    pthread_mutex_lock(&lock);
    if (offset < 0) {
        static ssize_t (*plain)(int, const void *, size_t);
        struct stat64 found;
        if (!plain) *(void **)&plain = dlsym(RTLD_NEXT, "write");
        offset = fcntl(file, F_GETFL) & O_APPEND && fstat64(file, &found) == 0 ? found.st_size : lseek64(file, 0, SEEK_CUR);
        result = plain(file, data, size);
    } else
        result = real(file, data, size, offset);
    int error = errno;
    if (result > 0) note(WRITE, path, NULL, offset, data, result, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static ssize_t write_watched(int file, const void *data, size_t size, off64_t offset) {
    int how = fate(WRITE, path_of(file));
    if (failed_sync[file]) failed_sync[file] = 2;
    if (how == WHOLE) return put(file, data, size, offset);
    if (how == IN_HALF && size > 1) put(file, data, size / 2, offset);
    after_failure();
    return -1;
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(write);
    return path_of(file) ? write_watched(file, data, size, -1) : real(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return path_of(file) ? write_watched(file, data, size, offset) : real(file, data, size, offset);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite64(file, data, size, offset); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    if (!path_of(file)) return real(file, parts, count);
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    char *joined = malloc(size ? size : 1), *end = joined;
    for (int i = 0; i < count; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    ssize_t result = write_watched(file, joined, size, -1);
    free(joined);
    return result;
}

static int sync_watched(int file, int (*real)(int)) {
    const char *path = path_of(file);
    if (failed_sync[file]) ADD(repeated, 1);
    /* A checkpoint that failed begins anew: SQLite writes every page again, and keeps the log until they are durable. */
    if (failed_sync[file] == 2 && !ends_with(path, ".sqlite3", 8)) ADD(trusted, 1);
    int failed = fate(SYNC, path) != WHOLE;
    pthread_mutex_lock(&lock);
    int result = failed ? -1 : real(file);
    failed |= result != 0;
    note(SYNC, path, NULL, 0, NULL, 0, failed);
    pthread_mutex_unlock(&lock);
    if (failed) {
        failed_sync[file] = 1;
        after_failure();
        return -1;
    }
    return result;
}

int fsync(int file) {
    REAL(fsync);
    return path_of(file) ? sync_watched(file, real) : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return path_of(file) ? sync_watched(file, real) : real(file);
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    const char *path = path_of(file);
    if (!path) return real(file, size);
    if (fate(TRUNCATE, path) != WHOLE) {
        after_failure();
        return -1;
    }
    pthread_mutex_lock(&lock);
    int result = real(file, size);
    if (result == 0) note(TRUNCATE, path, NULL, size, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int opened(int file, const char *path, int flags) {
    if (file < 0 || file >= DESCRIPTORS) return file;
    paths[file] = strdup(path);
    failed_sync[file] = 0;
    if (flags & (O_CREAT | O_TRUNC)) {
        pthread_mutex_lock(&lock);
        note(OPEN, path, NULL, flags & O_TRUNC ? 0 : -1, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return file;
}

static int open_watched(int folder, const char *path, int flags, mode_t mode) {
    REAL(openat64);
    char whole[4096];
    const char *at = folder == AT_FDCWD || *path == '/' ? "" : path_of(folder) ? path_of(folder) : "";
    snprintf(whole, sizeof whole, "%s%s%s", at, *at ? "/" : "", path);
    if (!watched(whole)) return real(folder, path, flags, mode);
    if (fate(OPEN, whole) != WHOLE) {
        after_failure();
        return -1;
    }
    return opened(real(folder, path, flags, mode), whole, flags);
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open64(const char *path, int flags, ...) { MODE(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE(flags) return open_watched(AT_FDCWD, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_watched(folder, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_watched(folder, path, flags, mode); }

int close(int file) {
    REAL(close);
    if (path_of(file)) {
        free(paths[file]);
        paths[file] = NULL;
        failed_sync[file] = 0;
    }
    return real(file);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!watched(from)) return real(from, to);
    if (fate(RENAME, from) != WHOLE) {
        after_failure();
        return -1;
    }
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    if (result == 0) note(RENAME, from, to, 0, NULL, 0, 0);
    for (int file = 0; result == 0 && file < DESCRIPTORS; file++)
        if (paths[file] && strcmp(paths[file], from) == 0) {
            free(paths[file]);
            paths[file] = strdup(to);
        }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    char whole[4096];
    const char *at = folder == AT_FDCWD || *path == '/' ? "" : path_of(folder) ? path_of(folder) : "";
    snprintf(whole, sizeof whole, "%s%s%s", at, *at ? "/" : "", path);
    if (!watched(whole)) return real(folder, path, flags);
    if (fate(UNLINK, whole) != WHOLE) {
        after_failure();
        return -1;
    }
    pthread_mutex_lock(&lock);
    int result = real(folder, path, flags);
    if (result == 0) note(UNLINK, whole, NULL, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!watched(path)) return real(path, mode);
    if (fate(MKDIR, path) != WHOLE) {
        after_failure();
        return -1;
    }
    pthread_mutex_lock(&lock);
    int result = real(path, mode);
    if (result == 0) note(MKDIR, path, NULL, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* The wall clock. */

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    if (result == 0 && control && clock == CLOCK_REALTIME) {
        int64_t now = time->tv_sec * 1000000000 + time->tv_nsec + GET(clock);
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}
