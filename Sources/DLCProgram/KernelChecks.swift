import DLCTensor

extension Program {
  /// Checks what steps hand to what they call: that kernels are functions of the code, that every
  /// operand is as large as it is taken to be and lies where it may be used and written, and that
  /// it moves only with loops that are under way.
  ///
  /// The rest of the program must have been checked before: indices, places and the nesting of loops.
  /// - Throws: `.format` naming the first thing that does not fit.
  func verifyKernels(_ storage: StorageMap, codeBytes: Int) throws(DLCError) {
    try verifyEntries(codeBytes: codeBytes)
    for (index, buffer) in buffers.enumerated() {
      if case .alternating(let even, let odd, let loop, _) = buffer.place,
        storage.loops(of: even).contains(loop) || storage.loops(of: odd).contains(loop)
      {
        throw damage("buffer \(index) takes turns between buffers that take them in the same loop")
      }
    }
    let checker = OperandChecker(self, storage)
    for (index, step) in preparation.enumerated() {
      try checker.check(step, "preparing step \(index)", loops: [], isPreparation: true)
    }
    var numbers: Set<Int> = []
    try checker.check(instructions, loops: [], &numbers)
    var (flops, bytes) = (0, 0)
    for step in steps + preparation {
      let sums = [
        flops.addingReportingOverflow(step.flops), bytes.addingReportingOverflow(step.bytesMoved),
      ]
      guard step.flops >= 0, step.bytesMoved >= 0, sums.allSatisfy({ !$0.overflow }) else {
        throw damage("the work of a step is impossible")
      }
      (flops, bytes) = (sums[0].partialValue, sums[1].partialValue)
    }
  }

  private func verifyEntries(codeBytes: Int) throws(DLCError) {
    var starts: [String: Int] = [:]
    var end = 0
    for symbol in symbols {
      guard symbol.range.lowerBound >= end, symbol.range.upperBound <= codeBytes,
        !symbol.range.isEmpty
      else { throw damage("function '\(symbol.name.prefix(64))' does not lie in the code") }
      guard starts.updateValue(symbol.range.lowerBound, forKey: symbol.name) == nil else {
        throw damage("function '\(symbol.name.prefix(64))' occurs twice")
      }
      end = symbol.range.upperBound
    }
    for kernel in kernels {
      guard starts[kernel.name] == kernel.offset else {
        throw damage("kernel '\(kernel.name.prefix(64))' is no function of the code")
      }
      guard (0...TensorType.maximumElementCount).contains(kernel.tileCount),
        (0...scratchBytes).contains(kernel.scratchBytes),
        kernel.operands.allSatisfy({ $0.byteCount >= 0 })
      else { throw damage("kernel '\(kernel.name.prefix(64))' has impossible sizes") }
    }
    var names: Set<String> = []
    for function in hostFunctions {
      guard !function.name.isEmpty, names.insert(function.name).inserted else {
        throw damage("host function '\(function.name.prefix(64))' has no name of its own")
      }
      guard function.operands.allSatisfy({ $0.byteCount >= 0 }) else {
        throw damage("host function '\(function.name.prefix(64))' has impossible sizes")
      }
    }
  }

  fileprivate func damage(_ what: String) -> DLCError {
    DLCError(.format, "the program is damaged: \(what)")
  }
}

private struct OperandChecker {
  let program: Program
  let storage: StorageMap
  /// By buffer: whether steps may write it.
  let isWritable: [Bool]

  init(_ program: Program, _ storage: StorageMap) {
    self.program = program
    self.storage = storage
    // What has a next value is not written where it lies: it may be mapped from a file.
    var hasNext = program.states.map { _ in false }
    for buffer in program.buffers {
      if case .nextState(let i) = buffer.place { hasNext[i] = true }
    }
    var isWritable: [Bool] = []
    for buffer in program.buffers {
      switch buffer.place {
      case .output, .nextState, .arena: isWritable.append(true)
      case .state(let i): isWritable.append(program.states[i].isUpdated && !hasNext[i])
      case .input, .constant, .prepared: isWritable.append(false)
      case .slice(let base, _): isWritable.append(isWritable[base.index])
      case .alternating(let even, let odd, _, _):
        isWritable.append(isWritable[even.index] && isWritable[odd.index])
      }
    }
    self.isWritable = isWritable
  }

  func check(_ step: Step, _ name: String, loops: Set<Int>, isPreparation: Bool) throws(DLCError) {
    let operands = program.operands(of: step)
    let (callee, tiles) =
      step.kernel.map { ("kernel", program.kernels[$0.index].tileCount) } ?? ("host function", 1)
    guard step.buffers.count == operands.count else {
      throw program.damage(
        "\(name) has \(counted(step.buffers.count, "operand")), its \(callee) takes \(operands.count)"
      )
    }
    guard step.tileCount == tiles else {
      throw program.damage(
        "\(name) has \(counted(step.tileCount, "tile")), its \(callee) has \(tiles)")
    }
    for (position, (id, operand)) in zip(step.buffers, operands).enumerated() {
      let buffer = program[id]
      guard buffer.byteCount >= operand.byteCount else {
        throw program.damage(
          "operand \(position) of \(name) has \(buffer.byteCount) bytes, its \(callee) touches \(operand.byteCount)"
        )
      }
      let mayUse: Bool
      if isPreparation {
        // There is no run yet: no arrays of a caller, no arena, no loops.
        mayUse =
          switch buffer.place {
          case .prepared: true
          case .constant, .state: !operand.isWritten
          default: false
          }
      } else {
        mayUse = !operand.isWritten || isWritable[id.index]
      }
      guard mayUse else {
        throw program.damage(
          "operand \(position) of \(name) is \(buffer.place.text), which it may not \(operand.isWritten ? "write" : "read")"
        )
      }
      try check(id, moves: loops, "operand \(position) of \(name)")
    }
  }

  private func check(_ id: BufferID, moves loops: Set<Int>, _ what: String) throws(DLCError) {
    guard storage.loops(of: id).allSatisfy(loops.contains) else {
      throw program.damage("\(what) moves with a loop that is not under way")
    }
  }

  func check(_ list: [Instruction], loops: Set<Int>, _ numbers: inout Set<Int>) throws(DLCError) {
    for instruction in list {
      switch instruction {
      case .run(let range):
        for index in range {
          try check(program.steps[index], "step \(index)", loops: loops, isPreparation: false)
        }
      case .branch(let predicate, let then, let otherwise):
        try check(predicate, moves: loops, "a predicate")
        try check(then, loops: loops, &numbers)
        try check(otherwise, loops: loops, &numbers)
      case .loop(let loop):
        guard numbers.insert(loop.id).inserted else {
          throw program.damage("two loops have one number")
        }
        for carried in loop.carried {
          for id in [carried.initial, carried.even, carried.odd, carried.result] {
            try check(id, moves: loops, "a carried value")
          }
          for id in [carried.even, carried.odd, carried.result] where !isWritable[id.index] {
            throw program.damage("a carried value is \(program[id].place.text)")
          }
        }
        let inner = loops.union([loop.id])
        if let predicate = loop.predicate { try check(predicate, moves: inner, "a predicate") }
        try check(loop.condition, loops: inner, &numbers)
        try check(loop.body, loops: inner, &numbers)
      }
    }
  }
}
