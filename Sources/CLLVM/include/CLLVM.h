// The part of LLVM's C interface that dlc uses, opened on demand: a process that compiles nothing
// never loads libLLVM. Names and signatures are those of llvm-c 19; every reference is opaque.
#ifndef CLLVM_H
#define CLLVM_H
#include <stddef.h>

typedef struct dlc_llvm {
  void *(*ContextCreate)(void);
  void (*ContextDispose)(void *);
  void *(*CreateMemoryBufferWithMemoryRangeCopy)(const char *data, size_t size, const char *name);
  int (*ParseIRInContext)(void *context, void *buffer, void **module, char **message);
  void (*DisposeModule)(void *module);
  void (*DisposeMessage)(char *message);
  char *(*GetDefaultTargetTriple)(void);
  char *(*GetHostCPUName)(void);
  char *(*GetHostCPUFeatures)(void);
  int (*GetTargetFromTriple)(const char *triple, void **target, char **message);
  void *(*CreateTargetMachine)(void *target, const char *triple, const char *cpu,
                               const char *features, int level, int relocation, int code_model);
  void (*DisposeTargetMachine)(void *machine);
  void *(*CreateTargetDataLayout)(void *machine);
  void (*SetModuleDataLayout)(void *module, void *layout);
  void (*DisposeTargetData)(void *layout);
  void *(*CreatePassBuilderOptions)(void);
  void (*DisposePassBuilderOptions)(void *options);
  void *(*RunPasses)(void *module, const char *passes, void *machine, void *options);
  char *(*GetErrorMessage)(void *error);
  void (*DisposeErrorMessage)(char *message);
  int (*VerifyModule)(void *module, int action, char **message);
  int (*TargetMachineEmitToMemoryBuffer)(void *machine, void *module, int kind, char **message,
                                         void **buffer);
  const char *(*GetBufferStart)(void *buffer);
  size_t (*GetBufferSize)(void *buffer);
  void (*DisposeMemoryBuffer)(void *buffer);
  char *(*PrintModuleToString)(void *module);
  /// For the whole process.
  void (*ParseCommandLineOptions)(int count, const char *const *arguments, const char *overview);
} dlc_llvm;

/// Opens libLLVM 19 and initialises its native target, once. NULL when the library is missing or
/// lacks a function; `dlc_llvm_error` then says which.
const dlc_llvm *dlc_llvm_open(void);
const char *dlc_llvm_error(void);

/// Whether there is no such library at all.
int dlc_llvm_is_missing(void);
#endif
