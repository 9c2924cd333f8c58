package import DLCTensor

extension Program {
  /// Checks everything that a loader relies on, for programs that come from files.
  /// - Throws: `.format` naming the first thing that does not fit.
  package func verify(codeBytes: Int) throws(DLCError) {
    func check(_ holds: Bool, _ what: @autoclosure () -> String) throws(DLCError) {
      if !holds { throw DLCError(.format, "the program is damaged: \(what())") }
    }
    let limit = TensorType.maximumElementCount
    for size in [arenaBytes, preparedBytes, scratchBytes, constantBytes] {
      try check(size >= 0 && size <= limit, "an area has an impossible size")
    }
    try check((0...1 << 20).contains(loopCount), "there are too many loops")
    var outputWriters = 0
    for (index, buffer) in buffers.enumerated() {
      try TensorType(buffer.type, sizes: buffer.shape).validate()
      let bytes = buffer.byteCount
      func inside(_ offset: Int, _ size: Int) -> Bool {
        offset >= 0 && offset % 64 == 0 && bytes <= size && offset <= size - bytes
      }
      switch buffer.place {
      case .input(let i): try check(inputs.indices.contains(i), "buffer \(index) names no input")
      case .output(let i):
        outputWriters += 1
        try check(outputs.indices.contains(i), "buffer \(index) names no output")
      case .state(let i), .nextState(let i):
        try check(states.indices.contains(i), "buffer \(index) names no state")
        try check(
          states[i].type == buffer.type && states[i].shape == buffer.shape,
          "buffer \(index) has not the type of its state")
        if case .nextState = buffer.place {
          try check(states[i].isUpdated, "buffer \(index) writes state that is not updated")
        }
      case .constant(let o):
        try check(inside(o, constantBytes), "buffer \(index) lies outside the constants")
      case .prepared(let o):
        try check(inside(o, preparedBytes), "buffer \(index) lies outside its area")
      case .arena(let o): try check(inside(o, arenaBytes), "buffer \(index) lies outside the arena")
      case .slice(let base, let loop):
        // Bases come before what is built on them, so that places do not go round in circles.
        try check(
          base.index >= 0 && base.index < index && (0..<loopCount).contains(loop),
          "buffer \(index) is a slice of nothing")
      case .alternating(let even, let odd, let loop, _):
        try check(
          even.index >= 0 && odd.index >= 0 && even.index < index && odd.index < index
            && (0..<loopCount).contains(loop) && self[even].byteCount == bytes
            && self[odd].byteCount == bytes, "buffer \(index) alternates between nothing")
      }
    }
    var counts = [Int?](repeating: nil, count: loopCount)
    var next = 0
    func follow(_ list: [Instruction], _ depth: Int) throws(DLCError) {
      try check(depth <= 32, "loops are nested too deep")
      for instruction in list {
        switch instruction {
        case .run(let range):
          try check(
            range.lowerBound == next && range.upperBound <= steps.count, "steps are out of order")
          for step in steps[range] {
            try check(
              step.dependencies.allSatisfy { $0.index >= range.lowerBound },
              "a step depends on one outside its part")
          }
          next = range.upperBound
        case .branch(let predicate, let then, let otherwise):
          try check(
            buffers.indices.contains(predicate.index) && self[predicate].type == .bool
              && self[predicate].byteCount == 1, "a branch has no predicate")
          try follow(then, depth + 1)
          try follow(otherwise, depth + 1)
        case .loop(let loop):
          try check(counts.indices.contains(loop.id), "a loop has no number")
          if let count = loop.count {
            try check(count >= 0 && count <= limit, "a loop has an impossible count")
            try check(counts[loop.id] == nil, "two loops have one number")
            counts[loop.id] = count
          }
          if loop.predicate != nil || loop.count == nil {
            guard let predicate = loop.predicate, buffers.indices.contains(predicate.index),
              self[predicate].type == .bool, self[predicate].byteCount == 1
            else { throw DLCError(.format, "the program is damaged: a loop has no predicate") }
          }
          for carried in loop.carried {
            let all = [carried.initial, carried.even, carried.odd, carried.result]
            try check(
              all.allSatisfy { buffers.indices.contains($0.index) }
                && Set(all.map { self[$0].byteCount }).count == 1, "a carried value has no buffers")
          }
          try follow(loop.condition, depth + 1)
          try follow(loop.body, depth + 1)
        }
      }
    }
    try follow(instructions, 0)
    try check(next == steps.count, "there are steps that nothing runs")
    for (index, buffer) in buffers.enumerated() {
      if case .slice(let base, let loop) = buffer.place {
        let room = self[base].byteCount
        let (needed, overflow) = (counts[loop] ?? Int.max)
          .multipliedReportingOverflow(by: buffer.byteCount)
        try check(
          buffer.byteCount == 0 || !overflow && needed <= room,
          "buffer \(index) is a slice of less than it needs")
      }
    }
    for (kind, ports) in [("input", inputs), ("output", outputs)] {
      for (position, port) in ports.enumerated() {
        try check(
          buffers.indices.contains(port.buffer.index), "\(kind) '\(port.name)' has no buffer")
        let place = self[port.buffer].place
        try check(
          kind == "input" ? place == .input(position) : place == .output(position),
          "\(kind) '\(port.name)' has another one's buffer")
      }
    }
    for entry in kernels {
      try check(
        entry.offset >= 0 && entry.offset < codeBytes,
        "kernel '\(entry.name)' lies outside the code")
    }
    for list in [steps, preparation] {
      for (index, step) in list.enumerated() {
        try check(kernels.indices.contains(step.kernel.index), "step \(index) names no kernel")
        try check(
          step.tileCount >= 0 && step.tileCount <= limit,
          "step \(index) has an impossible tile count")
        for buffer in step.buffers {
          try check(buffers.indices.contains(buffer.index), "step \(index) names no buffer")
        }
        for dependency in step.dependencies {
          try check(
            dependency.index >= 0 && dependency.index < index,
            "step \(index) depends on a later step")
        }
      }
    }
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
}
