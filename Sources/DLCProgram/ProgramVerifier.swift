package import DLCTensor

extension Program {
  /// Checks everything that a loader relies on, for programs that come from files.
  /// - Throws: `.format` naming the first thing that does not fit.
  package func verify(codeBytes: Int) throws(DLCError) {
    for size in [arenaBytes, preparedBytes, scratchBytes, constantBytes] {
      try Self.check(
        size >= 0 && size <= TensorType.maximumElementCount, "an area has an impossible size")
    }
    try Self.check((0...1 << 20).contains(loopCount), "there are too many loops")
    for index in buffers.indices { try verifyPlace(of: index) }
    var walk = InstructionWalk(program: self)
    try walk.follow(instructions, 0)
    try Self.check(walk.next == steps.count, "there are steps that nothing runs")
    try verifySlices(walk.counts)
    try verifyPorts()
    for entry in kernels {
      try Self.check(
        entry.offset >= 0 && entry.offset < codeBytes,
        "kernel '\(entry.name)' lies outside the code")
    }
    for list in [steps, preparation] { try verify(list) }
    for state in states {
      try TensorType(state.type, sizes: state.shape).validate()
    }
    let storage = StorageMap(self)
    if let excess = storage.excess {
      throw DLCError(
        .format, "the program is damaged: buffer \(excess.index) is part of too much else")
    }
    try verifyKernels(storage, codeBytes: codeBytes)
    try verifySharing(storage)
  }

  fileprivate static func check(_ holds: Bool, _ what: @autoclosure () -> String) throws(DLCError) {
    if !holds { throw DLCError(.format, "the program is damaged: \(what())") }
  }

  private func verifyPlace(of index: Int) throws(DLCError) {
    let buffer = buffers[index]
    try TensorType(buffer.type, sizes: buffer.shape).validate()
    let bytes = buffer.byteCount
    func check(_ holds: Bool, _ what: String) throws(DLCError) {
      try Self.check(holds, "buffer \(index) \(what)")
    }
    func inside(_ offset: Int, _ size: Int) -> Bool {
      offset >= 0 && offset % 64 == 0 && bytes <= size && offset <= size - bytes
    }
    switch buffer.place {
    case .input(let i): try check(inputs.indices.contains(i), "names no input")
    case .output(let i): try check(outputs.indices.contains(i), "names no output")
    case .state(let i), .nextState(let i):
      try check(states.indices.contains(i), "names no state")
      try check(
        states[i].type == buffer.type && states[i].shape == buffer.shape,
        "has not the type of its state")
      if case .nextState = buffer.place {
        try check(states[i].isUpdated, "writes state that is not updated")
      }
    case .constant(let o): try check(inside(o, constantBytes), "lies outside the constants")
    case .prepared(let o): try check(inside(o, preparedBytes), "lies outside its area")
    case .arena(let o): try check(inside(o, arenaBytes), "lies outside the arena")
    case .slice(let base, let loop):
      // Bases come before what is built on them, so that places do not go round in circles.
      try check(
        base.index >= 0 && base.index < index && (0..<loopCount).contains(loop),
        "is a slice of nothing")
    case .alternating(let even, let odd, let loop, _):
      try check(
        even.index >= 0 && odd.index >= 0 && even.index < index && odd.index < index
          && (0..<loopCount).contains(loop) && self[even].byteCount == bytes
          && self[odd].byteCount == bytes, "alternates between nothing")
    }
  }

  private func verifySlices(_ counts: [Int?]) throws(DLCError) {
    for (index, buffer) in buffers.enumerated() {
      guard case .slice(let base, let loop) = buffer.place else { continue }
      let room = self[base].byteCount
      let (needed, overflow) = (counts[loop] ?? Int.max)
        .multipliedReportingOverflow(by: buffer.byteCount)
      try Self.check(
        buffer.byteCount == 0 || !overflow && needed <= room,
        "buffer \(index) is a slice of less than it needs")
    }
  }

