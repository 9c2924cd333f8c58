// What Swift cannot say about the machine: a spin hint, the CPUs this process may use, CPU features.
#ifndef CMACHINE_H
#define CMACHINE_H
#include <stddef.h>
#include <stdint.h>

/// Tells the processor that this is a spin-wait loop.
static inline void dlc_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// The CPUs that this process may use: those in its affinity mask (at least 1), and no more than its control
/// group's quota amounts to, rounded up.
int dlc_processor_count(void);

/// Copies code into memory of its own and makes it executable; NULL when that is refused.
void *dlc_map_code(const void *bytes, size_t size);
void dlc_unmap_code(void *base, size_t size);

/// The file that this code was loaded from: the program, or the library that it is part of.
void dlc_image_path(char *out, size_t capacity);

/// Reserves `size` bytes aligned to 2 MiB and asks for huge pages; NULL when there is no memory.
void *dlc_map_anonymous(size_t size);
void dlc_unmap(void *base, size_t size);

typedef void (*dlc_kernel)(void *const *buffers, int64_t tile, void *scratch);

/// Calls a compiled kernel: the one place where mapped code is entered.
static inline void dlc_call_kernel(const void *code, void *const *buffers, int64_t tile,
                                   void *scratch) {
  ((dlc_kernel)code)(buffers, tile, scratch);
}

/// Bytes of data cache of a level (1 to 3) that one CPU has: its own, or its share of what several have
/// together; 0 when the system does not say.
long dlc_cache_bytes(int level);

/// Fills `out` with the names of the optional instruction sets that this CPU and its operating
/// system offer, separated by commas, in LLVM's spelling.
void dlc_cpu_features(char *out, size_t capacity);
#endif
