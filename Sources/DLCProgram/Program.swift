package import DLCTensor

/// Names a buffer of a program.
package struct BufferID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// Names a compiled kernel of a program.
package struct KernelID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// Names a step of a program.
package struct StepID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// An array that steps read or write, and where it lies.
package struct BufferSlot: Hashable, Sendable {
  package enum Place: Hashable, Sendable {
    /// The caller's arrays, by position.
    case input(Int)
    case output(Int)
    /// A state tensor, by position in `Program.states`.
    case state(Int)
    /// The next value of a state tensor, by the same position; it takes over after the run.
    case nextState(Int)
    /// Byte offsets into the constants, into what preparation computes, and into the arena of a run.
    case constant(Int)
    case prepared(Int)
    case arena(Int)
  }
  package var type: DataType
  package var shape: [Int]
  package var place: Place

  package init(_ type: DataType, _ shape: [Int], _ place: Place) {
    self.type = type
    self.shape = shape
    self.place = place
  }

  package var byteCount: Int { shape.reduce(1, *) * type.byteCount }
}

/// One scheduled call of a kernel.
package struct Step: Hashable, Sendable {
  package var kernel: KernelID
  /// The kernel's parameters in order.
  package var buffers: [BufferID]
  /// Independent tiles that workers claim.
  package var tileCount: Int
  /// Earlier steps that must have finished.
  package var dependencies: [StepID]
  package var name: String
  package var flops: Int
  package var bytesMoved: Int

  package init(
    kernel: KernelID, buffers: [BufferID], tileCount: Int, dependencies: [StepID], name: String,
    flops: Int, bytesMoved: Int
  ) {
    self.kernel = kernel
    self.buffers = buffers
    self.tileCount = tileCount
    self.dependencies = dependencies
    self.name = name
    self.flops = flops
    self.bytesMoved = bytesMoved
  }
}

package struct Port: Hashable, Sendable {
  package var name: String
  package var buffer: BufferID
  package init(_ name: String, _ buffer: BufferID) {
    self.name = name
    self.buffer = buffer
  }
}

package struct StatePort: Hashable, Sendable {
  package var name: String
  package var type: DataType
  package var shape: [Int]
  package var isUpdated: Bool
  package var initializer: String
  package var initializerArguments: [Double]
  package var isParameter: Bool

  package init(
    name: String, type: DataType, shape: [Int], isUpdated: Bool, initializer: String,
    initializerArguments: [Double], isParameter: Bool
  ) {
    self.name = name
    self.type = type
    self.shape = shape
    self.isUpdated = isUpdated
    self.initializer = initializer
    self.initializerArguments = initializerArguments
    self.isParameter = isParameter
  }
}

package struct KernelEntry: Hashable, Sendable {
  package var name: String
  /// Byte offset of the entry point in the code.
  package var offset: Int
  package init(_ name: String, _ offset: Int) {
    self.name = name
    self.offset = offset
  }
}

/// A compiled function as plain data: steps, dependencies, and the placement of every buffer.
package struct Program: Hashable, Sendable {
  package var name = ""
  package var function = ""
  package var triple = ""
  package var cpu = ""
  /// Instruction sets without which the code must not run.
  package var features: [String] = []
  package var contentHash = ""
  package var kernels: [KernelEntry] = []
  package var buffers: [BufferSlot] = []
  package var steps: [Step] = []
  /// Steps that depend on constants and on state that no run updates; they run when state is set.
  package var preparation: [Step] = []
  package var inputs: [Port] = []
  package var outputs: [Port] = []
  package var states: [StatePort] = []
  package var arenaBytes = 0
  /// The largest sum of bytes that are live together: no placement needs less.
  package var arenaLowerBound = 0
  package var preparedBytes = 0
  package var scratchBytes = 0
  package var constantBytes = 0

  package init() {}

  package var flops: Int { steps.reduce(0) { $0 + $1.flops } }
  package var bytesMoved: Int { steps.reduce(0) { $0 + $1.bytesMoved } }

  package subscript(_ id: BufferID) -> BufferSlot { buffers[id.index] }
}
