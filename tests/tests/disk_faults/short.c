/* A disk that does half of what it is asked for: reads or writes (SHORT_CALL) of files whose path
 * contains SHORT_PATH are cut in half, as POSIX allows. Each adds a byte to the file SHORT_NOTES.
 * To be preloaded into a program that is under test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t shorter(int fd, size_t count, const char *call) {
  const char *wanted = getenv("SHORT_PATH"), *meant = getenv("SHORT_CALL");
  char link[64], path[4096];
  if (count < 2 || !wanted || !meant || strcmp(meant, call) != 0) return count;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return count;
  path[length] = 0;
  if (!strstr(path, wanted)) return count;
  const char *notes = getenv("SHORT_NOTES");
  if (notes) {
    int file = open(notes, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
      syscall(SYS_write, file, "x", 1);
      close(file);
    }
  }
  return count / 2;
}

#define REAL(name, ...) ((ssize_t(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *to, size_t count) {
  return REAL(read, int, void *, size_t)(fd, to, shorter(fd, count, "read"));
}
ssize_t write(int fd, const void *from, size_t count) {
  return REAL(write, int, const void *, size_t)(fd, from, shorter(fd, count, "write"));
}
ssize_t pread(int fd, void *to, size_t count, off_t at) {
  return REAL(pread, int, void *, size_t, off_t)(fd, to, shorter(fd, count, "read"), at);
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
  return REAL(pwrite, int, const void *, size_t, off_t)(fd, from, shorter(fd, count, "write"), at);
}
ssize_t pread64(int fd, void *to, size_t count, off64_t at) {
  return REAL(pread64, int, void *, size_t, off64_t)(fd, to, shorter(fd, count, "read"), at);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
  return REAL(pwrite64, int, const void *, size_t, off64_t)(fd, from, shorter(fd, count, "write"), at);
}
