/// dlc: build graphs of deep-learning models in Swift, compile them to native code, run them.
///
/// `Module` and `FunctionBuilder` declare a model, `Compiler` turns a function of it into an
/// `Executable`, which runs on `Tensor`s.
@_exported public import DLCAutodiff
@_exported public import DLCCompiler
@_exported public import DLCFormats
@_exported public import DLCGraph
@_exported public import DLCONNX
@_exported public import DLCReference
@_exported public import DLCRuntime
@_exported public import DLCTensor
@_exported public import DLCTraining
@_exported public import DLCZoo
