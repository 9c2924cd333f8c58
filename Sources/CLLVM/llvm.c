#include "CLLVM.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static dlc_llvm table;
static int ready = 0;
static int missing = 0;
static char failure[512] = "";
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *resolve(void *library, const char *name) {
  void *symbol = dlsym(library, name);
  if (!symbol && !failure[0]) snprintf(failure, sizeof failure, "libLLVM has no function %s", name);
  return symbol;
}

static void open_library(void) {
  static const char *const names[] = {"libLLVM-19.so.1", "libLLVM.so.19.1", "libLLVM-19.so",
                                      "/usr/lib/llvm-19/lib/libLLVM.so.19.1"};
  void *library = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++) {
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (library) break;
    // A library that is there and cannot be loaded says why: there is no memory for it, or it lacks
    // another library. One that is not there is only said to be missing itself.
    const char *reason = dlerror();
    size_t length = strlen(names[i]);
    if (reason && !failure[0] &&
        !(strncmp(reason, names[i], length) == 0 && strstr(reason + length, "No such file")))
      snprintf(failure, sizeof failure, "libLLVM 19 cannot be loaded: %s", reason);
  }
  if (!library) {
    missing = !failure[0];
    if (missing)
      snprintf(failure, sizeof failure,
               "libLLVM 19 is not installed (Debian: apt install libllvm19)");
    return;
  }
  failure[0] = 0;
#define TAKE(name) table.name = (__typeof__(table.name))resolve(library, "LLVM" #name);
  TAKE(ContextCreate)
  TAKE(ContextDispose)
  TAKE(CreateMemoryBufferWithMemoryRangeCopy)
  TAKE(ParseIRInContext)
  TAKE(DisposeModule)
  TAKE(DisposeMessage)
  TAKE(GetDefaultTargetTriple)
  TAKE(GetHostCPUName)
  TAKE(GetHostCPUFeatures)
  TAKE(GetTargetFromTriple)
  TAKE(CreateTargetMachine)
  TAKE(DisposeTargetMachine)
  TAKE(CreateTargetDataLayout)
  TAKE(SetModuleDataLayout)
  TAKE(DisposeTargetData)
  TAKE(CreatePassBuilderOptions)
  TAKE(DisposePassBuilderOptions)
  TAKE(RunPasses)
  TAKE(GetErrorMessage)
  TAKE(DisposeErrorMessage)
  TAKE(VerifyModule)
  TAKE(TargetMachineEmitToMemoryBuffer)
  TAKE(GetBufferStart)
  TAKE(GetBufferSize)
  TAKE(DisposeMemoryBuffer)
  TAKE(PrintModuleToString)
  TAKE(ParseCommandLineOptions)
#undef TAKE
#if defined(__x86_64__)
#define ARCH "X86"
#elif defined(__aarch64__)
#define ARCH "AArch64"
#else
#error "dlc generates code for x86-64 and AArch64"
#endif
  static const char *const initialisers[] = {
      "LLVMInitialize" ARCH "TargetInfo", "LLVMInitialize" ARCH "Target",
      "LLVMInitialize" ARCH "TargetMC", "LLVMInitialize" ARCH "AsmPrinter",
      "LLVMInitialize" ARCH "AsmParser"};
  for (size_t i = 0; i < sizeof initialisers / sizeof *initialisers; i++) {
    void (*initialise)(void) = (void (*)(void))resolve(library, initialisers[i]);
    if (initialise) initialise();
  }
  ready = failure[0] == 0;
  // Kernels walk their arrays by indices that addresses take as they are. What is left for the reduction of strengths
  // costs a third of the time of a compilation, and no kernel is faster for it.
  static const char *const arguments[] = {"dlc", "-disable-lsr"};
  if (ready) table.ParseCommandLineOptions(sizeof arguments / sizeof *arguments, arguments, "");
}

const dlc_llvm *dlc_llvm_open(void) {
  pthread_once(&once, open_library);
  return ready ? &table : NULL;
}

const char *dlc_llvm_error(void) { return failure; }

int dlc_llvm_is_missing(void) { return missing; }
