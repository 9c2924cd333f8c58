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
  }
}
