// The generated structures, and their descriptors as pointers, which Swift cannot take of C globals.
#ifndef CPROTOBUFSCHEMA_H
#define CPROTOBUFSCHEMA_H
#include "dlc.pb-c.h"

static inline const ProtobufCMessageDescriptor *dlc_module_descriptor(void) { return &dlc__module__descriptor; }
static inline const ProtobufCMessageDescriptor *dlc_program_descriptor(void) { return &dlc__program__descriptor; }
#endif
