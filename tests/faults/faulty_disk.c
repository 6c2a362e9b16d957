/* Put before the C library by LD_PRELOAD: while the file named by FAULTY_DISK exists, calls on the
   journal's files fail. Its content says how: "full" (no space for writes) or "sync" (fsync fails). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd, const char *how) {
    const char *command = getenv("FAULTY_DISK");
    if (!command) return 0;
    FILE *file = fopen(command, "r");
    if (!file) return 0;
    char asked[16] = "";
    int same = fgets(asked, sizeof asked, file) && strcmp(asked, how) == 0;
    fclose(file);
    if (!same) return 0;
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "journal.db") != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *from, size_t count) {
    if (fails(fd, "full")) { errno = ENOSPC; return -1; }
    return REAL(write)(fd, from, count);
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    if (fails(fd, "full")) { errno = ENOSPC; return -1; }
    return REAL(pwrite)(fd, from, count, at);
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    if (fails(fd, "full")) { errno = ENOSPC; return -1; }
    return REAL(pwrite64)(fd, from, count, at);
}

int fsync(int fd) {
    if (fails(fd, "sync")) { errno = EIO; return -1; }
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    if (fails(fd, "sync")) { errno = EIO; return -1; }
    return REAL(fdatasync)(fd);
}
