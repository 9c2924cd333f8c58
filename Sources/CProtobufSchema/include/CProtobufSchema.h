// The generated structures, and their descriptors as pointers, which Swift cannot take of C globals.
#ifndef CPROTOBUFSCHEMA_H
#define CPROTOBUFSCHEMA_H
#include "dlc.pb-c.h"
#include "onnx.pb-c.h"

static inline const ProtobufCMessageDescriptor *dlc_module_descriptor(void) { return &dlc__module__descriptor; }
static inline const ProtobufCMessageDescriptor *dlc_program_descriptor(void) { return &dlc__program__descriptor; }
static inline const ProtobufCMessageDescriptor *onnx_model_descriptor(void) { return &onnx__model__descriptor; }
static inline const ProtobufCMessageDescriptor *onnx_graph_descriptor(void) { return &onnx__graph__descriptor; }
static inline const ProtobufCMessageDescriptor *onnx_tensor_descriptor(void) { return &onnx__tensor__descriptor; }
#endif