  private func verifyPorts() throws(DLCError) {
    for (kind, ports) in [("input", inputs), ("output", outputs)] {
      for (position, port) in ports.enumerated() {
        try Self.check(
          buffers.indices.contains(port.buffer.index), "\(kind) '\(port.name)' has no buffer")
        let place = self[port.buffer].place
        try Self.check(
          kind == "input" ? place == .input(position) : place == .output(position),
          "\(kind) '\(port.name)' has another one's buffer")
      }
    }
    // The memory of a port is as large as its own buffer.
    for (index, buffer) in buffers.enumerated() {
      let port: Port?
      switch buffer.place {
      case .input(let i): port = inputs[i]
      case .output(let i): port = outputs[i]
      default: port = nil
      }
      try Self.check(
        port.map { buffer.byteCount <= self[$0.buffer].byteCount } ?? true,
        "buffer \(index) is larger than the array that it lies in")
    }
  }

  private func verify(_ list: [Step]) throws(DLCError) {
    for (index, step) in list.enumerated() {
      switch step.kind {
      case .kernel(let id):
        try Self.check(kernels.indices.contains(id.index), "step \(index) names no kernel")
      case .hostCall(let id):
        try Self.check(
          hostFunctions.indices.contains(id.index), "step \(index) names no host function")
      }
      try Self.check(
        step.tileCount >= 0 && step.tileCount <= TensorType.maximumElementCount,
        "step \(index) has an impossible tile count")
      for buffer in step.buffers {
        try Self.check(buffers.indices.contains(buffer.index), "step \(index) names no buffer")
      }
      for dependency in step.dependencies {
        try Self.check(
          dependency.index >= 0 && dependency.index < index,
          "step \(index) depends on a later step")
      }
    }
  }
}

/// Goes through the instructions of a program in order.
private struct InstructionWalk {
  let program: Program
  /// How often each loop runs, where that is known.
  var counts: [Int?]
  /// The step that comes next.
  var next = 0

  init(program: Program) {
    self.program = program
    counts = [Int?](repeating: nil, count: program.loopCount)
  }

  mutating func follow(_ list: [Instruction], _ depth: Int) throws(DLCError) {
    try Program.check(depth <= 32, "loops are nested too deep")
    for instruction in list {
      switch instruction {
      case .run(let range):
        try Program.check(
          range.lowerBound == next && range.upperBound <= program.steps.count,
          "steps are out of order")
        for step in program.steps[range] {
          try Program.check(
            step.dependencies.allSatisfy { $0.index >= range.lowerBound },
            "a step depends on one outside its part")
        }
        next = range.upperBound
      case .branch(let predicate, let then, let otherwise):
        try Program.check(isPredicate(predicate), "a branch has no predicate")
        try follow(then, depth + 1)
        try follow(otherwise, depth + 1)
      case .loop(let loop):
        try note(loop)
        try follow(loop.condition, depth + 1)
        try follow(loop.body, depth + 1)
      }
    }
  }

  private func isPredicate(_ id: BufferID) -> Bool {
    program.buffers.indices.contains(id.index) && program[id].type == .bool
      && program[id].byteCount == 1
  }

  private mutating func note(_ loop: LoopInstruction) throws(DLCError) {
    try Program.check(counts.indices.contains(loop.id), "a loop has no number")
    if let count = loop.count {
      try Program.check(
        count >= 0 && count <= TensorType.maximumElementCount, "a loop has an impossible count")
      try Program.check(counts[loop.id] == nil, "two loops have one number")
      counts[loop.id] = count
    }
    if loop.predicate != nil || loop.count == nil {
      try Program.check(loop.predicate.map(isPredicate) ?? false, "a loop has no predicate")
    }
    for carried in loop.carried {
      let all = [carried.initial, carried.even, carried.odd, carried.result]
      try Program.check(
        all.allSatisfy { program.buffers.indices.contains($0.index) }
          && Set(all.map { program[$0].byteCount }).count == 1, "a carried value has no buffers")
    }
  }
}
