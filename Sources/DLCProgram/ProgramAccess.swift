/// What the buffers of a program stand for: the storage that each one names in the end.
///
/// A slice is part of its stack and a value that takes turns lies in one of two buffers, either of
/// which can be a slice or take turns itself. Whoever asks what an instruction touches asks here, so
/// that no part of the compiler leaves out what a buffer is a part of.
package struct StorageMap: Sendable {
  /// One of the buffers that hold storage of their own, and in which turns it is the one.
  package struct Part: Hashable, Sendable {
    package var root: BufferID
    package var turns: [Turn]

    /// Whether two uses of one root can be of the same bytes: not when one is the present and the
    /// other the next value of the same loop.
    package func mayBe(_ other: Part) -> Bool {
      root == other.root
        && !turns.contains { turn in
          other.turns.contains { $0.loop == turn.loop && $0.next != turn.next }
        }
    }
  }

  package struct Turn: Hashable, Sendable {
    package var loop: Int
    package var next: Bool
  }

  /// Places that are nested deeper, or stand for more roots, belong to no program that dlc makes.
  package static let depthLimit = 96
  package static let partLimit = 128

  private var parts: [[Part]] = []
  private var movements: [[Int]] = []
  private var depths: [Int] = []
  /// The first buffer whose place is nested too deep or fans out too far.
  package private(set) var excess: BufferID?

  package init() {}

  package init(_ program: Program) { extend(program.buffers) }

  /// Learns about buffers that came since the last call; places name earlier buffers only.
  package mutating func extend(_ buffers: [BufferSlot]) {
    for index in parts.count..<max(parts.count, buffers.count) {
      var own: [Part]
      var loops: [Int]
      var depth = 0
      switch buffers[index].place {
      case .slice(let base, let loop):
        (own, loops) = (parts[base.index], movements[base.index] + [loop])
        depth = depths[base.index] + 1
      case .alternating(let even, let odd, let loop, let next):
        own = (parts[even.index] + parts[odd.index]).map { part in
          Part(root: part.root, turns: part.turns + [Turn(loop: loop, next: next)])
        }
        loops = movements[even.index] + movements[odd.index] + [loop]
        depth = max(depths[even.index], depths[odd.index]) + 1
      default:
        own = [Part(root: BufferID(index), turns: [])]
        loops = []
      }
      if own.count > 1 { own = Array(Set(own)).sorted { $0.root.index < $1.root.index } }
      if own.count > Self.partLimit || depth > Self.depthLimit {
        excess = excess ?? BufferID(index)
        // What is built on it is refused with it: it need not be followed.
        (own, loops) = ([Part(root: BufferID(index), turns: [])], [])
      }
      parts.append(own)
      movements.append(loops.count > 1 ? Array(Set(loops)).sorted() : loops)
      depths.append(depth)
    }
  }

  package func parts(of id: BufferID) -> [Part] { parts[id.index] }

  /// The loops in whose iterations a buffer moves.
  package func loops(of id: BufferID) -> [Int] { movements[id.index] }
}

/// What an instruction does with a buffer.
package struct BufferUse: Hashable, Sendable {
  package var buffer: BufferID
  package var isWrite: Bool
  package init(_ buffer: BufferID, isWrite: Bool) {
    self.buffer = buffer
    self.isWrite = isWrite
  }
}

extension Program {
  /// What a step does with its buffers, in their order.
  package func operands(of step: Step) -> [OperandAccess] {
    switch step.kind {
    case .kernel(let id): kernels[id.index].operands
    case .hostCall(let id): hostFunctions[id.index].operands
    }
  }

  /// The buffers that a step reads and writes.
  package func uses(_ step: Step) -> [BufferUse] {
    zip(step.buffers, operands(of: step)).map {
      BufferUse($0, isWrite: $1.isWritten)
    }
  }
}

extension LoopInstruction {
  /// What happens once before the first iteration: initial values are copied.
  package var usesBefore: [BufferUse] {
    carried.flatMap { [BufferUse($0.initial, isWrite: false), BufferUse($0.even, isWrite: true)] }
  }

  /// What decides whether there is another iteration.
  package var usesBetween: [BufferUse] {
    predicate.map { [BufferUse($0, isWrite: false)] } ?? []
  }

  /// What happens once after the last iteration: the values of the last turn are copied.
  package var usesAfter: [BufferUse] {
    carried.flatMap {
      [
        BufferUse($0.even, isWrite: false), BufferUse($0.odd, isWrite: false),
        BufferUse($0.result, isWrite: true),
      ]
    }
  }
}

extension Program {
  /// The roots that an instruction and everything inside it reads and writes.
  package func roots(_ instruction: Instruction, _ storage: StorageMap) -> (
    reads: Set<BufferID>, writes: Set<BufferID>
  ) {
    var (reads, writes) = (Set<BufferID>(), Set<BufferID>())
    forEachUse(in: [instruction]) { use in
      for part in storage.parts(of: use.buffer) {
        if use.isWrite { writes.insert(part.root) } else { reads.insert(part.root) }
      }
    }
    return (reads, writes)
  }

  /// Every use that a list of instructions makes of a buffer, in order.
  package func forEachUse(in list: [Instruction], _ body: (BufferUse) -> Void) {
    for instruction in list {
      switch instruction {
      case .run(let range): for step in steps[range] { uses(step).forEach(body) }
      case .branch(let predicate, let then, let otherwise):
        body(BufferUse(predicate, isWrite: false))
        forEachUse(in: then, body)
        forEachUse(in: otherwise, body)
      case .loop(let loop):
        loop.usesBefore.forEach(body)
        forEachUse(in: loop.condition, body)
        loop.usesBetween.forEach(body)
        forEachUse(in: loop.body, body)
        loop.usesAfter.forEach(body)
      }
    }
  }
}
