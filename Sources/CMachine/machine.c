#define _GNU_SOURCE
#include "CMachine.h"
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static int affinity_count(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int count = CPU_COUNT(&set);
  return count < 1 ? 1 : count;
}

// 0 when there is no quota.
static int quota_count(void) {
  // cgroup v2: "<quota> <period>" in microseconds, or "max".
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (!file) return 0;
  long quota = 0, period = 0;
  int fields = fscanf(file, "%ld %ld", &quota, &period);
  fclose(file);
  if (fields != 2 || quota <= 0 || period <= 0) return 0;
  return (int)((quota + period - 1) / period);
}

int dlc_processor_count(void) {
  int mask = affinity_count(), quota = quota_count();
  return quota > 0 && quota < mask ? quota : mask;
}

static const size_t huge = (size_t)2 << 20;

void *dlc_map_anonymous(size_t size) {
  // Small areas do not want a huge page of their own.
  size_t align = size >= huge ? huge : 4096;
  size_t rounded = (size + align - 1) / align * align;
  if (rounded < size) return NULL;
  if (align == 4096) {
    void *p = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
  }
  char *p = mmap(NULL, rounded + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  char *start = (char *)(((uintptr_t)p + huge - 1) / huge * huge);
  if (start > p) munmap(p, (size_t)(start - p));
  munmap(start + rounded, (size_t)(p + rounded + huge - (start + rounded)));
  madvise(start, rounded, MADV_HUGEPAGE);
  return start;
}

void dlc_unmap(void *base, size_t size) {
  size_t align = size >= huge ? huge : 4096;
  munmap(base, (size + align - 1) / align * align);
}

long dlc_cache_bytes(int level) {
  for (int index = 0; index < 8; index++) {
    char path[96], text[64];
    long found = 0, bytes = 0;
    const char *names[] = {"level", "type", "size", "shared_cpu_list"};
    int is_data = 0, cpus = 0;
    for (int i = 0; i < 4; i++) {
      snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, names[i]);
      FILE *file = fopen(path, "r");
      if (!file) return 0;
      char *line = fgets(text, sizeof text, file);
      fclose(file);
      if (!line) return 0;
      if (i == 0) found = strtol(text, NULL, 10);
      if (i == 1) is_data = strncmp(text, "Instruction", 11) != 0;
      if (i == 2) {
        char *unit;
        bytes = strtol(text, &unit, 10);
        bytes *= *unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : 1;
      }
      if (i == 3) {
        // As "0-3,8-11".
        for (char *at = text; *at && *at != '\n';) {
          char *end;
          long first = strtol(at, &end, 10), last = first;
          if (end == at) break;
          if (*end == '-') last = strtol(end + 1, &end, 10);
          cpus += (int)(last - first + 1);
          at = *end == ',' ? end + 1 : end;
        }
      }
    }
    if (found == level && is_data) return bytes / (cpus > 0 ? cpus : 1);
  }
  return 0;
}

void dlc_cpu_features(char *out, size_t capacity) {
  out[0] = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define FEATURE(builtin, llvm)                                    \
  if (__builtin_cpu_supports(builtin)) {                          \
    size_t used = strlen(out);                                    \
    snprintf(out + used, capacity - used, "%s" llvm, used ? "," : ""); \
  }
  FEATURE("sse4.1", "sse4.1")
  FEATURE("sse4.2", "sse4.2")
  FEATURE("avx", "avx")
  FEATURE("avx2", "avx2")
  FEATURE("fma", "fma")
  FEATURE("bmi", "bmi")
  FEATURE("bmi2", "bmi2")
  FEATURE("avx512f", "avx512f")
  FEATURE("avx512bw", "avx512bw")
  FEATURE("avx512dq", "avx512dq")
  FEATURE("avx512vl", "avx512vl")
#undef FEATURE
  // F16C comes with every CPU that has AVX2; compilers have no portable name for asking.
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29)) && __builtin_cpu_supports("avx")) {
    size_t used = strlen(out);
    snprintf(out + used, capacity - used, "%sf16c", used ? "," : "");
  }
#elif defined(__aarch64__)
  snprintf(out, capacity, "neon");
#endif
}

void *dlc_map_code(const void *bytes, size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  memcpy(p, bytes, size);
  if (mprotect(p, size, PROT_READ | PROT_EXEC) != 0) {
    munmap(p, size);
    return NULL;
  }
  __builtin___clear_cache((char *)p, (char *)p + size);
  return p;
}

void dlc_unmap_code(void *base, size_t size) { munmap(base, size); }

struct image {
  uintptr_t address;
  char *out;
  size_t capacity;
};

static int find_image(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct image *wanted = data;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (info->dlpi_phdr[i].p_type == PT_LOAD && wanted->address >= start &&
        wanted->address - start < info->dlpi_phdr[i].p_memsz) {
      // The program itself comes without a name.
      const char *name = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
      snprintf(wanted->out, wanted->capacity, "%s", name);
      return 1;
    }
  }
  return 0;
}

void dlc_image_path(char *out, size_t capacity) {
  struct image wanted = {(uintptr_t)&dlc_image_path, out, capacity};
  out[0] = 0;
  dl_iterate_phdr(find_image, &wanted);
}
