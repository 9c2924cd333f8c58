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

/// Names a function of the process that a program calls.
package struct HostFunctionID: Hashable, Sendable {
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
    /// The part of a stacked buffer that belongs to the present iteration of a loop.
    case slice(BufferID, loop: Int)
    /// A value that a loop carries: two buffers take turns. `next`: the one that is written.
    case alternating(BufferID, BufferID, loop: Int, next: Bool)
  }
  package var type: DataType
  package var shape: [Int]
  package var place: Place
  /// What the value is called in the graph: an argument, or the operation and scope that make it.
  package var origin = ""

  package init(_ type: DataType, _ shape: [Int], _ place: Place) {
    self.type = type
    self.shape = shape
    self.place = place
  }

  package var byteCount: Int { shape.reduce(1, *) * type.byteCount }
}

/// One scheduled call.
package struct Step: Hashable, Sendable {
  /// What is called. A collective, which all workers enter together, would be a third case: so far each sum
  /// belongs to one tile.
  package enum Kind: Hashable, Sendable {
    case kernel(KernelID)
    /// One tile, on the thread that runs the program.
    case hostCall(HostFunctionID)
  }
  package var kind: Kind
  /// The arguments in order.
  package var buffers: [BufferID]
  /// Independent tiles that workers claim.
  package var tileCount: Int
  /// Earlier steps that must have finished.
  package var dependencies: [StepID]
  package var name: String
  package var flops: Int
  package var bytesMoved: Int
  /// The scopes of the nodes that it computes, and the line of the last one; of several steps in one, some.
  package var origin = ""

  package init(
    _ kind: Kind, buffers: [BufferID], tileCount: Int, dependencies: [StepID], name: String,
    flops: Int, bytesMoved: Int
  ) {
    self.kind = kind
    self.buffers = buffers
    self.tileCount = tileCount
    self.dependencies = dependencies
    self.name = name
    self.flops = flops
    self.bytesMoved = bytesMoved
  }

  /// nil for a host call.
  package var kernel: KernelID? {
    if case .kernel(let id) = kind { id } else { nil }
  }
}

/// What the executor does, in order.
package indirect enum Instruction: Hashable, Sendable {
  /// Runs a range of the steps, as their dependencies allow.
  case run(Range<Int>)
  case loop(LoopInstruction)
  /// Goes one of two ways, as a bool in a buffer says.
  case branch(BufferID, then: [Instruction], otherwise: [Instruction])
}

package struct LoopInstruction: Hashable, Sendable {
  /// A value that is carried: where it comes from, the buffers that take turns, where it ends.
  package struct Carried: Hashable, Sendable {
    package var initial: BufferID
    package var even: BufferID
    package var odd: BufferID
    package var result: BufferID
    package init(initial: BufferID, even: BufferID, odd: BufferID, result: BufferID) {
      self.initial = initial
      self.even = even
      self.odd = odd
      self.result = result
    }
  }
  /// The loop's number, by which buffer places name it.
  package var id: Int
  /// How many iterations, at most where there is a predicate; nil: while the predicate holds.
  package var count: Int?
  /// Slices are taken from the last to the first.
  package var reverse: Bool
  package var predicate: BufferID?
  package var condition: [Instruction]
  package var carried: [Carried]
  package var body: [Instruction]

  package init(
    id: Int, count: Int?, reverse: Bool, predicate: BufferID?, condition: [Instruction],
    carried: [Carried], body: [Instruction]
  ) {
    self.id = id
    self.count = count
    self.reverse = reverse
    self.predicate = predicate
    self.condition = condition
    self.carried = carried
    self.body = body
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

/// A parameter of a kernel or a host function: how many bytes of it are touched, and whether they are written.
package struct OperandAccess: Hashable, Sendable {
  package var byteCount: Int
  package var isWritten: Bool
  package init(_ byteCount: Int, isWritten: Bool) {
    self.byteCount = byteCount
    self.isWritten = isWritten
  }
}

/// A function of the process, which whoever loads the program gives by its name.
package struct HostFunctionEntry: Hashable, Sendable {
  package var name: String
  package var operands: [OperandAccess]
  package init(_ name: String, operands: [OperandAccess]) {
    self.name = name
    self.operands = operands
  }
}

package struct KernelEntry: Hashable, Sendable {
  package var name: String
  /// Byte offset of the entry point in the code.
  package var offset: Int
  /// The tiles that make up one call.
  package var tileCount: Int
  package var operands: [OperandAccess]

  /// Bytes of scratch that a worker needs.
  package var scratchBytes: Int

  package init(
    _ name: String, _ offset: Int, tileCount: Int, operands: [OperandAccess], scratchBytes: Int = 0
  ) {
    self.name = name
    self.offset = offset
    self.tileCount = tileCount
    self.operands = operands
    self.scratchBytes = scratchBytes
  }
}

/// A function of the code, and the bytes that it takes there.
package struct CodeSymbol: Hashable, Sendable {
  package var name: String
  package var range: Range<Int>

  package init(_ name: String, _ range: Range<Int>) {
    self.name = name
    self.range = range
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
  /// In the cache: the text that says what the program was made from, and with which options.
  package var key = ""
  /// The schedules that the kernels were lowered by, as `--emit schedule` prints them.
  package var schedules = ""
  package var kernels: [KernelEntry] = []
  package var hostFunctions: [HostFunctionEntry] = []
  /// The functions of the code, by their offsets.
  package var symbols: [CodeSymbol] = []
  package var buffers: [BufferSlot] = []
  package var steps: [Step] = []
  /// The order of the steps, with its loops and branches.
  package var instructions: [Instruction] = []
  package var loopCount = 0
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
